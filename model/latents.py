"""Latents by principal components: each 8x8 patch of a picture as a few numbers, its colours among them."""

import numpy as np

PATCH = 8
CHANNELS = 16


def to_patches(pixels: np.ndarray) -> np.ndarray:
    """[n, h, w, 3] of 0 to 255 -> [n * cells, 192] of -1 to 1."""
    n, h, w, _ = pixels.shape
    cells = pixels.reshape(n, h // PATCH, PATCH, w // PATCH, PATCH, 3).transpose(0, 1, 3, 2, 4, 5)
    return cells.reshape(-1, PATCH * PATCH * 3).astype(np.float32) / 127.5 - 1


def fit_latents(pixels: np.ndarray, origins: np.ndarray, channels: int = CHANNELS):
    """
    Latents [n, channels, 8, 8] of every picture, and the space they live in (`mean`, `axes`, `scales`). The later
    components are scaled up part of the way to the first ones' variance: the noise of diffusion must not drown them.
    """
    rng = np.random.default_rng(0)
    sample = to_patches(pixels[rng.permutation(len(pixels))[:4000]])
    mean = sample.mean(0)
    variances, axes = np.linalg.eigh(np.cov((sample - mean).T))
    variances, axes = variances[::-1][:channels], axes[:, ::-1][:, :channels]
    print(f"{channels} components hold {variances.sum() / sample.var(0).sum():.3f} of the variance")
    scales = np.sqrt(variances) ** -0.7
    scales /= np.sqrt((variances * scales**2).mean())
    space = {"mean": mean, "axes": axes, "scales": scales}
    parts = [project(pixels[i : i + 512], space) for i in range(0, len(pixels), 512)]
    return np.concatenate(parts), space


def project(pixels: np.ndarray, space) -> np.ndarray:
    """Latents of pictures, in half precision."""
    n, h, w, _ = pixels.shape
    codes = (to_patches(pixels) - space["mean"]) @ space["axes"] * space["scales"]
    return codes.reshape(n, h // PATCH, w // PATCH, -1).transpose(0, 3, 1, 2).astype(np.float16)
