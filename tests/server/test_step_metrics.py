"""What the server counts is told as Prometheus' own package tells it."""

import random

import pytest

pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")

import prometheus_client
from prometheus_client import CollectorRegistry

from streamcodec.server.prometheus import BATCH_BUCKETS, STEP_BUCKETS, Histogram


@pytest.mark.parametrize("buckets", [STEP_BUCKETS, BATCH_BUCKETS])
def test_a_histogram_tells_what_the_packages_own_would(buckets):
    rng = random.Random(0)
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    one = Histogram("steps", "Of an engine", ours, buckets)
    other = prometheus_client.Histogram("steps", "Of an engine", ["codec"], registry=theirs, buckets=buckets)
    for value in [*buckets, 0, *(rng.uniform(0, 1.2 * buckets[-1]) for _ in range(50))]:
        codec = rng.choice(["a", 'b "c"'])
        one.observe(codec, value)
        other.labels(codec).observe(value)
    expected = sorted(
        line for line in prometheus_client.generate_latest(theirs).decode().splitlines() if "_created" not in line
    )
    assert sorted(prometheus_client.generate_latest(ours).decode().splitlines()) == expected
