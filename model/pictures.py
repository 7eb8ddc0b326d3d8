"""Pictures with captions: icons in many colours, and plain shapes."""

import json
import math
import random
import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIDE = 64
WHITE = (255, 255, 255)
COLOURS = {
    "red": (221, 46, 68),
    "orange": (244, 144, 12),
    "yellow": (253, 203, 60),
    "green": (92, 170, 70),
    "blue": (56, 110, 225),
    "purple": (150, 90, 200),
    "pink": (244, 140, 180),
    "brown": (140, 90, 60),
    "black": (35, 35, 38),
    "white": (250, 250, 250),
    "gray": (150, 155, 160),
}
SHAPES = (
    "circle", "square", "triangle", "star", "heart", "diamond",
    "hexagon", "cross", "ring", "rectangle", "oval", "crescent",
)  # fmt: skip
# Mirrored, these would say something else, or the writing in them would.
FIXED = re.compile(
    r"arrow|mark|note|music|hundred|clock|watch|ticket|taxi|police car|ambulance|hospital|hotel|bank|school|"
    r"button|sign|calendar|money|coin|dollar|chart|medal|newspaper|keyboard|dice|billiard|warning|recycling|flag"
)
PLURAL = re.compile(r"(?<!s)s$")
SINGULAR = ("bus", "cactus", "hibiscus", "scissors", "octopus", "walrus", "atlas")


def load_icons(folder: Path) -> tuple[list[list[str]], np.ndarray]:
    """The names of each icon, the plainest first, and the icons: [n, 64, 64, 4], 0 to 255."""
    names = [icon["names"] for icon in json.loads((folder / "icons.json").read_text())]
    pixels = np.fromfile(folder / "icons.rgba", np.uint8).reshape(len(names), SIDE, SIDE, 4)
    return names, pixels


def flatten(icon: np.ndarray, background=WHITE) -> np.ndarray:
    """The icon on a background of one colour."""
    alpha = icon[..., 3:].astype(np.float32) / 255
    mixed = icon[..., :3] * alpha + np.array(background, np.float32) * (1 - alpha)
    return mixed.round().astype(np.uint8)


def recolour(icon: np.ndarray, colour: str) -> np.ndarray:
    """
    The icon with its coloured parts in another colour. Near-white and near-black parts stay, unless the icon has
    hardly another: then all but the darkest parts take the colour.
    """
    rgb = icon[..., :3].astype(np.float32) / 255
    value = rgb.max(-1)
    saturation = np.where(value > 0, (value - rgb.min(-1)) / np.maximum(value, 1e-6), 0)
    opaque = icon[..., 3] > 128
    part = (saturation > 0.2) & (value > 0.3)
    if (part & opaque).sum() < 0.35 * opaque.sum():
        part = value > 0.3
        if (part & opaque).sum() < 0.35 * opaque.sum():
            part = value >= 0
    # Shading within the part is kept: its lightness relative to the part's own, on the new colour.
    light = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    middle = float(np.median(light[part & opaque])) if (part & opaque).any() else 0.5
    shade = np.clip((light - middle) * 0.9, -0.35, 0.35)[..., None]
    base = np.array(COLOURS[colour], np.float32) / 255
    tinted = np.where(shade < 0, base * (1 + shade * 1.4), base + (1 - base) * shade * 0.9)
    if colour == "white":
        tinted = np.clip(base + np.minimum(shade, 0) * 0.5 - 0.03, 0, 1)
    result = icon.copy()
    result[..., :3] = np.where(part[..., None], np.clip(tinted, 0, 1) * 255, icon[..., :3]).round()
    return result


def with_article(words: str) -> str:
    """`a car`, `an apple`, `jeans`."""
    last = words.split()[-1]
    if PLURAL.search(last) and last not in SINGULAR:
        return words
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def caption(names: list[str], rng: random.Random, colour: str | None = None, ground: str | None = None) -> str:
    """One of the ways in which a person would ask for the picture, the plainest the likeliest."""
    name = names[0] if rng.random() < 0.75 else rng.choice(names)
    words = f"{colour} {name}" if colour else name
    words = words if rng.random() < 0.4 else with_article(words)
    return f"{words} on {with_article(f'{ground} background')}" if ground else words


