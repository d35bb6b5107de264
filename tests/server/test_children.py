"""Ctrl-C is for the process that was started; those that it starts end when it says so."""

import multiprocessing
import signal
import sys

import pytest

pytest.importorskip("websockets", reason="the extra `server` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")

from streamcodec.server.children import leaving_ctrl_c


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
