"""
Draws the 60 prompts with three seeds each, writes them as one sheet, and measures two things: whether the colour that a
prompt names dominates, and whether the thing that it names is among the five icons that look most like the picture.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from diffusers import DiffusionPipeline
from PIL import Image, ImageDraw

from pictures import COLOURS, SHAPES, SIDE, WHITE, draw_shape, flatten, load_icons
from sheet import GUIDANCE, PROMPTS, SEEDS, STEPS, draw_all, make_sheet

NEAREST = 5


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB of 0 to 255 -> CIELAB (D65), in which distances are about as people see them."""
    linear = rgb.astype(np.float64) / 255
    linear = np.where(linear > 0.04045, ((linear + 0.055) / 1.055) ** 2.4, linear / 12.92)
    matrix = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = linear @ matrix.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def foreground(picture: np.ndarray) -> np.ndarray:
    """Which pixels are not the background, whose colour is the corners' one; [64, 64], True or False."""
    lab = to_lab(picture)
    corners = np.concatenate([lab[:3, :3], lab[:3, -3:], lab[-3:, :3], lab[-3:, -3:]]).reshape(-1, 3)
    return np.linalg.norm(lab - np.median(corners, 0), axis=-1) > 20


def dominant_colour(picture: np.ndarray) -> str:
    """Of the eleven colours, the one that the most pixels of the foreground are nearest to in CIELAB."""
    names = list(COLOURS)
    palette = to_lab(np.array([COLOURS[name] for name in names]))
    pixels = to_lab(picture[foreground(picture)])
    if not len(pixels):
        return "white"
    nearest = np.linalg.norm(pixels[:, None] - palette, axis=-1).argmin(1)
    return names[np.bincount(nearest, minlength=len(names)).argmax()]


def shrink(plane: np.ndarray, side: int) -> np.ndarray:
    """Means of square cells, as one row of length 1 in all."""
    cells = plane.reshape(side, SIDE // side, side, SIDE // side).mean((1, 3)).ravel()
    return cells / max(np.linalg.norm(cells), 1e-9)


def features(picture: np.ndarray) -> np.ndarray:
    """
    What a picture looks like, whatever its colours: its foreground in 16 x 16 cells, and its edges of lightness in
    four directions in 8 x 8 cells each. Both halves have length 1.
    """
    lightness = to_lab(picture)[..., 0]
    down, right = np.gradient(lightness)
    strength = np.hypot(down, right)
    direction = ((np.arctan2(down, right) % np.pi) / (np.pi / 4)).astype(int) % 4
    edges = np.concatenate([shrink(np.where(direction == k, strength, 0), 8) for k in range(4)]) / 2
    return np.concatenate([shrink(foreground(picture).astype(float), 16), edges])


def references(icons_folder: Path) -> tuple[list[str], np.ndarray]:
    """The plainest name of every icon and shape (twice: as drawn and mirrored), and their features."""
    names, icons = load_icons(icons_folder)
    labels = [words[0] for words in names]
    drawn = [flatten(icon) for icon in icons]
    for shape in SHAPES:
        image = Image.new("RGB", (SIDE * 4, SIDE * 4), WHITE)
        draw_shape(ImageDraw.Draw(image), shape, COLOURS["blue"], SIDE * 2, SIDE * 2, SIDE * 4 * 0.42, WHITE)
        drawn.append(np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX)))
        labels.append(shape)
    drawn = [*drawn, *(picture[:, ::-1] for picture in drawn)]
    return [*labels, *labels], np.stack([features(picture) for picture in drawn])


def nearest_things(picture: np.ndarray, labels: list[str], known: np.ndarray) -> list[str]:
    """The things whose features are nearest (Euclid), each once."""
    order = np.linalg.norm(known - features(picture), axis=1).argsort()
    return list(dict.fromkeys(labels[i] for i in order[: 4 * NEAREST]))[:NEAREST]


def measure(pictures: np.ndarray, icons_folder: Path) -> dict:
    """`pictures`: [prompts, seeds, 64, 64, 3]. Returns both shares, and what was seen in each picture."""
    labels, known = references(icons_folder)
    rows = []
    for prompt, row in zip(PROMPTS, pictures, strict=True):
        for seed, picture in zip(SEEDS, row, strict=True):
            things = nearest_things(picture, labels, known)
            result = {"prompt": prompt["prompt"], "seed": seed, "nearest": things, "hit": prompt["thing"] in things}
            if "colour" in prompt:
                result["dominant"] = dominant_colour(picture)
                result["right"] = result["dominant"] == prompt["colour"]
            rows.append(result)
    coloured = [row["right"] for row in rows if "right" in row]
    return {
        "colour": {"right": sum(coloured), "of": len(coloured)},
        "thing": {"right": sum(row["hit"] for row in rows), "of": len(rows)},
        "pictures": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pipeline", type=Path, required=True, help="folder that unpack.py wrote")
    parser.add_argument("--icons", type=Path, required=True, help="what render.ts wrote")
    parser.add_argument("--sheet", type=Path, required=True, help="PNG to write")
    parser.add_argument("--figures", type=Path, required=True, help="JSON to write")
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--steps", type=int, default=STEPS)
    args = parser.parse_args()
    pipeline = DiffusionPipeline.from_pretrained(args.pipeline, local_files_only=True)
    pictures = draw_all(pipeline, steps=args.steps, guidance=args.guidance)
    make_sheet(pictures, [prompt["prompt"] for prompt in PROMPTS]).save(args.sheet, optimize=True)
    figures = measure(pictures, args.icons)
    args.figures.write_text(json.dumps(figures, indent=1) + "\n")
    for name in ("colour", "thing"):
        right, of = figures[name]["right"], figures[name]["of"]
        print(f"{name}: {right} of {of} pictures ({100 * right / max(of, 1):.0f} %)")


if __name__ == "__main__":
    main()