def draw_shape(draw: ImageDraw.ImageDraw, shape: str, fill, x: float, y: float, r: float, ground) -> None:
    """A shape of radius `r` around x, y, in pixels."""

    def polygon(corners: int, radius=lambda _: 1.0):
        turns = [(i, 2 * math.pi * i / corners) for i in range(corners)]
        return [(x + r * radius(i) * math.sin(a), y - r * radius(i) * math.cos(a)) for i, a in turns]

    def box(w: float, h: float, dx: float = 0.0, dy: float = 0.0):
        return (x + (dx - w) * r, y + (dy - h) * r, x + (dx + w) * r, y + (dy + h) * r)

    match shape:
        case "circle":
            draw.ellipse(box(1, 1), fill)
        case "oval":
            draw.ellipse(box(1, 0.6), fill)
        case "square":
            draw.rectangle(box(0.85, 0.85), fill)
        case "rectangle":
            draw.rectangle(box(1, 0.55), fill)
        case "triangle":
            draw.polygon(polygon(3), fill)
        case "diamond":
            draw.polygon(polygon(4), fill)
        case "hexagon":
            draw.polygon(polygon(6), fill)
        case "star":
            draw.polygon(polygon(10, lambda i: 0.42 if i % 2 else 1.0), fill)
        case "cross":
            draw.rectangle(box(0.3, 1), fill)
            draw.rectangle(box(1, 0.3), fill)
        case "ring":
            draw.ellipse(box(1, 1), fill)
            draw.ellipse(box(0.6, 0.6), ground)
        case "crescent":
            draw.ellipse(box(1, 1), fill)
            draw.ellipse(box(0.9, 0.9, 0.45, -0.15), ground)
        case "heart":
            curve = np.linspace(0, 2 * math.pi, 60)
            heights = (13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t) for t in curve)
            widths = (16 * math.sin(t) ** 3 for t in curve)
            draw.polygon([(x + r * w / 16, y - r * h / 16) for w, h in zip(widths, heights, strict=True)], fill)


def random_shape(rng: random.Random) -> tuple[np.ndarray, list[str]]:
    """A shape in the middle of a background, and what one would call it."""
    scale = 4
    size = SIDE * scale
    ground = "white" if rng.random() < 0.5 else rng.choice(list(COLOURS))
    colour = rng.choice([name for name in COLOURS if name != ground])
    shape = rng.choice(SHAPES)
    paper = WHITE if ground == "white" else COLOURS[ground]
    image = Image.new("RGB", (size, size), paper)
    draw_shape(ImageDraw.Draw(image), shape, COLOURS[colour], size / 2, size / 2, size * 0.42, paper)
    words = f"{colour} {shape}"
    captions = [words, with_article(words)]
    if ground != "white":
        captions = [f"{words} on {with_article(f'{ground} background')}" for words in captions]
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX)), captions


def held_out() -> set[tuple[str, str]]:
    """The pairs of thing and colour that the model never sees, so that its sheet shows what it makes of them."""
    prompts = json.loads(Path(__file__).with_name("prompts.json").read_text())
    return {(prompt["thing"], prompt["colour"]) for prompt in prompts if prompt["kind"] == "new combination"}


def make_pictures(names: list[list[str]], icons: np.ndarray, *, shapes: int, seed: int = 0):
    """
    Every icon as it is, mirrored, in every colour and on two backgrounds, and `shapes` shapes.
    Returns pixels [n, 64, 64, 3] of 0 to 255, eight captions of each picture, how often each is to be shown, and the
    icon that each is made of (-1: a shape).
    """
    rng = random.Random(seed)
    pixels, captions, weights, origins = [], [], [], []
    unseen = held_out()

    def add(picture, make_caption, weight, origin):
        pixels.append(picture)
        captions.append([make_caption() for _ in range(8)])
        weights.append(weight)
        origins.append(origin)

    for origin, (words, icon) in enumerate(zip(names, icons, strict=True)):
        turnable = not any(FIXED.search(word) for word in words)
        add(flatten(icon), lambda w=words: caption(w, rng), 2.0 if turnable else 3.0, origin)
        if turnable:
            add(flatten(icon[:, ::-1]), lambda w=words: caption(w, rng), 1.0, origin)
        for colour in COLOURS:
            weight = 0.0 if (words[0], colour) in unseen else 0.3
            add(flatten(recolour(icon, colour)), lambda w=words, c=colour: caption(w, rng, c), weight, origin)
        for ground in rng.sample([name for name in COLOURS if name != "white"], 2):
            add(flatten(icon, COLOURS[ground]), lambda w=words, g=ground: caption(w, rng, None, g), 0.25, origin)
    for _ in range(shapes):
        picture, choices = random_shape(rng)
        add(picture, lambda c=choices: rng.choice(c), 0.15 * len(names) * 6 / max(shapes, 1), -1)
    return np.stack(pixels), captions, np.array(weights, np.float32), np.array(origins)
