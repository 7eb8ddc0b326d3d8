"""One picture at a time, a bounded queue before it, and failures that stay with their request."""

import concurrent.futures
import threading
import weakref

import pytest
import torch
from harness import Gate, eventually
from test_stream import Wrapped

ONE = {"prompt": "a red cat", "seed": 7, "num_inference_steps": 2}


def test_predictions_over_the_queue_limit_are_refused_at_once(serve):
    runtime = serve(queue_limit=2)
    gate = Gate(runtime.pipe)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        accepted = [pool.submit(runtime.predict, ONE)]
        eventually(lambda: gate.begun == 1)
        accepted += [pool.submit(runtime.predict, ONE) for _ in range(2)]
        eventually(lambda: runtime.metric("queue_length") == 2)

        refused = runtime.predict(ONE)
        assert refused.status_code == 503
        assert 1 <= int(refused.headers["retry-after"]) <= 120
        assert "2 predictions are waiting" in refused.json()["error"]
        assert runtime.metric("requests_total", outcome="overloaded") == 1

        gate.remove()
        assert [answer.result().status_code for answer in accepted] == [200] * 3
    assert runtime.metric("queue_length") == 0
    assert runtime.predict(ONE).status_code == 200


def test_without_a_queue_one_prediction_still_runs(serve):
    runtime = serve(queue_limit=0)
    assert runtime.predict(ONE).status_code == 200
    gate = Gate(runtime.pipe)
    with runtime.stream(ONE):
        eventually(lambda: gate.begun == 1)
        assert runtime.predict(ONE).status_code == 503
        gate.remove()


def test_predictions_run_one_at_a_time_in_order_of_arrival(runtime, gate):
    before = gate.begun
    with runtime.stream(ONE) as first, runtime.stream(ONE) as second, runtime.stream(ONE) as third:
        eventually(lambda: gate.begun == before + 1)
        for step, stream in enumerate((first, second, third)):
            assert runtime.metric("queue_length") == 2 - step
            assert runtime.metric("in_flight") == 1
            gate.let_through(2)
            assert stream.rest()[-1][0] == "result"
            if stream is not third:
                eventually(lambda step=step: gate.begun == before + 2 * (step + 1) + 1)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_running_out_of_memory_fails_one_request_only(runtime, monkeypatch, error):
    expected = runtime.predict(ONE).json()["predictions"][0]["image"]
    with monkeypatch.context() as patch:
        patch.setattr(runtime.worker.model, "pipe", Wrapped(runtime.pipe, raising(error)))
        response = runtime.predict(ONE)
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert "out of memory" in response.json()["error"]
    assert "GiB" not in response.text
    assert runtime.predict(ONE).json()["predictions"][0]["image"] == expected


def test_the_memory_of_a_failed_picture_is_free_when_the_cache_is_emptied(runtime, monkeypatch):
    leftovers = []

    def hungry(**_):
        tensor = torch.zeros(1)
        leftovers.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError("CUDA out of memory")

    alive_when_emptied = []
    monkeypatch.setattr(runtime.worker.model, "pipe", Wrapped(runtime.pipe, hungry))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "empty_cache", lambda: alive_when_emptied.append(leftovers[0]() is not None)
    )
    assert runtime.predict(ONE).status_code == 503
    assert alive_when_emptied == [False]


def test_a_picture_of_another_size_than_asked_is_a_failure(runtime, monkeypatch):
    pipe = runtime.pipe
    shrunk = Wrapped(pipe, lambda **arguments: pipe(**{**arguments, "width": 64}))
    monkeypatch.setattr(runtime.worker.model, "pipe", shrunk)
    assert runtime.predict({**ONE, "width": 128}).status_code == 500


def test_a_failing_pipeline_is_a_500_whose_cause_only_the_log_has(runtime, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        broken = raising(ValueError("a private cause"))
        patch.setattr(runtime.worker.model, "pipe", Wrapped(runtime.pipe, broken))
        response = runtime.predict(ONE, **{"X-Request-Id": "find-me"})
    assert response.status_code == 500
    assert "private" not in response.text
    assert "find-me" in response.json()["error"]
    (record,) = [r for r in caplog.records if r.exc_info]
    assert record.fields["request_id"] == "find-me"
    assert "a private cause" in caplog.text
    assert runtime.predict(ONE).status_code == 200


def test_a_lost_device_ends_the_service_so_that_a_new_process_can_take_over(serve, monkeypatch):
    runtime = serve()
    broken = raising(torch.AcceleratorError("CUDA error: an illegal memory access"))
    monkeypatch.setattr(runtime.worker.model, "pipe", Wrapped(runtime.pipe, broken))
    assert runtime.predict(ONE).status_code == 500
    assert runtime.failed.wait(timeout=60)
    assert runtime.client.get("/v2/health/ready").status_code == 503
    assert runtime.predict(ONE).status_code == 503


def test_draining_refuses_what_waits_and_lets_the_running_one_finish(serve):
    runtime = serve()
    gate = Gate(runtime.pipe)
    with runtime.stream(ONE) as running, runtime.stream(ONE) as queued:
        eventually(lambda: gate.begun == 1)
        finished = []
        drain = threading.Thread(target=lambda: finished.append(runtime.worker.drain(seconds=60)))
        drain.start()

        ((kind, data),) = queued.rest()
        assert kind == "error"
        assert data["code"] == "runtime_unavailable"
        late = runtime.predict(ONE)
        assert late.status_code == 503
        assert late.headers["retry-after"]

        gate.remove()
        assert running.rest()[-1][0] == "result"
        drain.join()
    assert finished == [True]


def test_draining_cuts_off_a_prediction_that_takes_too_long(serve):
    runtime = serve()
    gate = Gate(runtime.pipe)
    with runtime.stream({**ONE, "num_inference_steps": 149}) as running:
        eventually(lambda: gate.begun == 1)
        finished = []
        drain = threading.Thread(target=lambda: finished.append(runtime.worker.drain(seconds=0)))
        drain.start()
        eventually(lambda: not runtime.worker.ready)
        gate.remove()
        kind, data = running.rest()[-1]
        drain.join()
    assert kind == "error"
    assert data["code"] == "runtime_unavailable"
    assert finished == [False]


def raising(error):
    def call(**_):
        raise error

    return call
