"""The one thread that loads the model and makes pictures, and the bounded queue before it."""

import asyncio
import base64
import collections
import json
import logging
import math
import threading
import time
from collections.abc import Callable

from .config import Config
from .errors import ApiError, DeviceLost, Interrupted, LoadError, OutOfMemory
from .instances import Instance
from .metrics import Metrics

log = logging.getLogger(__name__)

# Errors whose message says all there is to say; a traceback would bury it.
_EXPLAINED = (LoadError, DeviceLost)


class Job:
    """One accepted prediction, as its connection sees it.

    `events` yields ("progress", JSON bytes) any number of times, then once ("result", JSON bytes)
    or ("error", ApiError). Made on the event loop's thread.
    """

    def __init__(self, instances: list[Instance], request_id: str) -> None:
        self.instances = instances
        self.request_id = request_id
        self.events: asyncio.Queue = asyncio.Queue()
        self.accepted_at = time.perf_counter()
        self.queued_ms: int | None = None
        self.inference_ms: list[int] = []
        self.interruption: ApiError | None = None
        self._loop = asyncio.get_running_loop()

    def post(self, kind: str, value: object) -> None:
        """Hand an event to the connection; from any thread."""
        try:
            self._loop.call_soon_threadsafe(self.events.put_nowait, (kind, value))
        except RuntimeError:
            log.debug("the event loop is closed, nobody waits for this event any more")


