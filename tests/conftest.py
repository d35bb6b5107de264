"""What all tests share: Triton's interpreter where there is no GPU, one thread, reproducible hypothesis runs, and the
mark `long`.
"""

import os
from collections.abc import Iterator

# Read when torch loads OpenMP: on a busy machine, threads that spin take the cores from those they wait for.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it when it is first imported, and transformers imports it

# "ci" tries the same examples every time; HYPOTHESIS_PROFILE=search looks for new ones.
settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    max_examples=25,
    print_blob=True,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("search", settings.get_profile("ci"), derandomize=False, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked `long` where no -m speaks of it: neither CI nor anyone's quick run has that time."""
    if "long" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small problems on a shared machine: a second thread costs more than it gives, and may change the last bits."""
    torch.set_num_threads(1)


@pytest.fixture
def more_threads() -> Iterator[None]:
    """Up to four threads: what full-size models need most of is large products."""
    torch.set_num_threads(min(4, os.cpu_count() or 1))
    yield
    torch.set_num_threads(1)
