"""Whoever hangs up stops the work on their picture at the next step, and nobody else's."""

import contextlib
import threading

import pytest
from harness import eventually

LONG = {"prompt": "a red cat", "seed": 7, "num_inference_steps": 100}
SHORT = {"prompt": "a dog", "seed": 8, "num_inference_steps": 2}


@pytest.fixture
def hang_ups(runtime, monkeypatch):
    """Counts the connections whose end has reached the worker."""
    counted = threading.Semaphore(0)
    cancel = runtime.worker.cancel

    def counting(job):
        cancel(job)
        counted.release()

    monkeypatch.setattr(runtime.worker, "cancel", counting)
    return counted


def cancelled(runtime) -> float:
    return runtime.metric("requests_total", outcome="cancelled")


@contextlib.contextmanager
def plain(runtime, instance):
    connection = runtime.open_request(instance)
    yield
    connection.close()


@pytest.mark.parametrize("form", ["plain", "streamed"])
def test_a_running_picture_stops_at_the_next_step(runtime, gate, hang_ups, form):
    expected = runtime_bytes(runtime, gate, SHORT)
    before, begun = cancelled(runtime), gate.begun

    with plain(runtime, LONG) if form == "plain" else runtime.stream(LONG):
        gate.let_through(3)
        eventually(lambda: gate.begun == begun + 4)
    hang_ups.acquire()
    gate.let_through(100)
    eventually(lambda: cancelled(runtime) == before + 1)

    # The step that was under way when the client left is the last.
    assert gate.begun == begun + 4
    # The next picture is what it always was.
    assert runtime_bytes(runtime, gate, SHORT) == expected


@pytest.mark.parametrize("form", ["plain", "streamed"])
def test_a_queued_picture_never_runs_and_frees_its_place(runtime, gate, hang_ups, form):
    before, inferences = cancelled(runtime), runtime.metric("inference_seconds_count")
    with runtime.stream(SHORT) as first:
        eventually(lambda: gate.begun == 1)
        with plain(runtime, LONG) if form == "plain" else runtime.stream(LONG):
            eventually(lambda: runtime.metric("queue_length") == 1)
        hang_ups.acquire()
        assert runtime.metric("queue_length") == 0
        assert cancelled(runtime) == before + 1
        gate.let_through(100)
        assert first.rest()[-1][0] == "result"
    eventually(lambda: runtime.metric("in_flight") == 0)
    assert gate.begun == 2
    assert runtime.metric("inference_seconds_count") == inferences + 1


def test_a_client_that_leaves_between_two_of_its_pictures_gets_no_further_ones(
    runtime, gate, hang_ups
):
    with runtime.stream(SHORT, SHORT, SHORT):
        gate.let_through(2)
        eventually(lambda: gate.begun == 3)
    hang_ups.acquire()
    gate.let_through(100)
    eventually(lambda: runtime.metric("in_flight") == 0)
    assert gate.begun == 3


def test_hanging_up_leaves_the_others_alone(runtime, gate, hang_ups):
    with runtime.stream(SHORT) as stays:
        eventually(lambda: gate.begun == 1)
        with runtime.stream(LONG):
            pass
        hang_ups.acquire()
        gate.open()
        assert stays.rest()[-1][0] == "result"


def runtime_bytes(runtime, gate, instance) -> str:
    gate.let_through(instance["num_inference_steps"])
    return runtime.predict(instance).json()["predictions"][0]["image"]["b64"]
