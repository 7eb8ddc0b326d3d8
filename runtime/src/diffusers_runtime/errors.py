"""What can go wrong with a prediction, in words a caller can act on."""

# The codes are shared with the MCP server, which passes those of a stream on to its own callers.
# The statuses are this server's: its own pipeline failing is a 500 here and a 502 one hop later.
STATUS = {
    "invalid_request": 400,
    "not_found": 404,
    "method_not_allowed": 405,
    "cancelled": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "runtime_failed": 500,
    "overloaded": 503,
    "runtime_unavailable": 503,
}


class ApiError(Exception):
    """A refusal or failure with a public message.

    `code` is a key of STATUS. `retry_after` is in seconds and goes out as the Retry-After header.
    """

    def __init__(self, code: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = STATUS[code]
        self.message = message
        self.retry_after = retry_after


class LoadError(Exception):
    """The model cannot be served; the message says why and what to do."""


class Interrupted(Exception):
    """Raised from a step callback to stop denoising; diffusers lets it through unchanged."""


class OutOfMemory(Exception):
    """The pictures asked for do not fit into memory. The pipeline itself is still usable."""


class DeviceLost(Exception):
    """The accelerator reported an error that only a new process gets rid of."""
