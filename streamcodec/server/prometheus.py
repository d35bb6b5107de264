"""What the server counts, for Prometheus."""

import re
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

__all__ = ["CONTENT_TYPE", "Histogram", "Metrics"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
MADE = re.compile(r"(# (HELP|TYPE) )?\w+_created[ {]")  # a line of a series that says when another one was made
STEP_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0)
BATCH_BUCKETS = (1, 2, 4, 8, 12, 16, 24, 32, 64)


class Histogram(Collector):
    """Of each codec. Engines make hundreds of steps a second: the package's own takes five times as long to count one.

    buckets: their upper bounds, but for the last, which has none.
    """

    def __init__(self, name: str, help: str, registry: CollectorRegistry, buckets: tuple[float, ...]) -> None:
        self._name, self._help, self._bounds = name, help, buckets
        self._counts: dict[str, list[int]] = {}  # codec: of each bucket
        self._sums: dict[str, float] = {}
        registry.register(self)

    def observe(self, codec: str, value: float) -> None:
        counts = self._counts.get(codec)
        if counts is None:
            counts = self._counts[codec] = [0] * (len(self._bounds) + 1)
            self._sums[codec] = 0.0
        counts[bisect_left(self._bounds, value)] += 1
        self._sums[codec] += value

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._help, labels=["codec"])
        bounds = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for codec, counts in self._counts.items():
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            family.add_metric([codec], buckets, sum_value=self._sums[codec])
        yield family


class Metrics:
    """One registry a server, so that several can live in one process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.connections = Gauge("streamcodec_connections", "Open connections", registry=registry)
        self.sessions = Gauge(
            "streamcodec_sessions", "Sessions, detached ones included", ["codec", "mode"], registry=registry
        )
        self.detached = Gauge("streamcodec_detached_sessions", "Sessions without a connection", registry=registry)
        self.rooms = Gauge("streamcodec_rooms", "Rooms with members", registry=registry)
        self.opened = Counter("streamcodec_sessions_opened", "Sessions admitted", ["mode"], registry=registry)
        self.ended = Counter("streamcodec_sessions_ended", "Sessions that are over", ["code"], registry=registry)
        self.refused = Counter(
            "streamcodec_refusals", "Connections, hellos and resumes refused", ["code"], registry=registry
        )
        self.resumed = Counter("streamcodec_resumes", "Sessions resumed", registry=registry)
        self.lost = Counter("streamcodec_connections_lost", "Connections lost under a session", registry=registry)
        self.messages = Counter(
            "streamcodec_messages",
            "Messages of sessions, open and ended",
            ["direction"],
            registry=registry,
        )
        self.bytes = Counter(
            "streamcodec_bytes", "Bytes of messages, as `streamcodec_messages`", ["direction"], registry=registry
        )
        self.dropped = Counter("streamcodec_dropped_frames", "Frames that slow listeners lost", registry=registry)
        self.reduced = Counter(
            "streamcodec_reduced_packets", "Packets with fewer codebooks for slow listeners", registry=registry
        )
        self.failed = Counter("streamcodec_engine_failures", "Sessions that failed in the engine", registry=registry)
        self.unwritten = Counter(
            "streamcodec_log_dropped_lines", "Lines of the log that could not be written", registry=registry
        )
        self.step = Histogram("streamcodec_engine_step_seconds", "Time of an engine's step", registry, STEP_BUCKETS)
        self.batch = Histogram(
            "streamcodec_engine_step_sessions", "Sessions that a step gave something", registry, BATCH_BUCKETS
        )
        self.backend = Gauge(
            "streamcodec_backend", "1: what an operation of a codec runs on",
            ["codec", "operation", "backend"], registry=registry,
        )  # fmt: skip
        self.engine_cpu = Gauge("streamcodec_engine_cpu_seconds", "CPU time of the engines", registry=registry)
        self.process_cpu = Gauge(
            "streamcodec_process_cpu_seconds", "CPU time of the server with its engines", registry=registry
        )
        self.resident = Gauge("streamcodec_resident_bytes", "Memory of the process", registry=registry)

    def exposition(self) -> bytes:
        """In the text format of Prometheus."""
        lines = generate_latest(self.registry).decode().splitlines()
        # The times at which series were made say nothing, and cannot be added up over processes.
        return ("\n".join(line for line in lines if not MADE.match(line)) + "\n").encode()
