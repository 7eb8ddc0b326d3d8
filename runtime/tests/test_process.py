"""The process as an operator sees it: its output, its ports, its signals, its exit status."""

import base64
import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from harness import PATIENCE, PREDICT, STREAM, EventReader, eventually

from diffusers_runtime import __version__
from diffusers_runtime.config import settings_table


class Process:
    """`python -m diffusers_runtime` on free ports; its log lines as they come."""

    def __init__(self, **environment: str) -> None:
        self.lines: list[dict] = []
        self._child = subprocess.Popen(
            [sys.executable, "-m", "diffusers_runtime"],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "PORT": "0",
                "METRICS_PORT": "0",
                "DEVICE": "cpu",
                "TORCH_THREADS": "1",
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self._child.stdout:
            self.lines.append(json.loads(line))  # every line must be JSON

    def logged(self, message: str) -> list[dict]:
        return [line for line in self.lines if line["message"] == message]

    def connect(self) -> tuple[httpx.Client, httpx.Client]:
        """Clients of the API and of the metrics port."""
        eventually(lambda: self.logged("listening") or self._child.poll() is not None)
        (line,) = self.logged("listening")
        return tuple(
            httpx.Client(base_url=line[url], timeout=PATIENCE) for url in ("url", "metrics_url")
        )

    def signal(self, number: int) -> None:
        self._child.send_signal(number)

    def exit_status(self) -> int:
        status = self._child.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status

    def stop(self) -> None:
        if self._child.poll() is None:
            self._child.kill()
        self.exit_status()
        self._child.stdout.close()
        self._child.stderr.close()


@pytest.fixture
def start():
    processes = []

    def begin(**environment: str) -> Process:
        processes.append(Process(**environment))
        return processes[-1]

    yield begin
    for process in processes:
        process.stop()


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "diffusers_runtime", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_from_start_to_ready_to_a_drained_end(start, folders):
    process = start(MODEL_ID=str(folders("sd")), LOG_LEVEL="info")
    api, metrics = process.connect()

    # torch is being imported: alive already, not ready yet.
    assert api.get("/health").json()["ready"] is False
    assert api.get("/v2/health/ready").status_code == 503
    eventually(lambda: api.get("/v2/health/ready").status_code == 200)

    text = metrics.get("/metrics").text
    assert "diffusers_runtime_ready 1.0" in text
    assert "diffusers_runtime_model_load_seconds" in text
    assert api.get("/metrics").status_code == 404

    instances = {"instances": [{"prompt": "a secret cat", "num_inference_steps": 149}] * 2}
    with (
        ThreadPoolExecutor() as pool,
        api.stream("POST", PREDICT, json=instances, headers=STREAM) as response,
    ):
        running = EventReader(response)
        assert running.next()[0] == "progress"
        queued = pool.submit(api.post, PREDICT, json=instances)
        eventually(lambda: "diffusers_runtime_queue_length 1.0" in metrics.get("/metrics").text)

        process.signal(signal.SIGTERM)
        refused = queued.result()
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert api.get("/health").status_code == 200
        assert api.get("/v2/health/ready").status_code == 503

        kind, result = running.rest()[-1]
    assert kind == "result"
    assert len(result["predictions"]) == 2
    assert base64.b64decode(result["predictions"][1]["image"]["b64"]).startswith(b"\x89PNG")

    assert process.exit_status() == 0
    outcomes = [line["outcome"] for line in process.logged("prediction")]
    assert outcomes == ["runtime_unavailable", "succeeded"]
    assert "secret" not in json.dumps(process.lines)


def test_a_model_that_cannot_be_loaded_ends_the_process_with_advice(start, tmp_path):
    process = start(MODEL_ID=str(tmp_path / "not-mounted"))
    assert process.exit_status() == 1
    (error,) = [line for line in process.lines if line["level"] == "error"]
    assert "there is no such folder. Mount the model there" in error["message"]
    assert "traceback" not in error


def test_a_termination_while_loading_ends_at_once(start, folders):
    process = start(MODEL_ID=str(folders("sd")))
    api, _ = process.connect()
    eventually(lambda: api.get("/health").status_code == 200)
    process.signal(signal.SIGTERM)
    assert process.exit_status() == 0
    assert process.logged("ready") == []


def test_a_port_in_use_ends_the_process_with_advice(runtime):
    finished = run(PORT=str(runtime.port), METRICS_PORT="0")
    assert finished.returncode == 1
    line = json.loads(finished.stdout)
    assert "Check HOST, PORT and METRICS_PORT" in line["message"]
    assert line["url"].endswith(f":{runtime.port}")


def test_a_wrong_environment_is_listed_whole_and_exits_with_2():
    finished = run(PORT="x", DTYPE="y", ENABLE_LOW_CPU_MEM="z")
    assert finished.returncode == 2
    variables = [line.split(":")[0] for line in finished.stderr.splitlines()]
    assert variables == ["PORT", "DTYPE", "ENABLE_LOW_CPU_MEM"]


def test_help_prints_the_settings():
    finished = run("--help")
    assert finished.returncode == 0
    assert settings_table() in finished.stdout


def test_version():
    assert run("--version").stdout.strip() == __version__
