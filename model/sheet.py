"""The contact sheet: 60 fixed prompts, three seeds each."""

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image, ImageDraw

PROMPTS = json.loads(Path(__file__).with_name("prompts.json").read_text())
SEEDS = (1, 2, 3)
STEPS = 20
GUIDANCE = 4.0


def draw(pipeline: DiffusionPipeline, prompts: list[str], seed: int, *, steps: int, guidance: float) -> np.ndarray:
    """[n, 64, 64, 3] of 0 to 255; each prompt with noise of its own, so that a prompt looks the same in any list."""
    noise = [torch.Generator().manual_seed(seed) for _ in prompts]
    images = pipeline(prompts, num_inference_steps=steps, guidance_scale=guidance, generator=noise).images
    return np.stack([np.asarray(image) for image in images])


def make_sheet(pictures: np.ndarray, prompts: list[str], columns: int = 6) -> Image.Image:
    """`pictures`: [prompts, seeds, 64, 64, 3], a prompt above its pictures."""
    scale, gap, text = 1, 4, 14
    count, seeds, side = pictures.shape[:3]
    width, height = seeds * (side * scale + gap) + 12, side * scale + text + 6
    sheet = Image.new("RGB", (columns * width, -(-count // columns) * height), "white")
    canvas = ImageDraw.Draw(sheet)
    for i, prompt in enumerate(prompts):
        x, y = i % columns * width, i // columns * height
        canvas.text((x + 2, y + 1), prompt, fill="black")
        for k in range(seeds):
            sheet.paste(Image.fromarray(pictures[i, k]), (x + k * (side * scale + gap), y + text))
    return sheet


def draw_all(pipeline: DiffusionPipeline, *, steps: int = STEPS, guidance: float = GUIDANCE) -> np.ndarray:
    """[prompts, seeds, 64, 64, 3]: every prompt of prompts.json with every seed."""
    pipeline.set_progress_bar_config(disable=True)
    texts = [prompt["prompt"] for prompt in PROMPTS]
    return np.stack([draw(pipeline, texts, seed, steps=steps, guidance=guidance) for seed in SEEDS], 1)
