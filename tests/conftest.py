"""What all tests share: Triton's interpreter where there is no GPU, one thread, reproducible hypothesis runs, and which
tests run: `python -m pytest` those that a newcomer needs, `python -m pytest --all` all that CI runs.
"""

import gc
import os
import signal
import sys
from pathlib import Path

# Read when torch loads OpenMP: on a busy machine, threads that spin take the cores from those they wait for.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings

from streamcodec import native_support

sys.path.append(str(Path(__file__).parent / "native"))  # `sets`: other tests skip without a compiler too

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it when it is first imported, and transformers imports it

# What is imported stays: to look through its millions of objects whenever 700 are new takes a twentieth of the time.
gc.set_threshold(50_000, 20, 20)

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a background job of a shell, and so in its children
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # as under nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

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


# Folders whose tests go by the clock: benches, servers and clients, sound cards, a browser. Most of them wait as long
# as a busy machine may need, and bear company.
TIMED = "tests/bench tests/client tests/live tests/page tests/server"
# What does not: sound cards and browsers play on, and two presses are one or two, as the machine keeps up or not.
ALONE = "tests/live/test_pasted.py tests/live/test_virtual_card.py tests/page/test_page.py tests/page/test_presses.py"
LEFT_OUT = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run the slow tests too, and those that go by the clock")
    parser.addoption(
        "--alone", choices=["without", "only"], help="run what bears company; or what should have the machine by itself"
    )


def pytest_configure(config: pytest.Config) -> None:
    missing = [file for file in ALONE.split() if not (config.rootpath / file).exists()]
    if missing:
        raise pytest.UsageError(f"tests/conftest.py names {missing} in ALONE, which are not there")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out what goes by the clock, unless --all or a path on the command line asks for it; or as --alone says."""
    named = config.args_source is config.ArgsSource.ARGS
    timed = [config.rootpath / folder for folder in TIMED.split()]
    if collection_path in timed and not named and not config.option.all:
        return True
    if config.option.alone and collection_path.suffix == ".py":
        alone = collection_path in [config.rootpath / file for file in ALONE.split()]
        return alone != (config.option.alone == "only") or None
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked `long`, and without --all what is marked `slow`, where no -m speaks of it."""
    marks = [mark for mark in ("long", "slow") if mark not in config.option.markexpr]
    if config.option.all and "slow" in marks:
        marks.remove("slow")
    left_out = [item for item in items if any(item.get_closest_marker(mark) for mark in marks)]
    config.stash[LEFT_OUT] = len(left_out)
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was left out, and how to run it."""
    count, named = config.stash.get(LEFT_OUT, 0), config.args_source is config.ArgsSource.ARGS
    if config.option.all or not (count or not named):
        return
    folders = "" if named else f", and all of {TIMED.replace(' ', ', ')}"
    terminalreporter.section("left out")
    terminalreporter.line(f"{count} slow tests{folders}.")
    terminalreporter.line("Add --all to run everything: a quarter of an hour; CONTRIBUTING.md says what it needs.")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small problems on a shared machine: a second thread costs more than it gives, and may change the last bits."""
    torch.set_num_threads(1)


@pytest.fixture(params=[False])
def native_by_itself(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> bool:
    """Whether `auto` may take the native executor: as in a checkout not, as in a wheel with its library it may."""
    monkeypatch.setattr(native_support, "by_itself", lambda: request.param)
    return bool(request.param)
