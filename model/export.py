"""
Writes what has been trained so far as files for the server: three networks in ONNX, their weights as whole numbers of
8 bits, a tokenizer, and model.json. unpack.py makes a folder for diffusers of them.
"""

import argparse
import io
import json
import tempfile
import warnings
from pathlib import Path

import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from checkpoints import Trained, load_trained
from network import make_scheduler
from sheet import GUIDANCE, STEPS
from words import POSITIONS

OPSET = 18
ROUNDED_FROM = 1024
"""Tensors of fewer numbers (norms, biases) stay as they are."""


class TextEncoder(nn.Module):
    """Tokens [n, 16] -> their hidden states [n, 16, 128]."""

    def __init__(self, trained: Trained):
        super().__init__()
        self.text_encoder = trained.text_encoder

    def forward(self, tokens):
        return self.text_encoder(tokens)[0]


class Denoiser(nn.Module):
    """Noisy latents [n, c, 8, 8], time [n] and the words' hidden states -> v."""

    def __init__(self, trained: Trained):
        super().__init__()
        self.unet = trained.denoiser

    def forward(self, latents, time, words):
        return self.unet(latents, time, words, return_dict=False)[0]


class Decoder(nn.Module):
    """Latents [n, c, 8, 8] -> pictures [n, 3, 64, 64] of about -1 to 1."""

    def __init__(self, trained: Trained):
        super().__init__()
        self.vae = trained.autoencoder

    def forward(self, latents):
        return self.vae.decode(latents, return_dict=False)[0]


def round_tensor(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Whole numbers of -127 to 127 and, for each row or filter, what they are to be multiplied with."""
    largest = tensor.abs().flatten(1).amax(1).clamp(min=1e-12)
    scale = (largest / 127).view(-1, *[1] * (tensor.dim() - 1))
    return (tensor / scale).round().clamp(-127, 127).to(torch.int8), scale


def is_rounded(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and tensor.dim() > 1 and tensor.numel() >= ROUNDED_FROM


def simplify(model: onnx.ModelProto, parameters: set[str]) -> tuple[onnx.ModelProto, dict[str, torch.Tensor]]:
    """
    The model without what can be reckoned before it runs (half of its nodes are about shapes), and its parameters,
    which are inputs now: otherwise they would be reckoned with, and be hard to find again.
    """
    weights = {}
    for tensor in list(model.graph.initializer):
        if tensor.name in parameters:
            weights[tensor.name] = torch.from_numpy(numpy_helper.to_array(tensor).copy())
            model.graph.initializer.remove(tensor)
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "simple.onnx")
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath), weights


def to_onnx(module: nn.Module, inputs: dict[str, torch.Tensor], output: str) -> onnx.ModelProto:
    """The module as ONNX, any number of rows; large weights as 8 bits, widened when the model is loaded."""
    buffer = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            buffer,
            input_names=list(inputs),
            output_names=[output],
            dynamic_axes={name: {0: "n"} for name in [*inputs, output]},
            opset_version=OPSET,
            dynamo=False,
            do_constant_folding=False,
        )
    parameters = {name for name, _ in module.named_parameters()}
    model, weights = simplify(onnx.load_from_string(buffer.getvalue()), parameters)
    kept, widening = list(model.graph.initializer), []
    for name, values in weights.items():
        if not is_rounded(values):
            kept.append(numpy_helper.from_array(values.numpy(), name))
            continue
        whole, scale = round_tensor(values)
        kept.append(numpy_helper.from_array(whole.numpy(), f"{name}.int8"))
        kept.append(numpy_helper.from_array(scale.numpy(), f"{name}.scale"))
        widening.append(helper.make_node("Cast", [f"{name}.int8"], [f"{name}.wide"], to=TensorProto.FLOAT))
        widening.append(helper.make_node("Mul", [f"{name}.wide", f"{name}.scale"], [name]))
    nodes = [*widening, *model.graph.node]
    for node in nodes:
        # Names of nodes serve people only, and there are many.
        node.name = ""
    asked = [value for value in model.graph.input if value.name not in weights]
    graph = helper.make_graph(nodes, "main", asked, model.graph.output, kept)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    onnx.checker.check_model(made)
    return made


def export_onnx(trained: Trained, folder: Path, *, name: str) -> None:
    """Three networks, the tokenizer, and model.json with all that a sampler must know."""
    folder.mkdir(parents=True, exist_ok=True)
    channels = trained.denoiser.config.in_channels
    latents = torch.randn(2, channels, 8, 8)
    tokens = torch.zeros(2, POSITIONS, dtype=torch.long)
    words = torch.randn(2, POSITIONS, trained.text_encoder.config.hidden_size)
    time = torch.tensor([999.0, 5.0])
    parts = {
        "text_encoder": (TextEncoder(trained), {"tokens": tokens}, "words"),
        "denoiser": (Denoiser(trained), {"latents": latents, "time": time, "words": words}, "velocity"),
        "decoder": (Decoder(trained), {"latents": latents}, "picture"),
    }
    for part, (module, inputs, output) in parts.items():
        onnx.save(to_onnx(module, inputs, output), folder / f"{part}.onnx")
    trained.tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    scheduler = make_scheduler()
    about = {
        "name": name,
        "samples": trained.samples,
        "channels": channels,
        "widths": list(trained.denoiser.config.block_out_channels),
        "decoderWidths": list(trained.autoencoder.config.block_out_channels),
        "textWidth": trained.text_encoder.config.hidden_size,
        "latentSide": 8,
        "side": 64,
        "positions": POSITIONS,
        "startToken": trained.tokenizer.bos_token_id,
        "endToken": trained.tokenizer.eos_token_id,
        "steps": STEPS,
        "guidance": GUIDANCE,
        "alphasCumulative": [round(float(alpha), 9) for alpha in scheduler.alphas_cumprod],
    }
    (folder / "model.json").write_text(json.dumps(about) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of prepare.py")
    parser.add_argument("--run", type=Path, required=True, help="folder of checkpoints")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--name", default="icons-64", help="what the model calls itself")
    args = parser.parse_args()
    trained = load_trained(args.data, args.run)
    export_onnx(trained, args.out, name=args.name)
    size = sum(path.stat().st_size for path in args.out.iterdir())
    print(f"{trained.samples:,} samples, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
