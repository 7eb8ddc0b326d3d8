"""The whole way from icons to files that draw, in small: few pictures, few steps, tiny networks."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image, ImageDraw

MODEL = Path(__file__).parents[1]
sys.path.insert(0, str(MODEL))

from diffusers import DiffusionPipeline

from evaluate import dominant_colour, nearest_things, references
from pictures import COLOURS, draw_shape, recolour

NAMES = [["apple"], ["sun", "sunshine"], ["key"], ["car"]]


def run(script: str, *args: object) -> str:
    """Output of one of the scripts, as a reader would run it."""
    command = [sys.executable, str(MODEL / script), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"OMP_NUM_THREADS": "2"})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def icons(tmp_path_factory) -> Path:
    """Four icons as render.ts writes them, of simple shapes."""
    folder = tmp_path_factory.mktemp("icons")
    shapes = ("circle", "star", "cross", "rectangle")
    drawn = []
    for shape, colour in zip(shapes, ("red", "yellow", "gray", "blue"), strict=True):
        image = Image.new("RGBA", (64, 64))
        draw_shape(ImageDraw.Draw(image), shape, (*COLOURS[colour], 255), 32, 32, 26, (0, 0, 0, 0))
        drawn.append(np.asarray(image))
    np.stack(drawn).tofile(folder / "icons.rgba")
    (folder / "icons.json").write_text(json.dumps([{"names": names} for names in NAMES]))
    return folder


@pytest.fixture(scope="session")
def trained(icons, tmp_path_factory) -> dict[str, Path]:
    """Data, checkpoints and exports of a model that has seen next to nothing."""
    folder = tmp_path_factory.mktemp("model")
    paths = {name: folder / name for name in ("data", "run", "onnx", "diffusers")}
    run("prepare.py", "--icons", icons, "--data", paths["data"], "--shapes", 24)
    both = ("--data", paths["data"], "--run", paths["run"])
    run("train_decoder.py", *both, "--samples", 16, "--batch", 8, "--widths", 8, 8, 8, 8)
    run("train.py", *both, "--samples", 32, "--batch", 8, "--widths", 16, 16)
    run("export.py", *both, "--out", paths["onnx"], "--name", "smoke")
    run("unpack.py", "--weights", paths["onnx"], "--out", paths["diffusers"])
    return paths


def test_training_goes_on_from_its_checkpoint(trained):
    said = run(
        "train.py",
        "--data",
        trained["data"],
        "--run",
        trained["run"],
        "--samples",
        48,
        "--batch",
        8,
        "--widths",
        16,
        16,
    )
    assert "goes on from 32 samples" in said
    assert "done at 48 samples" in said


def test_the_folder_for_diffusers_draws_a_picture(trained):
    pipeline = DiffusionPipeline.from_pretrained(trained["diffusers"], local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a red apple", num_inference_steps=2, generator=torch.Generator().manual_seed(1)).images[0]
    assert image.size == (64, 64)


def test_onnx_and_torch_agree(trained):
    pipeline = DiffusionPipeline.from_pretrained(trained["diffusers"], local_files_only=True)

    def onnx(part: str, **inputs: torch.Tensor) -> torch.Tensor:
        session = onnxruntime.InferenceSession(trained["onnx"] / f"{part}.onnx")
        return torch.from_numpy(session.run(None, {name: value.numpy() for name, value in inputs.items()})[0])

    torch.manual_seed(0)
    ids = pipeline.tokenizer(["a red apple", ""], padding="max_length", return_tensors="pt").input_ids
    latents, time = torch.randn(2, 16, 8, 8), torch.tensor([999.0, 120.0])
    with torch.no_grad():
        words = pipeline.text_encoder(ids)[0]
        velocity = pipeline.unet(latents, time, words).sample
        picture = pipeline.vae.decode(latents).sample
    # Both have the rounded weights; what is left is the order of sums.
    torch.testing.assert_close(onnx("text_encoder", tokens=ids), words, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(
        onnx("denoiser", latents=latents, time=time, words=words), velocity, atol=1e-3, rtol=1e-3
    )
    torch.testing.assert_close(onnx("decoder", latents=latents), picture, atol=1e-3, rtol=1e-3)


def test_the_weights_for_the_server_have_8_bits(trained):
    weights = sum(path.stat().st_size for path in trained["diffusers"].rglob("*.safetensors"))
    # The folder for diffusers also holds an encoder, and four bytes for each number.
    networks = sum(path.stat().st_size for path in trained["onnx"].glob("*.onnx"))
    assert networks < weights / 2


@pytest.mark.parametrize("colour", [name for name in COLOURS if name != "white"])
def test_a_recoloured_icon_is_dominated_by_its_new_colour(icons, colour):
    pixels = np.fromfile(icons / "icons.rgba", np.uint8).reshape(-1, 64, 64, 4)
    picture = recolour(pixels[0], colour)
    on_white = np.where(picture[..., 3:] > 0, picture[..., :3], 255).astype(np.uint8)
    assert dominant_colour(on_white) == colour


def test_an_icon_is_nearest_to_itself_in_any_colour(icons):
    pixels = np.fromfile(icons / "icons.rgba", np.uint8).reshape(-1, 64, 64, 4)
    labels, known = references(icons)
    for names, icon in zip(NAMES, pixels, strict=True):
        picture = recolour(icon, "green")
        on_white = np.where(picture[..., 3:] > 0, picture[..., :3], 255).astype(np.uint8)
        assert names[0] in nearest_things(on_white, labels, known)[:2]
