"""KServe's health and model routes, before, during and after there is a model."""

import threading

import pytest

from diffusers_runtime import __version__, pipeline

READY = ["/v1/models/model", "/v2/health/ready", "/v2/models/model/ready"]
ALIVE = ["/", "/health", "/v2/health/live"]
ONE = {"prompt": "a red cat", "seed": 7, "num_inference_steps": 2}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", {"status": "alive"}),
        ("/health", {"status": "ok", "ready": True, "model": "model"}),
        ("/v1/models", {"models": ["model"]}),
        ("/v1/models/model", {"name": "model", "ready": True}),
        ("/v2", {"name": "diffusers-runtime", "version": __version__, "extensions": []}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        (
            "/v2/models/model",
            {
                "name": "model",
                "versions": [],
                "platform": "diffusers",
                "inputs": [],
                "outputs": [],
            },
        ),
        ("/v2/models/model/ready", {"name": "model", "ready": True}),
    ],
)
def test_the_routes_of_a_ready_server(runtime, path, body):
    response = runtime.client.get(path)
    assert response.status_code == 200
    assert response.json() == body


def test_while_the_model_loads_the_server_is_alive_and_not_ready(serve, monkeypatch):
    may_load = threading.Event()
    load = pipeline.load

    def slow(config):
        assert may_load.wait(timeout=60)
        return load(config)

    monkeypatch.setattr(pipeline, "load", slow)
    runtime = serve(ready=False)
    for path in ALIVE:
        assert runtime.client.get(path).status_code == 200
    for path in READY:
        assert runtime.client.get(path).status_code == 503
    refused = runtime.predict(ONE)
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) > 0
    assert "loading" in refused.json()["error"]
    assert runtime.metric("ready") == 0
    may_load.set()


def test_a_model_is_ready_only_after_a_warm_up(serve, monkeypatch):
    may_warm_up, warming_up = threading.Event(), threading.Event()
    limits = pipeline._limits

    def slow(pipe):
        warming_up.set()
        assert may_warm_up.wait(timeout=60)
        return limits(pipe)

    monkeypatch.setattr(pipeline, "_limits", slow)
    runtime = serve(ready=False)
    assert warming_up.wait(timeout=60)
    assert runtime.client.get("/v2/health/ready").status_code == 503
    may_warm_up.set()


def test_health_answers_all_the_while_a_picture_is_made(runtime):
    answers = 0
    with runtime.stream({**ONE, "num_inference_steps": 149}) as stream:
        assert stream.next()[0] == "progress"
        while runtime.metric("in_flight"):
            assert runtime.client.get("/health").status_code == 200
            answers += 1
        assert stream.rest()[-1][0] == "result"
    # Were the picture made on the event loop, the first answer would have come after it.
    assert answers >= 5


def test_metrics_count_what_was_done(runtime):
    names = [
        "inference_seconds_count",
        "inference_seconds_sum",
        "queue_seconds_count",
        "steps_total",
    ]
    before = {name: runtime.metric(name) for name in names}
    succeeded = runtime.metric("requests_total", outcome="succeeded")
    runtime.predict(ONE, ONE)
    assert runtime.metric("requests_total", outcome="succeeded") == succeeded + 1
    assert runtime.metric("inference_seconds_count") == before["inference_seconds_count"] + 2
    assert runtime.metric("inference_seconds_sum") > before["inference_seconds_sum"]
    assert runtime.metric("queue_seconds_count") == before["queue_seconds_count"] + 1
    assert runtime.metric("steps_total") == before["steps_total"] + 4
    assert runtime.metric("model_load_seconds") > 0
    assert runtime.metric("ready") == 1
