"""
Trains text encoder and denoiser together on the latents of prepare.py. Writes a checkpoint every few minutes, and goes
on from it when started again; runs unchanged on a CPU and on one CUDA GPU.
"""

import argparse
import copy
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTokenizer

from checkpoints import resume, save, stop_at_signal
from network import make_denoiser, make_scheduler, make_text_encoder, pick_device
from words import POSITIONS


def word_vectors(tokens: torch.Tensor, latents: torch.Tensor, size: int, width: int) -> torch.Tensor:
    """
    A first vector of each token: the mean latents of the pictures whose captions hold it, as principal components.
    Words whose pictures look alike begin alike, and most of what a word looks like is there before the first step.
    """
    flat = latents.float().flatten(1)
    flat = flat - flat.mean(0)
    picture = torch.arange(len(tokens)).repeat_interleave(tokens[0].numel())
    pairs = torch.stack([tokens.flatten().long(), picture]).unique(dim=1)
    sums = torch.zeros(size, flat.shape[1]).index_add_(0, pairs[0], flat[pairs[1]])
    counts = torch.zeros(size).index_add_(0, pairs[0], torch.ones(pairs.shape[1]))
    # A word of every caption says nothing; a word of none has no vector.
    means = sums / counts.clamp(min=1)[:, None]
    _, _, axes = torch.pca_lowrank(means, q=min(width, *means.shape), center=False, niter=4)
    vectors = F.pad(means @ axes, (0, width - axes.shape[1]))
    return vectors / vectors[counts > 0].std(0).clamp(min=1e-6).sqrt()


def learning_rate(seen: int, args) -> float:
    """Rises over the first samples, stays, and falls to a fiftieth over the last quarter of `--samples`."""
    rise = min(1.0, (seen + 1) / (100 * args.batch))
    left = max(0.0, (args.samples - seen) / args.samples)
    return args.rate * rise * max(0.02, min(1.0, left / 0.25))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of prepare.py")
    parser.add_argument("--run", type=Path, required=True, help="folder of checkpoints")
    parser.add_argument("--samples", type=int, default=1_000_000, help="pictures to see in all")
    parser.add_argument("--widths", type=int, nargs=2, default=(64, 128))
    parser.add_argument("--batch", type=int, help="default: 32 on a CPU, 1024 on a GPU")
    parser.add_argument("--rate", type=float, help="default: 0.0012 on a CPU, 0.002 on a GPU")
    parser.add_argument("--save-every", type=float, default=300, help="seconds")
    args = parser.parse_args()
    device = pick_device()
    args.batch = args.batch or (1024 if device.type == "cuda" else 32)
    args.rate = args.rate or (0.002 if device.type == "cuda" else 0.0012)
    args.run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)

    tokenizer = CLIPTokenizer.from_pretrained(args.data / "tokenizer")
    with np.load(args.data / "data.npz") as data:
        latents = torch.from_numpy(data["latents"])
        tokens = torch.from_numpy(data["tokens"].astype(np.int64))
        weights = torch.from_numpy(data["weights"])
    text_encoder = make_text_encoder(tokenizer)
    table = text_encoder.get_input_embeddings().weight
    with torch.no_grad():
        vectors = word_vectors(tokens, latents, *table.shape)
        table.add_(vectors * (0.3 / vectors.std()))
        text_encoder.embeddings.position_embedding.weight.normal_(std=0.1)
    net = torch.nn.ModuleDict(
        {"denoiser": make_denoiser(latents.shape[1], tuple(args.widths)), "text_encoder": text_encoder}
    ).to(device, memory_format=torch.channels_last)
    average = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.AdamW(net.parameters(), betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    print({name: f"{sum(p.numel() for p in part.parameters()):,}" for name, part in net.items()}, flush=True)

    checkpoint = args.run / "checkpoint.pt"
    parts = {"net": net, "average": average, "optimizer": optimizer}
    seen = resume(checkpoint, parts, device=device)
    is_stopped = stop_at_signal()

    empty = torch.tensor(tokenizer("", padding="max_length", max_length=POSITIONS).input_ids, device=device)
    alphas = make_scheduler().alphas_cumprod.to(device)
    latents, tokens, weights = latents.to(device), tokens.to(device), weights.to(device)
    net.train()
    # On so few positions torch's flash attention takes half of a CPU's time; plain matrix products take little.
    backends = [SDPBackend.MATH]
    if device.type == "cuda":
        backends += [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
    mean_loss, started, saved, first = None, time.monotonic(), time.monotonic(), seen
    while seen < args.samples and not is_stopped():
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(seen, args)
        chosen = torch.multinomial(weights, args.batch, replacement=True)
        clean = latents[chosen].float()
        words = tokens[chosen, torch.randint(0, tokens.shape[1], (args.batch,), device=device)]
        # Pictures without words teach what guidance is to lead away from.
        words[torch.rand(args.batch, device=device) < 0.1] = empty
        # Each batch covers the whole of time evenly.
        spread = (torch.arange(args.batch, device=device) + torch.rand(1, device=device)) / args.batch
        time_steps = (spread % 1 * len(alphas)).long()
        alpha = alphas[time_steps].view(-1, 1, 1, 1)
        noise = torch.randn_like(clean)
        noisy = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
        with torch.autocast(device.type, torch.bfloat16), sdpa_kernel(backends):
            hidden = net["text_encoder"](words)[0]
            guess = net["denoiser"](noisy, time_steps, hidden).sample
        loss = F.mse_loss(guess.float(), velocity)
        with sdpa_kernel(backends):
            loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seen += args.batch
        steps = seen // args.batch
        with torch.no_grad():
            keep = min(0.999, (steps + 1) / (steps + 12))
            torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - keep)
        if steps % 100 == 0:
            mean_loss = loss.item() if mean_loss is None else 0.8 * mean_loss + 0.2 * loss.item()
            speed = (seen - first) / (time.monotonic() - started)
            print(f"{seen:,} samples, loss {mean_loss:.4f}, {speed:.0f} a second", flush=True)
        if time.monotonic() - saved > args.save_every:
            save(checkpoint, parts, device=device, seen=seen, widths=list(args.widths))
            saved = time.monotonic()
    save(checkpoint, parts, device=device, seen=seen, widths=list(args.widths))
    print(f"{'stopped' if is_stopped() else 'done'} at {seen:,} samples", flush=True)


if __name__ == "__main__":
    main()
