"""The peer: a FastMCP server with one tool, which relays to a runtime behind KServe's v1 protocol.

As FastMCP's own guide to deployment has it: stateless HTTP with JSON answers, one asynchronous client for all calls,
uvicorn on uvloop and httptools. The base64 of the runtime is handed on as it is, which is the least work there is.
"""

import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from fastmcp import FastMCP
from fastmcp.exceptions import ToolError
from mcp.types import ImageContent

PREDICT = "/v1/models/model:predict"
# As many connections as there are calls: the runtime alone limits.
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=None)
runtime = httpx.AsyncClient(base_url=os.environ["RUNTIME_URL"], timeout=None, limits=LIMITS)


@asynccontextmanager
async def lifespan(_: FastMCP) -> AsyncIterator[None]:
    """Close the client with the server."""
    async with runtime:
        yield


mcp = FastMCP("peer", lifespan=lifespan)


@mcp.tool
async def generate_image(
    prompt: str,
    width: int | None = None,
    height: int | None = None,
    num_inference_steps: int | None = None,
) -> ImageContent:
    """Make a picture from a text prompt."""
    asked = {
        "prompt": prompt,
        "width": width,
        "height": height,
        "num_inference_steps": num_inference_steps,
    }
    instance = {name: value for name, value in asked.items() if value is not None}
    answer = await runtime.post(PREDICT, json={"instances": [instance]})
    if answer.is_error:
        raise ToolError(f"The runtime answered {answer.status_code}.")
    image = answer.json()["predictions"][0]["image"]
    return ImageContent(type="image", data=image["b64"], mimeType="image/png")


def main() -> None:
    """Serve on a free port of this machine, and say which."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}"}), flush=True)
    app = mcp.http_app(stateless_http=True, json_response=True)
    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", lifespan="on", log_level="warning", access_log=False
    )
    uvicorn.Server(config).run(sockets=[listener])


main()
