"""Ctrl-C is for the process that was started; those that it starts end when it says so."""

import multiprocessing
import signal
import sys
import threading
from types import SimpleNamespace

import pytest

pytest.importorskip("websockets", reason="the extra `server` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")

from streamcodec.server.children import leaving_ctrl_c
from streamcodec.server.workers import _watch


@pytest.mark.skipif(sys.platform == "win32", reason="signals cannot be blocked here")
def test_a_process_started_so_gets_no_ctrl_c_and_this_one_does():
    process = multiprocessing.get_context("spawn").Process(target=signal.raise_signal, args=(signal.SIGINT,))
    with leaving_ctrl_c():
        process.start()
    process.join()
    assert process.exitcode == 0
    with pytest.raises(KeyboardInterrupt), leaving_ctrl_c():
        signal.raise_signal(signal.SIGINT)  # waits until the end of the block
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.parametrize(
    ("told", "codes", "code"),
    [
        (True, [0, 0], 0),
        (True, [0, -signal.SIGTERM], 0),  # told before it was ready
        (False, [0, -signal.SIGTERM], 2),
        (True, [0, -signal.SIGKILL], 2),
        (True, [2, 0], 2),
    ],
)
def test_workers_that_were_told_to_end_have_not_failed(told, codes, code):
    event = threading.Event()
    if told:
        event.set()
    ended = {"is_alive": lambda: False, "join": lambda: None}
    assert _watch([SimpleNamespace(exitcode=code, **ended) for code in codes], event) == code
