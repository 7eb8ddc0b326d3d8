"""
Trains the decoder: latents of prepare.py -> pictures. Writes a checkpoint every few minutes, and goes on from it when
started again; runs unchanged on a CPU and on one CUDA GPU.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from checkpoints import resume, save, stop_at_signal
from network import DECODER_WIDTHS, make_autoencoder, pick_device


def edges(pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return pictures[..., 1:, :] - pictures[..., :-1, :], pictures[..., 1:] - pictures[..., :-1]


def loss_of(drawn: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Absolute differences, which keep flat areas flat, of the colours and, for sharpness, of the edges."""
    contours = sum(F.l1_loss(a, b) for a, b in zip(edges(drawn), edges(wanted), strict=True))
    return F.l1_loss(drawn, wanted) + 0.7 * contours + 0.5 * F.mse_loss(drawn, wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of prepare.py")
    parser.add_argument("--run", type=Path, required=True, help="folder of checkpoints")
    parser.add_argument("--samples", type=int, default=200_000, help="pictures to see in all")
    parser.add_argument("--widths", type=int, nargs=4, default=DECODER_WIDTHS)
    parser.add_argument("--batch", type=int, help="default: 24 on a CPU, 256 on a GPU")
    parser.add_argument("--save-every", type=float, default=300, help="seconds")
    args = parser.parse_args()
    device = pick_device()
    args.batch = args.batch or (256 if device.type == "cuda" else 24)
    args.run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)

    with np.load(args.data / "data.npz") as data:
        latents = torch.from_numpy(data["latents"]).to(device)
        pixels = torch.from_numpy(data["pixels"]).to(device)
        weights = torch.from_numpy(data["weights"]).to(device)
    autoencoder = make_autoencoder(latents.shape[1], tuple(args.widths)).to(device)
    parameters = [*autoencoder.decoder.parameters(), *autoencoder.post_quant_conv.parameters()]
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    print(f"decoder {sum(p.numel() for p in parameters):,}", flush=True)

    checkpoint = args.run / "decoder.pt"
    parts = {"net": autoencoder, "optimizer": optimizer}
    seen = resume(checkpoint, parts, device=device)
    is_stopped = stop_at_signal()

    def pictures(chosen: torch.Tensor) -> torch.Tensor:
        return pixels[chosen].permute(0, 3, 1, 2).float() / 127.5 - 1

    mean_loss, started, saved, first = None, time.monotonic(), time.monotonic(), seen
    while seen < args.samples and not is_stopped():
        rise = min(1.0, (seen + 1) / (100 * args.batch))
        for group in optimizer.param_groups:
            group["lr"] = 0.002 * rise * (0.02 + 0.49 * (1 + math.cos(math.pi * seen / args.samples)))
        chosen = torch.multinomial(weights, args.batch, replacement=True)
        # What the denoiser hands over is never quite a picture's latents: a little noise makes the decoder expect it.
        clean = latents[chosen].float()
        noisy = clean + 0.15 * torch.rand(args.batch, 1, 1, 1, device=device) * torch.randn_like(clean)
        with torch.autocast(device.type, torch.bfloat16):
            drawn = autoencoder.decode(noisy).sample
        loss = loss_of(drawn.float(), pictures(chosen))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seen += args.batch
        if seen // args.batch % 50 == 0:
            mean_loss = loss.item() if mean_loss is None else 0.8 * mean_loss + 0.2 * loss.item()
            speed = (seen - first) / (time.monotonic() - started)
            print(f"{seen:,} samples, loss {mean_loss:.4f}, {speed:.0f} a second", flush=True)
        if time.monotonic() - saved > args.save_every:
            save(checkpoint, parts, device=device, seen=seen, widths=list(args.widths))
            saved = time.monotonic()
    save(checkpoint, parts, device=device, seen=seen, widths=list(args.widths))
    with torch.no_grad():
        chosen = torch.arange(0, len(pixels), max(1, len(pixels) // 128), device=device)
        error = F.mse_loss(autoencoder.decode(latents[chosen].float()).sample.clamp(-1, 1), pictures(chosen))
    print(f"{'stopped' if is_stopped() else 'done'} at {seen:,} samples, {10 * math.log10(4 / error.item()):.1f} dB")


if __name__ == "__main__":
    main()
