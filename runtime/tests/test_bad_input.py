"""What is wrong with a request is said by name, value and what is allowed."""

import json

import pytest
from harness import PREDICT, STREAM

WRONG = [
    # (instances[0], what the message must hold)
    ({}, "instances[0].prompt: missing"),
    ({"prompt": ""}, 'prompt: got "", allowed: text of 1 to 2000 characters'),
    ({"prompt": "x" * 2001}, "prompt: got text of 2001 characters, allowed"),
    ({"prompt": None}, "prompt: got null"),
    ({"prompt": 5}, "prompt: got 5"),
    ({"prompt": ["a"]}, "prompt: got a list of 1"),
    ({"prompt": "\ud800"}, "prompt: got"),
    ({"negative_prompt": "x" * 2001}, "negative_prompt: got text of 2001 characters"),
    ({"negative_prompt": None}, "negative_prompt: got null"),
    ({"width": 63}, "width: got 63, allowed: a whole number from 64 to 2048, a multiple of 8"),
    ({"width": 56}, "width: got 56"),
    ({"width": 2056}, "width: got 2056"),
    ({"width": 100}, "width: got 100"),
    ({"width": "512"}, 'width: got "512"'),
    ({"width": 512.0}, "width: got 512.0"),
    ({"width": True}, "width: got true"),
    ({"width": None}, "width: got null"),
    ({"height": 65}, "height: got 65"),
    ({"height": -64}, "height: got -64"),
    ({"height": 10**4000}, "height: got 1000"),
    ({"num_inference_steps": 0}, "num_inference_steps: got 0"),
    ({"num_inference_steps": 201}, "num_inference_steps: got 201"),
    ({"num_inference_steps": 2.5}, "num_inference_steps: got 2.5"),
    ({"num_inference_steps": False}, "num_inference_steps: got false"),
    ({"guidance_scale": -0.1}, "guidance_scale: got -0.1, allowed: a number from 0 to 20"),
    ({"guidance_scale": 20.1}, "guidance_scale: got 20.1"),
    ({"guidance_scale": float("nan")}, "guidance_scale: got NaN"),
    ({"guidance_scale": float("inf")}, "guidance_scale: got Infinity"),
    ({"guidance_scale": float("-inf")}, "guidance_scale: got -Infinity"),
    ({"guidance_scale": True}, "guidance_scale: got true"),
    ({"guidance_scale": "7"}, 'guidance_scale: got "7"'),
    ({"guidance_scale": 10**4000}, "guidance_scale: got 1000"),
    ({"seed": -1}, "seed: got -1, allowed: a whole number from 0 to 4294967295"),
    ({"seed": 2**32}, "seed: got 4294967296"),
    ({"seed": 1.0}, "seed: got 1.0"),
    ({"seed": float("nan")}, "seed: got NaN"),
    ({"seed": None}, "seed: got null"),
    ({"seed": True}, "seed: got true"),
    ({"num_inference_steps": True}, "num_inference_steps: got true"),
    ({"Prompt": "x"}, 'instances[0]."Prompt": got "x", allowed: only prompt, negative_prompt'),
    ({"num_images_per_prompt": 8}, "num_images_per_prompt"),
    ({"callback_on_step_end": "x"}, "callback_on_step_end"),
    ({"x" * 1000: {"y": "z"}}, "got an object"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG, ids=[m[:50] for _, m in WRONG])
def test_a_wrong_parameter_is_named_with_its_value_and_what_is_allowed(runtime, wrong, message):
    instance = wrong if wrong == {} else {"prompt": "a red cat", **wrong}
    response = post(runtime, json.dumps({"instances": [instance]}))
    assert response.status_code == 400
    assert list(response.json()) == ["error"]
    assert message in response.json()["error"]
    assert len(response.content) < 1000


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ('{"instances":[{"prompt":"a"}]} x', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"instances":[{"prompt":"\xff"}]}', "not JSON"),
        ("[" * 60_000, "nested too deeply"),
        ('{"a":' * 12_000, "nested too deeply"),
        ('{"instances":[{"prompt":' + "[" * 30_000 + "]" * 30_000 + "}]}", "nested too deeply"),
        ('{"instances":[{"prompt":"a","seed":' + "9" * 5000 + "}]}", "not JSON"),
        ("null", "the body: got null"),
        ("[]", "the body: got a list of 0"),
        ('"text"', 'the body: got "text"'),
        ("{}", "instances: got null or nothing, allowed: a list of 1 to 8 objects"),
        ('{"instances":{}}', "instances: got an object"),
        ('{"instances":[]}', "instances: got a list of 0"),
        ('{"instances":[null]}', "instances[0]: got null"),
        ('{"instances":["a cat"]}', 'instances[0]: got "a cat", allowed: an object'),
        ('{"instances":[{"prompt":"a"}],"parameters":{}}', '"parameters": got an object'),
        (json.dumps({"instances": [{"prompt": "a"}] * 9}), "instances: got a list of 9"),
        (
            json.dumps({"instances": [{"prompt": "a"}, {"prompt": "a", "seed": -1}]}),
            "instances[1].seed: got -1",
        ),
    ],
)
def test_a_wrong_body_is_explained(runtime, body, message):
    response = post(runtime, body)
    assert response.status_code == 400
    assert message in response.json()["error"]


def test_a_wrong_body_leaves_the_server_working(runtime):
    post(runtime, "[" * 60_000)
    assert runtime.predict({"prompt": "a", "num_inference_steps": 1}).status_code == 200


def test_a_stream_is_refused_before_it_begins(runtime):
    response = post(runtime, '{"instances":[]}', **STREAM)
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json"


def test_refusals_are_counted(runtime):
    before = runtime.metric("requests_total", outcome="invalid_request")
    post(runtime, "{")
    assert runtime.metric("requests_total", outcome="invalid_request") == before + 1


def post(runtime, body, **headers):
    return runtime.client.post(
        PREDICT, content=body, headers={"Content-Type": "application/json", **headers}
    )
