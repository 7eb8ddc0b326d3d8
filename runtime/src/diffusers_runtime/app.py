"""HTTP in, jobs out: KServe's v1 and v2 routes on FastAPI."""

import asyncio
import json
import logging
import re
import uuid

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from . import __version__
from .config import Config
from .errors import ApiError
from .instances import parse_instances
from .metrics import Metrics
from .worker import Job, Worker

log = logging.getLogger(__name__)


def create_app(config: Config, worker: Worker, metrics: Metrics) -> FastAPI:
    """The HTTP surface over a started worker. Every error is `{"error": "..."}`."""
    app = FastAPI(
        title="diffusers-runtime",
        version=__version__,
        openapi_url=None,  # and with it the documentation pages, which load scripts from elsewhere
        redirect_slashes=False,  # a redirect would echo the Host header
    )

    @app.exception_handler(ApiError)
    async def _api_error(request: Request, error: ApiError) -> Response:
        headers = {"X-Request-Id": _request_id(request)}
        if error.retry_after is not None:
            headers["Retry-After"] = str(error.retry_after)
        return _json({"error": error.message}, error.status, headers)

    @app.exception_handler(HTTPException)
    async def _http_error(request: Request, error: HTTPException) -> Response:
        # Not request.url: it is put together with the Host header, which may be anything.
        message = f"{request.method} {request.scope['path'][:200]}: {error.detail}"
        return _json({"error": message}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def _bug(request: Request, error: Exception) -> Response:
        return _json({"error": "internal error, the runtime's log has the cause"}, 500)

    def require_model(name: str) -> None:
        if name != config.model_name:
            raise ApiError(
                "not_found", f"there is no model {name!r} here, only {config.model_name!r}"
            )

    @app.post("/v1/models/{name}:predict")
    async def predict(name: str, request: Request) -> Response:
        try:
            require_model(name)
            worker.check_ready()
            _require_json(request)
            body = await _bounded_body(request, config.max_body_bytes)
            instances = parse_instances(body, worker.model.limits, config.max_instances)
            job = worker.submit(instances, _request_id(request))
        except ApiError as error:
            metrics.requests.labels(error.code).inc()
            log.info(
                "prediction",
                extra={"fields": {"request_id": _request_id(request), "outcome": error.code}},
            )
            raise
        if _accepts_event_stream(request):
            return EventStream(job, worker, config.keepalive_seconds)
        return await _answer(job, worker, request)

    @app.get("/v1/models/{name}:predict")
    async def predict_is_post(name: str) -> Response:
        # Without this route the one below would take "name:predict" for a model's name.
        raise HTTPException(405, "Method Not Allowed", {"Allow": "POST"})

    @app.get("/")
    async def alive() -> Response:
        return _json({"status": "alive"})

    @app.get("/health")
    async def health() -> Response:
        return _json({"status": "ok", "ready": worker.ready, "model": config.model_name})

    @app.get("/v1/models")
    async def models() -> Response:
        return _json({"models": [config.model_name]})

    @app.get("/v1/models/{name}")
    async def model(name: str) -> Response:
        require_model(name)
        worker.check_ready()
        return _json({"name": name, "ready": True})

    @app.get("/v2")
    async def server_metadata() -> Response:
        return _json({"name": "diffusers-runtime", "version": __version__, "extensions": []})

    @app.get("/v2/health/live")
    async def live() -> Response:
        return _json({"live": True})

    @app.get("/v2/health/ready")
    async def ready() -> Response:
        return _json({"ready": worker.ready}, 200 if worker.ready else 503)

    @app.get("/v2/models/{name}")
    async def model_metadata(name: str) -> Response:
        require_model(name)
        # No tensors: predictions are made through the v1 protocol.
        return _json(
            {"name": name, "versions": [], "platform": "diffusers", "inputs": [], "outputs": []}
        )

    @app.get("/v2/models/{name}/ready")
    async def model_ready(name: str) -> Response:
        require_model(name)
        return _json({"name": name, "ready": worker.ready}, 200 if worker.ready else 503)

    return app


class EventStream(Response):
    """A job's events as server-sent events, with a comment line whenever none came for a while.

    The headers go out at once. The end of the connection, whichever side ends it, cancels the job.
    """

    def __init__(self, job: Job, worker: Worker, keepalive_seconds: float) -> None:
        self.status_code = 200
        self.background = None
        self._job = job
        self._worker = worker
        self._keepalive_seconds = keepalive_seconds
        self.init_headers(
            {
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",  # nginx would hold events back
                "X-Request-Id": job.request_id,
            }
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream (ASGI)."""
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            last = False
            while not last and not gone.done():
                text, last = await self._next(gone)
                await send({"type": "http.response.body", "body": text, "more_body": not last})
        finally:
            gone.cancel()
            self._worker.cancel(self._job)

    async def _next(self, gone: asyncio.Task) -> tuple[bytes, bool]:
        """The next piece of the stream and whether it is the last."""
        event = asyncio.create_task(self._job.events.get())
        try:
            await asyncio.wait(
                {event, gone},
                timeout=self._keepalive_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            if not event.done():
                event.cancel()
        if not event.done() or event.cancelled():
            return b": keep-alive\n\n", False
        kind, value = event.result()
        if kind == "error":
            value = json.dumps({"error": value.message, "code": value.code}).encode()
        return b"event: " + kind.encode() + b"\ndata: " + value + b"\n\n", kind != "progress"


async def _answer(job: Job, worker: Worker, request: Request) -> Response:
    """Wait for a job's end; a client that leaves earlier cancels it."""
    gone = asyncio.create_task(_disconnected(request.receive))
    end = asyncio.create_task(_end(job))
    try:
        await asyncio.wait({gone, end}, return_when=asyncio.FIRST_COMPLETED)
        worker.cancel(job)  # does nothing to a finished job
        kind, value = await end
    finally:
        gone.cancel()
        end.cancel()
        worker.cancel(job)
    if kind == "error":
        raise value
    return Response(value, 200, {"X-Request-Id": job.request_id}, "application/json")


async def _end(job: Job) -> tuple[str, object]:
    while True:
        kind, value = await job.events.get()
        if kind != "progress":
            return kind, value


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _bounded_body(request: Request, limit: int) -> bytes:
    error = ApiError("too_large", f"the body is larger than {limit} bytes, which is the limit")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise error
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise error
    return bytes(body)


def _require_json(request: Request) -> None:
    got = request.headers.get("content-type", "")
    if got.split(";")[0].strip().lower() != "application/json":
        raise ApiError(
            "unsupported_media_type",
            f"Content-Type: got {got[:80]!r}, allowed: application/json",
        )


def _accepts_event_stream(request: Request) -> bool:
    types = request.headers.get("accept", "").split(",")
    return any(t.split(";")[0].strip().lower() == "text/event-stream" for t in types)


def _request_id(request: Request) -> str:
    """The caller's X-Request-Id when it is fit for a log line and a header, else a new one."""
    if not hasattr(request.state, "request_id"):
        given = request.headers.get("x-request-id", "")
        fit = re.fullmatch(r"[A-Za-z0-9._:/+=-]{1,128}", given)
        request.state.request_id = given if fit else str(uuid.uuid4())
    return request.state.request_id


def _json(body: dict, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(body), status, headers, "application/json")
