"""The state of a training: saved, gone on from, and read when it is exported."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

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


class Stateful(Protocol):
    """A part of a training that can be saved: a network or an optimizer."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Any) -> Any: ...


def save(path: Path, parts: dict[str, Stateful], *, device: torch.device, seen: int, widths: list[int]) -> None:
    """Writes a checkpoint. The file at `path` is always a whole one."""
    state = {name: part.state_dict() for name, part in parts.items()}
    state |= {"random": random_state(device), "seen": seen, "widths": widths}
    torch.save(state, path.with_suffix(".partial"))
    os.replace(path.with_suffix(".partial"), path)


def resume(path: Path, parts: dict[str, Stateful], *, device: torch.device) -> int:
    """Brings the parts to where the checkpoint left them. Returns the samples seen by then: 0 without a checkpoint."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location=device, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    restore_random(state["random"], device)
    print(f"goes on from {state['seen']:,} samples", flush=True)
    return state["seen"]


def stop_at_signal() -> Callable[[], bool]:
    """Keeps SIGTERM and SIGINT from ending the process. Returns a function that says whether one of them came."""
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    return lambda: stopped


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Where the random numbers of the device stand."""
    return {device.type: torch.cuda.get_rng_state() if device.type == "cuda" else torch.get_rng_state()}


def restore_random(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Goes on with the random numbers, if they are of the same kind of device."""
    if device.type in state:
        restore = torch.cuda.set_rng_state if device.type == "cuda" else torch.set_rng_state
        restore(state[device.type].cpu())