class Worker:
    """Makes predictions one at a time, in order of arrival.

    Every method but `start` may be called from any thread. `on_failure` is called from the
    worker's thread when it cannot go on: the model did not load, or the device is lost.
    """

    def __init__(self, config: Config, metrics: Metrics, on_failure: Callable[[], None]) -> None:
        self._config = config
        self._metrics = metrics
        self._on_failure = on_failure
        self._changed = threading.Condition()
        self._waiting: collections.deque[Job] = collections.deque()
        self._running: Job | None = None
        self._draining = False
        self._last_seconds = 1.0
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self.model = None
        self.failed = False

    def start(self) -> None:
        """Begin to load the model."""
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether predictions are accepted: loaded, warmed up, not shutting down."""
        return self.model is not None and not self._draining and not self.failed

    def check_ready(self) -> None:
        """Raise ApiError(runtime_unavailable) unless ready."""
        if self._draining or self.failed:
            raise _shutting_down()
        if self.model is None:
            raise ApiError("runtime_unavailable", "the model is still loading, try again later", 10)

    def submit(self, instances: list[Instance], request_id: str) -> Job:
        """Queue a prediction. Raises ApiError: runtime_unavailable, or overloaded when full."""
        with self._changed:
            self.check_ready()
            if len(self._waiting) + (self._running is not None) > self._config.queue_limit:
                raise ApiError(
                    "overloaded",
                    f"{len(self._waiting)} predictions are waiting already, which is the limit; "
                    "try again later",
                    retry_after=min(120, max(1, math.ceil(self._last_seconds))),
                )
            job = Job(instances, request_id)
            self._waiting.append(job)
            self._metrics.queue_length.set(len(self._waiting))
            self._changed.notify_all()
        return job

    def cancel(self, job: Job) -> None:
        """Drop a waiting job, interrupt a running one at its next step, leave a finished one."""
        error = ApiError("cancelled", "the client closed the connection")
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                self._metrics.queue_length.set(len(self._waiting))
            elif job is self._running:
                job.interruption = job.interruption or error
                return
            else:
                return
        self._finish(job, error)

    def drain(self, seconds: float) -> bool:
        """Refuse new and waiting jobs, let the running one finish. Blocks for up to `seconds`.

        Returns whether it finished in time; if not, it is interrupted at its next step. Loading
        is not waited for.
        """
        with self._changed:
            self._draining = True
            self._metrics.ready.set(0)
            refused = list(self._waiting)
            self._waiting.clear()
            self._metrics.queue_length.set(0)
            self._changed.notify_all()
        for job in refused:
            self._finish(job, _shutting_down())
        with self._changed:
            finished = self._changed.wait_for(lambda: self._running is None, timeout=seconds)
            if not finished:
                self._running.interruption = _shutting_down()
                self._changed.wait_for(lambda: self._running is None, timeout=5)
        return finished

    def stopped(self, seconds: float) -> bool:
        """Wait up to `seconds` for the thread to end; whether it has."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._load()
            while job := self._next():
                self._make(job)
        except Exception as error:
            self.failed = True
            self._metrics.ready.set(0)
            log.error(
                f"cannot go on: {error}",
                exc_info=not isinstance(error, _EXPLAINED),
                extra={"fields": {"model_id": self._config.model_id}},
            )
            self._on_failure()

    def _load(self) -> None:
        started = time.perf_counter()
        # Here and not at the top: it imports torch, during which the server should answer.
        from . import pipeline

        model = pipeline.load(self._config)
        seconds = time.perf_counter() - started
        self._metrics.model_load_seconds.set(seconds)
        with self._changed:
            self.model = model
            self._metrics.ready.set(int(self.ready))
        log.info(
            "ready",
            extra={
                "fields": {"pipeline": model.limits.pipeline, "load_seconds": round(seconds, 1)}
            },
        )

    def _next(self) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._draining)
            if not self._waiting:
                return None
            job = self._waiting.popleft()
            self._running = job
            self._metrics.queue_length.set(len(self._waiting))
            self._metrics.in_flight.set(1)
        seconds = time.perf_counter() - job.accepted_at
        self._metrics.queue_seconds.observe(seconds)
        job.queued_ms = round(seconds * 1000)
        return job

    def _make(self, job: Job) -> None:
        def on_step(instance: int, step: int, steps: int) -> None:
            self._metrics.steps.inc()
            progress = {"instance": instance, "step": step, "steps": steps}
            job.post("progress", json.dumps(progress).encode())
            if job.interruption:
                raise Interrupted

        started = time.perf_counter()
        lost = None
        try:
            outcome = self._predictions(job, on_step)
        except Interrupted:
            outcome = job.interruption
        except OutOfMemory as error:
            log.warning(f"out of memory: {error}", extra=_request(job))
            outcome = ApiError(
                "overloaded",
                "out of memory: ask for fewer pixels or fewer instances, or try again later",
                retry_after=10,
            )
        except Exception as error:
            lost = error if isinstance(error, DeviceLost) else None
            log.exception("the pipeline failed", extra=_request(job))
            outcome = ApiError(
                "runtime_failed",
                "the pipeline failed on this request; the runtime's log has the cause under "
                f"request id {job.request_id}",
            )
        with self._changed:
            self._last_seconds = time.perf_counter() - started
            self._finish(job, outcome)
            self._running = None
            self._metrics.in_flight.set(0)
            self._changed.notify_all()
        if lost:
            raise lost

    def _predictions(self, job: Job, on_step: Callable[[int, int, int], None]) -> bytes:
        """Make a job's pictures and the JSON of its answer.

        The JSON is written here because that of large pictures would hold up the event loop.
        """
        if log.isEnabledFor(logging.DEBUG):
            prompts = [instance.prompt for instance in job.instances]
            log.debug("prompts", extra={"fields": {"request_id": job.request_id, "is": prompts}})
        pictures = self.model.generate(job.instances, on_step)
        job.inference_ms = [picture.inference_ms for picture in pictures]
        for picture in pictures:
            self._metrics.inference_seconds.observe(picture.inference_ms / 1000)
        predictions = [
            {
                "model_name": self._config.model_name,
                "prompt": instance.prompt,
                "image": {"format": "PNG", "b64": base64.b64encode(picture.png).decode("ascii")},
                "seed": instance.seed,
                "num_inference_steps": instance.num_inference_steps,
                "inference_ms": picture.inference_ms,
            }
            for instance, picture in zip(job.instances, pictures, strict=True)
        ]
        return json.dumps({"predictions": predictions}).encode()

    def _finish(self, job: Job, outcome: bytes | ApiError) -> None:
        failed = isinstance(outcome, ApiError)
        name = outcome.code if failed else "succeeded"
        self._metrics.requests.labels(name).inc()
        log.info(
            "prediction",
            extra={
                "fields": {
                    "request_id": job.request_id,
                    "outcome": name,
                    "seed": [i.seed for i in job.instances],
                    "steps": [i.num_inference_steps for i in job.instances],
                    "size": [f"{i.width}x{i.height}" for i in job.instances],
                    "queued_ms": job.queued_ms,
                    "inference_ms": job.inference_ms,
                }
            },
        )
        job.post("error" if failed else "result", outcome)


def _request(job: Job) -> dict:
    return {"fields": {"request_id": job.request_id}}


def _shutting_down() -> ApiError:
    return ApiError(
        "runtime_unavailable", "this runtime is shutting down, send the request again", 5
    )
