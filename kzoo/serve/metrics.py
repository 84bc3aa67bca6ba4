"""What Prometheus reads at /metrics."""

import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """The figures of one service."""

    def __init__(self, model: str):
        self._model = model
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter("kzoo_requests", "Requests by answer.", ("model", "route", "code"), registry=registry)
        self._seconds = Histogram(
            "kzoo_request_seconds",
            "Seconds from a request's head to the end of its answer.",
            ("model", "route"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._running = Gauge("kzoo_requests_running", "Requests at work.", ("model",), registry=registry).labels(model)
        self._version = Gauge("kzoo_model_version", "The version that answers.", ("model",), registry=registry)

    def text(self, version: int) -> bytes:
        """In Prometheus' own format. version: the one that answers now."""
        self._version.labels(self._model).set(version)
        return generate_latest(self._registry)

    def measure(self, app: Any) -> Any:
        """An ASGI application whose requests are counted and timed.

        Their route is the path as it is documented, not as it was sent: so there are few of them.
        """

        async def measured(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            begun, code = time.perf_counter(), 500

            async def noting(message: Any) -> None:
                nonlocal code
                code = message.get("status", code)
                await send(message)

            with self._running.track_inprogress():
                try:
                    await app(scope, receive, noting)
                finally:
                    route = getattr(scope.get("route"), "path", "none")
                    self._requests.labels(self._model, route, str(code)).inc()
                    self._seconds.labels(self._model, route).observe(time.perf_counter() - begun)

        return measured
