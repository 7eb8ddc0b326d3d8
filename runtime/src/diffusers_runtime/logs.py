"""One JSON object per line on standard output."""

import json
import logging
import sys
from datetime import UTC, datetime


class JsonFormatter(logging.Formatter):
    """Turns a record into one JSON line; `extra={"fields": {...}}` adds keys of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON, without a line end."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def set_up_logging(level: str) -> None:
    """Send every logger's records, warnings included, through JsonFormatter from `level` up."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    if level == "debug":
        # Their debug lines are about connections and plug-ins, by the hundred.
        for noisy in ("asyncio", "filelock", "httpcore", "PIL", "urllib3"):
            logging.getLogger(noisy).setLevel(logging.INFO)


def quiet_model_libraries(level: str) -> None:
    """Make diffusers and transformers log through us, without progress bars and without prompts.

    Their warnings quote prompts ("the following part of your input was truncated"), so below
    `debug` only their errors get through. Imports both libraries, which takes seconds.
    """
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.disable_default_handler()
        library.utils.logging.enable_propagation()
        library.utils.logging.set_verbosity(logging.WARNING if level == "debug" else logging.ERROR)
        library.utils.logging.disable_progress_bar()
