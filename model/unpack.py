"""Makes a folder that `DiffusionPipeline.from_pretrained` loads of the files that export.py wrote for the server."""

import argparse
import json
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from transformers import CLIPTokenizer

from network import make_autoencoder, make_denoiser, make_text_encoder, save_pipeline


def read_parameters(path: Path, prefix: str) -> dict[str, torch.Tensor]:
    """The parameters of an ONNX file by their names in torch, those of 8 bits widened."""
    stored = {
        tensor.name.removeprefix(prefix): torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in onnx.load(path).graph.initializer
        if tensor.name.startswith(prefix)
    }
    scaled = {name.removesuffix(".scale"): scale for name, scale in stored.items() if name.endswith(".scale")}
    plain = {name: values for name, values in stored.items() if not name.endswith((".scale", ".int8"))}
    return plain | {name: stored[f"{name}.int8"] * scale for name, scale in scaled.items()}


def unpack(weights: Path, folder: Path) -> None:
    """Writes the folder. Its autoencoder can decode only: nothing ever trained an encoder."""
    about = json.loads((weights / "model.json").read_text())
    words = json.loads((weights / "tokenizer.json").read_text())["model"]
    tokenizer = CLIPTokenizer(
        vocab=words["vocab"],
        merges=[tuple(pair) for pair in words["merges"]],
        model_max_length=about["positions"],
    )
    torch.manual_seed(0)
    text_encoder = make_text_encoder(tokenizer, about["textWidth"])
    denoiser = make_denoiser(about["channels"], tuple(about["widths"]), about["textWidth"])
    autoencoder = make_autoencoder(about["channels"], tuple(about["decoderWidths"]))
    text_encoder.load_state_dict(read_parameters(weights / "text_encoder.onnx", "text_encoder."))
    denoiser.load_state_dict(read_parameters(weights / "denoiser.onnx", "unet."))
    decoding = read_parameters(weights / "decoder.onnx", "vae.")
    left = autoencoder.load_state_dict(decoding, strict=False)
    missing = [name for name in left.missing_keys if not name.startswith(("encoder.", "quant_conv."))]
    if missing or left.unexpected_keys:
        raise ValueError(f"{weights}: not the decoder of this model: {missing} {left.unexpected_keys}")
    save_pipeline(folder, tokenizer=tokenizer, text_encoder=text_encoder, denoiser=denoiser, autoencoder=autoencoder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--weights", type=Path, default=Path(__file__).with_name("weights"), help="what export.py wrote"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    unpack(args.weights, args.out)


if __name__ == "__main__":
    main()
