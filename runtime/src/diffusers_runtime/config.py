"""Environment -> Config, in one place. SETTINGS is the only list of variables there is."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .cpu_limit import usable_cpus


@dataclass(frozen=True)
class Config:
    """Every setting, checked. Fields are the variables of SETTINGS in lower case."""

    model_id: str
    model_name: str
    host: str
    port: int
    metrics_port: int
    dtype: str
    device: str
    enable_low_cpu_mem: bool
    enable_attention_slicing: bool
    enable_vae_slicing: bool
    enable_cpu_offload: bool
    torch_threads: int
    queue_limit: int
    max_instances: int
    max_body_bytes: int
    keepalive_seconds: float
    drain_seconds: float
    log_level: str


class ConfigError(Exception):
    """The environment is wrong; `problems` holds one sentence per wrong variable."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Setting:
    """One variable. `parse` raises ValueError for anything outside of `allowed`."""

    name: str
    default: str
    parse: Callable[[str], Any]
    allowed: str
    meaning: str


def load_config(environ: Mapping[str, str]) -> Config:
    """Read and check every setting; an empty value counts as absent.

    Raises ConfigError naming every wrong variable at once, so that one restart is enough.
    """
    values: dict[str, Any] = {}
    problems = []
    for setting in SETTINGS:
        text = environ.get(setting.name, "").strip() or setting.default
        try:
            values[setting.name.lower()] = setting.parse(text)
        except ValueError:
            problems.append(f"{setting.name}: got {text!r}, allowed: {setting.allowed}")
    ports = values.get("port"), values.get("metrics_port")
    if ports[0] and ports[0] == ports[1]:
        problems.append(f"METRICS_PORT: got {ports[1]!r}, allowed: a port other than PORT")
    if problems:
        raise ConfigError(problems)
    return Config(**values)


def settings_table() -> str:
    """The settings as a Markdown table, for --help and the README."""
    rows = ["| variable | default | allowed | meaning |", "| --- | --- | --- | --- |"]
    rows += [f"| `{s.name}` | `{s.default}` | {s.allowed} | {s.meaning} |" for s in SETTINGS]
    return "\n".join(rows)


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(text)
        return text.lower()

    return parse


def _matching(pattern: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(text)
        return text

    return parse


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        # int() alone would also take "1_000", " 7" and digits of other scripts.
        if not re.fullmatch(r"[0-9]{1,12}", text) or not low <= int(text) <= high:
            raise ValueError(text)
        return int(text)

    return parse


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = float(text)
        if not math.isfinite(value) or not low <= value <= high:
            raise ValueError(text)
        return value

    return parse


def _boolean(text: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in words:
        raise ValueError(text)
    return words[text.lower()]


def _threads(text: str) -> int:
    return usable_cpus() if text.lower() == "auto" else _whole(1, 1024)(text)


_TRUE_FALSE = "true, false, 1, 0, yes, no"

SETTINGS = (
    Setting(
        "MODEL_ID",
        "/mnt/models",
        _matching(r"[^\x00-\x1f]+"),
        "a folder that holds model_index.json, or a hub id such as owner/name",
        "the pipeline to serve",
    ),
    Setting(
        "MODEL_NAME",
        "model",
        _matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}"),
        "1 to 253 letters, digits, dots, dashes, underscores; a letter or digit first",
        "the model's name in URLs and answers",
    ),
    Setting(
        "HOST",
        "127.0.0.1",
        _matching(r"\S+"),
        "an address of this machine; 0.0.0.0 for all IPv4, :: for all",
        "where both ports listen; the container image sets 0.0.0.0",
    ),
    Setting("PORT", "8080", _whole(0, 65535), "0 to 65535; 0 takes a free port", "the API"),
    Setting(
        "METRICS_PORT",
        "8888",
        _whole(0, 65535),
        "0 to 65535, other than PORT; 0 takes a free port",
        "Prometheus metrics, under /metrics",
    ),
    Setting(
        "DTYPE",
        "auto",
        _one_of("auto", "bfloat16", "float16", "float32", "native"),
        "auto, bfloat16, float16, float32, native",
        "the weights' type; native: as stored. auto: on CUDA bfloat16 from compute capability 8.0, "
        "else native unless that is float32, then float16; on the CPU native; on MPS float32",
    ),
    Setting(
        "DEVICE",
        "auto",
        _one_of("auto", "cpu", "cuda", "mps"),
        "auto, cpu, cuda, mps",
        "where to compute; auto: cuda, else mps, else cpu",
    ),
    Setting(
        "ENABLE_LOW_CPU_MEM",
        "true",
        _boolean,
        _TRUE_FALSE,
        "load weights without a second copy in main memory",
    ),
    Setting(
        "ENABLE_ATTENTION_SLICING",
        "true",
        _boolean,
        _TRUE_FALSE,
        "compute attention in slices: less memory, slower",
    ),
    Setting(
        "ENABLE_VAE_SLICING",
        "true",
        _boolean,
        _TRUE_FALSE,
        "decode pictures of one batch one by one: less memory",
    ),
    Setting(
        "ENABLE_CPU_OFFLOAD",
        "true",
        _boolean,
        _TRUE_FALSE,
        "on CUDA, keep in GPU memory only the part that is computing: much less memory, slower; "
        "no effect elsewhere",
    ),
    Setting(
        "TORCH_THREADS",
        "auto",
        _threads,
        "auto, 1 to 1024",
        "CPU threads; auto: the container's CPU limit, else the cores",
    ),
    Setting(
        "QUEUE_LIMIT",
        "8",
        _whole(0, 10_000),
        "0 to 10000",
        "predictions that may wait while one is made; more are refused with 503",
    ),
    Setting("MAX_INSTANCES", "8", _whole(1, 64), "1 to 64", "instances in one prediction, at most"),
    Setting(
        "MAX_BODY_BYTES",
        "65536",
        _whole(1024, 16 * 1024 * 1024),
        "1024 to 16777216",
        "bytes in one request body, at most",
    ),
    Setting(
        "KEEPALIVE_SECONDS",
        "10",
        _seconds(0.01, 300),
        "0.01 to 300",
        "seconds without an event after which a stream sends a comment line",
    ),
    Setting(
        "DRAIN_SECONDS",
        "60",
        _seconds(0, 3600),
        "0 to 3600",
        "seconds that a running prediction may take to finish after SIGTERM",
    ),
    Setting(
        "LOG_LEVEL",
        "info",
        _one_of("debug", "info", "warning", "error"),
        "debug, info, warning, error",
        "least severity of a log line; only debug shows prompts",
    ),
)
