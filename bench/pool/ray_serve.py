"""The peer: Ray Serve's own router before REPLICAS replicas, which take one request at a time and only wait.

Every replica is a process. The bound of requests that wait is QUEUE, as at this project's server.
"""

import asyncio
import json
import os
import signal
import socket
import threading

import ray
from ray import serve

SERVICE_S = float(os.environ["SERVICE_MS"]) / 1000
REPLICAS = int(os.environ["REPLICAS"])


@serve.deployment(
    num_replicas=REPLICAS,
    max_ongoing_requests=1,
    max_queued_requests=int(os.environ["QUEUE"]),
    # A replica that waits needs no core of its own.
    ray_actor_options={"num_cpus": 0},
)
class Slot:
    """A runtime with one slot."""

    def __init__(self) -> None:
        """Learn which replica this is."""
        self.name = serve.get_replica_context().replica_id.unique_id

    async def __call__(self, _: object) -> dict[str, str]:
        """Take as long as a picture takes."""
        await asyncio.sleep(SERVICE_S)
        return {"replica": self.name}


def free_port() -> int:
    """Choose a port of this machine that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def main() -> None:
    """Serve until SIGTERM, and say where."""
    port = free_port()
    ray.init(_node_ip_address="127.0.0.1", include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    serve.run(Slot.bind())
    print(json.dumps({"url": f"http://127.0.0.1:{port}", "version": ray.__version__}), flush=True)
    stopped.wait()
    serve.shutdown()
    ray.shutdown()


main()
