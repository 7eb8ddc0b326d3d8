"""
Makes the model of the server's tests: tiny networks of random weights, and a picture that diffusers drew with them, for
the server to draw the same.
"""

import argparse
import base64
import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline

from checkpoints import Trained
from export import export_onnx
from network import make_autoencoder, make_denoiser, make_text_encoder
from pictures import COLOURS, SHAPES, with_article
from unpack import unpack
from words import make_tokenizer

CHANNELS = 4
TEXT_WIDTH = 32
REQUEST = {
    "prompt": "A red CIRCLE, zebra-like on 2 squares",
    "negative_prompt": "blue star",
    "guidance_scale": 3,
    "num_inference_steps": 7,
    "seed": 4294967295,
}


def seeded_noise(seed: int, length: int) -> np.ndarray:
    """The server's noise: SHAKE256 of the seed's digits, by Box and Muller's transform."""
    pairs = length // 2
    digest = hashlib.shake_256(str(seed).encode()).digest(pairs * 8)
    uniform = np.frombuffer(digest, "<u4").astype(np.float64).reshape(-1, 2)
    radius = np.sqrt(-2 * np.log((uniform[:, 0] + 1) / 2**32))
    angle = 2 * np.pi * uniform[:, 1] / 2**32
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).ravel().astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.manual_seed(0)
    captions = [f"{with_article(colour)} {shape} on blue" for colour in COLOURS for shape in SHAPES]
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = make_tokenizer(captions, Path(folder) / "tokenizer")
        autoencoder = make_autoencoder(CHANNELS, (8, 8, 8, 8))
        with torch.no_grad():
            # Random weights make faint pictures, of which any two would be alike.
            autoencoder.decoder.conv_out.weight.mul_(2)
        trained = Trained(
            tokenizer=tokenizer,
            text_encoder=make_text_encoder(tokenizer, TEXT_WIDTH).eval(),
            denoiser=make_denoiser(CHANNELS, (16, 16), TEXT_WIDTH).eval(),
            autoencoder=autoencoder.eval(),
            samples=0,
        )
        with torch.no_grad():
            for network in (trained.text_encoder, trained.denoiser, trained.autoencoder):
                for parameter in network.parameters():
                    # Fresh norms are all alike, and torch writes what is alike once, under one of its names.
                    parameter.add_(0.02 * torch.randn_like(parameter))
        export_onnx(trained, args.out, name="test-model")
        unpack(args.out, Path(folder) / "pipeline")
        pipeline = DiffusionPipeline.from_pretrained(Path(folder) / "pipeline", local_files_only=True)
    noise = torch.from_numpy(seeded_noise(REQUEST["seed"], CHANNELS * 64).reshape(1, CHANNELS, 8, 8))
    asked = {name: value for name, value in REQUEST.items() if name != "seed"}
    image = pipeline(**asked, latents=noise).images[0]
    tokens = pipeline.tokenizer(REQUEST["prompt"], padding="max_length", truncation=True).input_ids
    reference = {
        "request": REQUEST,
        "tokens": tokens,
        "noise": [round(float(x), 6) for x in noise.flatten()[:8]],
        "pixels": base64.b64encode(np.asarray(image).tobytes()).decode(),
    }
    (args.out / "reference.json").write_text(json.dumps(reference) + "\n")


if __name__ == "__main__":
    main()
