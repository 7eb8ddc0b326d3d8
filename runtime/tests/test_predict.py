"""A prediction's pictures are what was asked for, every time."""

import base64
import io
import json

import pytest
from PIL import Image

RED_CAT = {"prompt": "a red cat", "seed": 7, "num_inference_steps": 2}


def png(prediction: dict) -> bytes:
    return base64.b64decode(prediction["image"]["b64"])


def picture(runtime: object, **changes: object) -> bytes:
    response = runtime.predict({**RED_CAT, **changes})
    assert response.status_code == 200, response.text
    return png(response.json()["predictions"][0])


def test_an_answer_has_exactly_the_documented_fields(runtime):
    response = runtime.predict(RED_CAT)

    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["predictions"]
    (prediction,) = response.json()["predictions"]
    milliseconds = prediction.pop("inference_ms")
    assert type(milliseconds) is int
    assert milliseconds > 0
    image = prediction.pop("image")
    assert image["format"] == "PNG"
    assert image["b64"].startswith("iVBORw0KGgo")
    assert prediction == {
        "model_name": "model",
        "prompt": "a red cat",
        "seed": 7,
        "num_inference_steps": 2,
    }


def test_the_same_seed_gives_the_same_bytes(runtime):
    assert picture(runtime) == picture(runtime)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 8},
        {"prompt": "a blue dog"},
        {"negative_prompt": "dogs"},
        {"num_inference_steps": 3},
        {"guidance_scale": 2.5},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_parameter_reaches_the_pipeline(runtime, change):
    assert picture(runtime, **change) != picture(runtime)


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ({"width": 128, "height": 72}, (128, 72)),
        # diffusers falls back to the default for both when only one is given; we do not.
        ({"width": 128}, (128, 64)),
        ({"height": 128}, (64, 128)),
        ({}, (64, 64)),
    ],
)
def test_the_picture_has_the_asked_size(runtime, asked, got):
    assert Image.open(io.BytesIO(picture(runtime, **asked))).size == got


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_seeds_reach_to_the_ends_of_their_range(runtime, seed):
    response = runtime.predict({**RED_CAT, "seed": seed})
    assert response.json()["predictions"][0]["seed"] == seed


def test_a_seed_made_at_random_is_reported_and_repeats_the_picture(runtime):
    unseeded = {"prompt": "a red cat", "num_inference_steps": 2}
    first, second = runtime.predict(unseeded, unseeded).json()["predictions"]

    assert first["seed"] != second["seed"]
    assert picture(runtime, seed=first["seed"]) == png(first)


def test_instances_are_answered_in_order_and_like_single_ones(runtime):
    instances = [{**RED_CAT, "seed": seed} for seed in (3, 1, 2)]
    predictions = runtime.predict(*instances).json()["predictions"]

    assert [p["seed"] for p in predictions] == [3, 1, 2]
    assert [png(p) for p in predictions] == [picture(runtime, seed=seed) for seed in (3, 1, 2)]


def test_absent_steps_are_the_pipelines_default_and_reported(runtime):
    prediction = runtime.predict({"prompt": "a red cat"}).json()["predictions"][0]
    assert prediction["num_inference_steps"] == 50


def test_the_schedulers_last_allowed_step_count_works(runtime):
    # The tiny pipeline's scheduler knows 150 timesteps and starts at 1: asking for 150 would
    # index past its end.
    assert runtime.predict({**RED_CAT, "num_inference_steps": 149}).status_code == 200
    refused = runtime.predict({**RED_CAT, "num_inference_steps": 150})
    assert refused.status_code == 400
    assert "num_inference_steps: got 150, allowed: a whole number from 1 to 149" in refused.text


def test_text_of_any_script_is_drawn(runtime):
    prompt = "猫 🐈 \u0000 ½ \n кот"
    assert runtime.predict({**RED_CAT, "prompt": prompt}).json()["predictions"][0]["prompt"] == (
        prompt
    )


def test_prompts_longer_than_the_text_encoder_reads_stay_out_of_the_log(runtime, caplog):
    caplog.set_level("INFO")
    runtime.predict({**RED_CAT, "prompt": "a secret " * 100})
    assert "outcome" in json.dumps([record.__dict__ for record in caplog.records], default=str)
    assert "secret" not in json.dumps([r.__dict__ for r in caplog.records], default=str)


def test_a_prediction_is_one_log_line_with_its_numbers(runtime, caplog):
    caplog.set_level("INFO")
    runtime.predict(RED_CAT, **{"X-Request-Id": "abc-123"})
    (line,) = [r.fields for r in caplog.records if r.message == "prediction"]
    milliseconds = line.pop("queued_ms"), *line.pop("inference_ms")
    assert all(type(value) is int for value in milliseconds)
    assert line == {
        "request_id": "abc-123",
        "outcome": "succeeded",
        "seed": [7],
        "steps": [2],
        "size": ["64x64"],
    }


def test_the_request_id_comes_back(runtime):
    assert runtime.predict(RED_CAT, **{"X-Request-Id": "a-1"}).headers["x-request-id"] == "a-1"


def test_a_request_id_unfit_for_a_log_is_replaced(runtime):
    answer = runtime.predict(RED_CAT, **{"X-Request-Id": 'x" {"forged": 1}'})
    assert "forged" not in answer.headers["x-request-id"]
    assert answer.headers["x-request-id"]


def test_sdxl_class_pipelines_work(serve):
    sdxl = serve("sdxl")
    asked = {"width": 128, "height": 64, "negative_prompt": "dogs"}
    assert picture(sdxl, **asked) == picture(sdxl, **asked)
    assert picture(sdxl, **asked) != picture(sdxl, **asked, seed=8)
    assert Image.open(io.BytesIO(picture(sdxl, **asked))).size == (128, 64)


def test_flux_class_pipelines_work_and_refuse_what_they_would_ignore(serve):
    flux = serve("flux")
    assert Image.open(io.BytesIO(picture(flux, width=128, height=64))).size == (128, 64)
    assert picture(flux, width=64, height=64, negative_prompt="")

    ignored = flux.predict({**RED_CAT, "negative_prompt": "dogs"})
    assert ignored.status_code == 400
    assert "negative_prompt" in ignored.json()["error"]
    assert "FluxPipeline" in ignored.json()["error"]
    # It would be rounded down to 64 without a word.
    rounded = flux.predict({**RED_CAT, "width": 72})
    assert rounded.status_code == 400
    assert "a multiple of 16" in rounded.json()["error"]
