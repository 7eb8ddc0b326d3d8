"""The process: read the environment, listen, load, serve, drain, exit."""

import argparse
import asyncio
import logging
import os
import socket
import sys

import uvicorn
from prometheus_client import start_http_server

from . import __version__
from .app import create_app
from .config import Config, ConfigError, load_config, settings_table
from .logs import set_up_logging
from .metrics import Metrics
from .worker import Worker

log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Run the server until SIGTERM or SIGINT.

    Returns the exit status: 0 after a clean end, 1 when the model or a port cannot be had or a
    picture was cut off at the end, 2 for a wrong environment.
    """
    parser = argparse.ArgumentParser(
        prog="diffusers-runtime",
        description="A KServe server for diffusers text-to-image pipelines, configured by these "
        "environment variables:\n\n" + settings_table(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.parse_args(arguments)
    try:
        config = load_config(os.environ)
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 2
    set_up_logging(config.log_level)
    return run(config)


def run(config: Config) -> int:
    """Serve with a checked configuration; see `main` for the status returned."""
    metrics = Metrics()
    try:
        listener = _listen(config)
        metrics_server, _ = start_http_server(config.metrics_port, config.host, metrics.registry)
    except OSError as error:
        log.error(
            f"cannot listen: {error}. Check HOST, PORT and METRICS_PORT, and what else uses them.",
            extra={"fields": _addresses(config.host, config.port, config.metrics_port)},
        )
        return 1
    worker = Worker(config, metrics, on_failure=lambda: server.stop())
    server = DrainingServer(create_app(config, worker, metrics), worker, config.drain_seconds)
    log.info(
        "listening",
        extra={
            "fields": _addresses(config.host, listener.getsockname()[1], metrics_server.server_port)
        },
    )
    worker.start()
    server.run(sockets=[listener])
    status = 1 if worker.failed or server.cut_off else 0
    log.info("stopped", extra={"fields": {"status": status}})
    if not worker.stopped(seconds=1):
        # The thread is loading a model or inside of a long step. Ending the interpreter under it
        # would crash; nothing is left to write.
        logging.shutdown()
        os._exit(status)
    return status


class DrainingServer(uvicorn.Server):
    """uvicorn that keeps answering while the running prediction finishes after SIGTERM."""

    def __init__(self, app: object, worker: Worker, drain_seconds: float) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                # Longer than clients keep idle connections, so that it is they who close them.
                timeout_keep_alive=75,
                timeout_graceful_shutdown=5,
            )
        )
        self.cut_off = False
        self._worker = worker
        self._drain_seconds = drain_seconds
        self._draining: asyncio.Task | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def stop(self) -> None:
        """Close the connections and return from `run`, without waiting for predictions."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Remember the loop for `handle_exit` (called by uvicorn)."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: object) -> None:
        """Start to drain; a second signal stops at once (called by uvicorn on SIGTERM, SIGINT)."""
        if self._loop is None or self._draining is not None:
            self.force_exit = self._draining is not None
            self.stop()
            return
        self._loop.call_soon_threadsafe(self._start_drain)

    def _start_drain(self) -> None:
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        log.info("draining", extra={"fields": {"drain_seconds": self._drain_seconds}})
        finished = await asyncio.to_thread(self._worker.drain, self._drain_seconds)
        self.cut_off = not finished
        self.stop()


def _listen(config: Config) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    dual = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    return socket.create_server(
        (config.host, config.port), family=family, backlog=2048, dualstack_ipv6=dual
    )


def _addresses(host: str, port: int, metrics_port: int) -> dict:
    name = f"[{host}]" if ":" in host else host
    return {"url": f"http://{name}:{port}", "metrics_url": f"http://{name}:{metrics_port}"}
