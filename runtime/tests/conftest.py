"""Fixtures: tiny pipelines and the demo model on disk, and servers for them."""

import os

# Before anything imports torch or the hub's client.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny_pipelines
import unpack
from harness import Gate, Runtime, config_for, eventually

SHIPPED_WEIGHTS = Path(unpack.__file__).with_name("weights")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny pipeline by kind, or of the demo model (icons), made on first use."""
    root = tmp_path_factory.mktemp("pipelines")

    def folder(kind: str) -> Path:
        target = root / kind
        if target.exists():
            return target
        if kind == "icons":
            unpack.unpack(SHIPPED_WEIGHTS, target)
            return target
        return tiny_pipelines.save(kind, root)

    return folder


@pytest.fixture
def serve(folders: Callable[[str], Path]) -> Iterator[Callable[..., Runtime]]:
    """Starts servers with settings of their own, ready unless told otherwise."""
    running = []

    def start(kind: str = "sd", ready: bool = True, **settings: object) -> Runtime:
        runtime = Runtime(config_for(folders(kind), **settings))
        running.append(runtime)
        runtime.start()
        if ready:
            eventually(lambda: runtime.worker.ready)
        return runtime

    yield start
    for runtime in running:
        runtime.stop()


@pytest.fixture(scope="session")
def shared_runtime(folders: Callable[[str], Path]) -> Iterator[Runtime]:
    """One server with default settings, for all tests that leave it as it was."""
    runtime = Runtime(config_for(folders("sd")))
    runtime.start()
    eventually(lambda: runtime.worker.ready)
    yield runtime
    runtime.stop()


@pytest.fixture
def runtime(shared_runtime: Runtime) -> Iterator[Runtime]:
    """The shared server, idle again after the test."""
    yield shared_runtime
    eventually(lambda: shared_runtime.metric("in_flight") == 0)
    assert shared_runtime.metric("queue_length") == 0


@pytest.fixture
def gate(runtime: Runtime) -> Iterator[Gate]:
    """Holds the shared server's denoising still."""
    gate = Gate(runtime.pipe)
    yield gate
    gate.remove()
