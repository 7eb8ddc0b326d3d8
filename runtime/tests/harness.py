"""The real app on a real socket, inside the test's process, and means to hold it still."""

import contextlib
import dataclasses
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import uvicorn

from diffusers_runtime.app import create_app
from diffusers_runtime.config import Config, load_config
from diffusers_runtime.metrics import Metrics
from diffusers_runtime.worker import Worker

PREDICT = "/v1/models/model:predict"
STREAM = {"Accept": "text/event-stream"}
PATIENCE = 120  # seconds until a wait counts as failed; no test is meant to come near


class Runtime:
    """One running server."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.metrics = Metrics()
        self.failed = threading.Event()
        self.worker = Worker(config, self.metrics, on_failure=self.failed.set)
        self._server = uvicorn.Server(
            uvicorn.Config(
                create_app(config, self.worker, self.metrics),
                port=0,
                http="h11",
                lifespan="off",
                log_config=None,
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def start(self) -> None:
        """Listen, and begin to load the model."""
        self._thread.start()
        eventually(lambda: self._server.started)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=PATIENCE)
        self.worker.start()

    def stop(self) -> None:
        """Drain and close."""
        self.worker.drain(seconds=0)
        self.client.close()
        self._server.should_exit = True
        self._thread.join(PATIENCE)
        assert self.worker.stopped(PATIENCE)

    @property
    def pipe(self) -> object:
        """The diffusers pipeline, once ready."""
        return self.worker.model.pipe

    def predict(self, *instances: dict, **headers: str) -> httpx.Response:
        """A plain prediction."""
        return self.client.post(PREDICT, json={"instances": instances}, headers=headers)

    @contextlib.contextmanager
    def stream(self, *instances: dict) -> Iterator["EventReader"]:
        """A streamed prediction; leaving the block closes the connection."""
        body = {"instances": instances}
        with self.client.stream("POST", PREDICT, json=body, headers=STREAM) as response:
            yield EventReader(response)

    def open_request(self, *instances: dict) -> http.client.HTTPConnection:
        """A plain prediction of which nobody reads the answer yet; close() hangs up."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        body = json.dumps({"instances": instances})
        connection.request("POST", PREDICT, body, {"Content-Type": "application/json"})
        return connection

    def metric(self, name: str, **labels: str) -> float:
        """The present value of one of our metrics."""
        return self.metrics.registry.get_sample_value(f"diffusers_runtime_{name}", labels) or 0


class EventReader:
    """Server-sent events as (event, data) pairs; comments as ("comment", text)."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.iter_lines()

    def next(self) -> tuple[str, object]:
        """The next event; StopIteration at the end of the stream."""
        block = []
        while line := next(self._lines):
            block.append(line)
        if block[0].startswith(":"):
            return "comment", block[0][1:].strip()
        fields = dict(line.split(": ", 1) for line in block)
        return fields["event"], json.loads(fields["data"])

    def rest(self) -> list[tuple[str, object]]:
        """All events up to the end of the stream."""
        events = []
        with contextlib.suppress(StopIteration):
            while True:
                events.append(self.next())
        return events


class Gate:
    """Holds denoising still: each step waits until it is let through."""

    def __init__(self, pipe: object) -> None:
        self.begun = 0
        self._permits = threading.Semaphore(0)
        self._open = False
        self._hook = pipe.unet.register_forward_pre_hook(self._pass)

    def _pass(self, *_: object) -> None:
        self.begun += 1
        if not self._open and not self._permits.acquire(timeout=PATIENCE):
            raise TimeoutError("the test forgot to open the gate")

    def let_through(self, steps: int) -> None:
        """Let so many steps through, those that wait and those to come."""
        self._permits.release(steps)

    def open(self) -> None:
        """Let everything through from now on, without counting permits."""
        self._open = True
        self._permits.release(1000)

    def remove(self) -> None:
        """Open, and be gone."""
        self.open()
        self._hook.remove()


def eventually(condition: Callable[[], object]) -> None:
    """Wait until the condition holds; fails loudly when it never does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def config_for(folder: object, **changes: object) -> Config:
    """The default configuration for a pipeline folder, on one CPU thread."""
    base = load_config({"MODEL_ID": str(folder), "DEVICE": "cpu", "TORCH_THREADS": "1"})
    return dataclasses.replace(base, **changes)
