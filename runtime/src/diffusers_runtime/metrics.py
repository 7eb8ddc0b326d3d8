"""Prometheus metrics. No label ever holds a prompt, a request id or a caller."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

# From a tiny model's tenth of a second to a large one's minutes on a CPU.
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600)


class Metrics:
    """The runtime's metrics in a registry of their own, so that two servers can share a process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter(
            "diffusers_runtime_requests_total",
            "Predictions asked for, by outcome: succeeded, cancelled or an error code.",
            ["outcome"],
            registry=self.registry,
        )
        self.queue_length = Gauge(
            "diffusers_runtime_queue_length",
            "Predictions accepted and waiting.",
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "diffusers_runtime_in_flight",
            "Predictions being made now (0 or 1).",
            registry=self.registry,
        )
        self.queue_seconds = Histogram(
            "diffusers_runtime_queue_seconds",
            "Seconds a prediction waited before it was begun.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.inference_seconds = Histogram(
            "diffusers_runtime_inference_seconds",
            "Seconds of inference per finished picture, without encoding.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.steps = Counter(
            "diffusers_runtime_steps_total",
            "Denoising steps done, those of interrupted pictures included.",
            registry=self.registry,
        )
        self.ready = Gauge(
            "diffusers_runtime_ready",
            "1 while predictions are accepted, else 0.",
            registry=self.registry,
        )
        self.model_load_seconds = Gauge(
            "diffusers_runtime_model_load_seconds",
            "Seconds from start to ready: imports, weights and warm-up.",
            registry=self.registry,
        )
