"""Makes the data set: icons -> pictures, captions as tokens, latents. See README.md."""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from latents import fit_latents
from pictures import load_icons, make_pictures
from words import encode, make_tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--icons", type=Path, required=True, help="what render.ts wrote")
    parser.add_argument("--data", type=Path, required=True, help="folder to write")
    parser.add_argument("--shapes", type=int, default=1500, help="pictures of plain shapes")
    parser.add_argument("--limit", type=int, help="only so many icons (for tests)")
    args = parser.parse_args()
    args.data.mkdir(parents=True, exist_ok=True)

    names, icons = load_icons(args.icons)
    names, icons = names[: args.limit], icons[: args.limit]
    pixels, captions, weights, origins = make_pictures(names, icons, shapes=args.shapes)
    flat = [text for texts in captions for text in texts]
    tokenizer = make_tokenizer(flat, args.data / "tokenizer")
    tokens = np.array(encode(tokenizer, flat), np.int16).reshape(len(pixels), -1, tokenizer.model_max_length)
    latents, space = fit_latents(pixels, origins)
    np.savez(args.data / "space.npz", **space)
    np.savez(args.data / "data.npz", pixels=pixels, tokens=tokens, weights=weights, origins=origins, latents=latents)
    (args.data / "captions.json").write_text(json.dumps([texts[0] for texts in captions]))
    (args.data / "names.json").write_text(json.dumps(names))
    chosen = np.random.default_rng(0).permutation(len(pixels))[:192]
    rows = [np.concatenate(pixels[chosen[i : i + 24]], 1) for i in range(0, len(chosen) // 24 * 24, 24)]
    Image.fromarray(np.concatenate(rows)).save(args.data / "sheet.png")
    print(f"{len(pixels)} pictures of {len(names)} icons, {len(tokenizer)} tokens, latents {latents.shape}")


if __name__ == "__main__":
    main()
