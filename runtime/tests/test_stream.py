"""`Accept: text/event-stream` turns a prediction into progress and one last event."""

import pytest
from harness import PREDICT, STREAM, eventually

ONE = {"prompt": "a red cat", "seed": 7, "num_inference_steps": 3}
TWO = {"prompt": "a dog", "seed": 8, "num_inference_steps": 2}


def test_progress_comes_step_by_step_and_then_the_result(runtime):
    plain = runtime.predict(ONE, TWO).json()["predictions"]
    with runtime.stream(ONE, TWO) as stream:
        assert stream.response.status_code == 200
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        *progress, (last, result) = stream.rest()

    assert progress == [
        ("progress", {"instance": instance, "step": step, "steps": steps})
        for instance, steps in ((0, 3), (1, 2))
        for step in range(1, steps + 1)
    ]
    assert last == "result"
    for prediction in (*plain, *result["predictions"]):
        del prediction["inference_ms"]
    assert result["predictions"] == plain


def test_each_step_is_told_when_it_is_done_and_not_at_the_end(runtime, gate):
    with runtime.stream(ONE) as stream:
        for step in (1, 2, 3):
            gate.let_through(1)
            assert stream.next() == ("progress", {"instance": 0, "step": step, "steps": 3})
            assert gate.begun <= step + 1
        assert stream.next()[0] == "result"


def test_steps_are_those_the_scheduler_takes(serve):
    from diffusers import HeunDiscreteScheduler

    runtime = serve()
    runtime.pipe.scheduler = HeunDiscreteScheduler.from_config(runtime.pipe.scheduler.config)
    with runtime.stream(ONE) as stream:
        *progress, _ = stream.rest()
    # A second-order scheduler evaluates twice per step, but for the last.
    assert [data["step"] for _, data in progress] == [1, 2, 3, 4, 5]
    assert {data["steps"] for _, data in progress} == {5}


def test_headers_go_out_at_once_even_from_the_queue(runtime, gate):
    with runtime.stream(ONE), runtime.stream(TWO) as queued:
        # Nothing has been drawn yet, so only the headers can have come.
        eventually(lambda: gate.begun == 1)
        assert queued.response.status_code == 200
        assert runtime.metric("queue_length") == 1
        gate.open()
        assert queued.rest()[-1][0] == "result"


def test_silence_is_filled_with_comments(serve):
    from harness import Gate

    runtime = serve(keepalive_seconds=0.02)
    gate = Gate(runtime.pipe)
    with runtime.stream(ONE) as stream:
        assert [stream.next() for _ in range(3)] == [("comment", "keep-alive")] * 3
        gate.remove()
        assert stream.rest()[-1][0] == "result"


def test_a_failure_is_the_last_event(runtime, monkeypatch):
    def broken(**_):
        raise ValueError("a private cause")

    monkeypatch.setattr(runtime.worker.model, "pipe", Wrapped(runtime.pipe, broken))
    with runtime.stream(ONE) as stream:
        ((kind, data),) = stream.rest()
    assert kind == "error"
    assert data["code"] == "runtime_failed"
    assert "private" not in data["error"]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("text/event-stream", "text/event-stream"),
        ("application/json;q=0.5, Text/Event-Stream;q=0.9", "text/event-stream"),
        ("application/json", "application/json"),
        ("*/*", "application/json"),
    ],
)
def test_the_accept_header_decides(runtime, accept, content_type):
    response = runtime.client.post(PREDICT, json={"instances": [ONE]}, headers={"Accept": accept})
    assert response.headers["content-type"].split(";")[0] == content_type


def test_the_stream_carries_the_request_id(runtime):
    headers = {**STREAM, "X-Request-Id": "abc"}
    response = runtime.client.post(PREDICT, json={"instances": [ONE]}, headers=headers)
    assert response.headers["x-request-id"] == "abc"


class Wrapped:
    """A pipeline whose call is replaced."""

    def __init__(self, pipe, call):
        self._pipe, self._call = pipe, call

    def __call__(self, **arguments):
        return self._call(**arguments)

    def __getattr__(self, name):
        return getattr(self._pipe, name)
