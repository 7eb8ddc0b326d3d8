"""The demo model draws what it is asked for."""

import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from evaluate import dominant_colour
from harness import Runtime, config_for, eventually
from PIL import Image

# As docs/model-card.md recommends; the size is the pipeline's own.
SETTINGS = {"num_inference_steps": 20, "guidance_scale": 4, "seed": 7}


@pytest.fixture(scope="module")
def demo(folders: Callable[[str], Path]) -> Iterator[Runtime]:
    runtime = Runtime(config_for(folders("icons")))
    runtime.start()
    eventually(lambda: runtime.worker.ready)
    yield runtime
    runtime.stop()


def png(runtime: Runtime, prompt: str, **changes: object) -> bytes:
    response = runtime.predict({"prompt": prompt, **SETTINGS, **changes})
    assert response.status_code == 200, response.text
    return base64.b64decode(response.json()["predictions"][0]["image"]["b64"])


@pytest.mark.parametrize("colour", ["red", "blue", "green"])
@pytest.mark.parametrize("thing", ["car", "circle"])
def test_the_asked_colour_dominates_at_the_models_own_size(demo, thing, colour):
    picture = Image.open(io.BytesIO(png(demo, f"a {colour} {thing}")))

    assert picture.size == (64, 64)
    assert dominant_colour(np.asarray(picture)) == colour


def test_the_same_seed_gives_the_same_picture(demo):
    assert png(demo, "a red car") == png(demo, "a red car")
    assert png(demo, "a red car") != png(demo, "a red car", seed=8)
