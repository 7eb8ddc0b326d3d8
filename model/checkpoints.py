"""What has been trained so far."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from network import make_autoencoder, make_denoiser, make_text_encoder


@dataclass(frozen=True)
class Trained:
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    denoiser: UNet2DConditionModel
    autoencoder: AutoencoderKL
    samples: int
    """Pictures that the denoiser has seen."""


def load_trained(data: Path, run: Path) -> Trained:
    """The averaged weights of the newest checkpoints in `run`. @throws FileNotFoundError before the first ones."""
    tokenizer = CLIPTokenizer.from_pretrained(data / "tokenizer")
    with np.load(data / "space.npz") as space:
        channels = space["axes"].shape[1]
    state = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)
    net = torch.nn.ModuleDict(
        {"denoiser": make_denoiser(channels, tuple(state["widths"])), "text_encoder": make_text_encoder(tokenizer)}
    )
    net.load_state_dict(state["average"])
    decoder = torch.load(run / "decoder.pt", map_location="cpu", weights_only=True)
    autoencoder = make_autoencoder(channels, tuple(decoder["widths"]))
    autoencoder.load_state_dict(decoder["net"])
    return Trained(
        tokenizer=tokenizer,
        text_encoder=net["text_encoder"].eval(),
        denoiser=net["denoiser"].eval(),
        autoencoder=autoencoder.eval(),
        samples=state["seen"],
    )


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Where the random numbers of the device stand."""
    return {device.type: torch.cuda.get_rng_state() if device.type == "cuda" else torch.get_rng_state()}


def restore_random(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Goes on with the random numbers, if they are of the same kind of device."""
    if device.type in state:
        restore = torch.cuda.set_rng_state if device.type == "cuda" else torch.set_rng_state
        restore(state[device.type].cpu())
