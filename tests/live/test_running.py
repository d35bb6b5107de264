"""A round trip with its threads, on a host that is a thread too."""

import threading
import time

import numpy as np
import pytest
from oracles import small_codec

from streamcodec.errors import DeviceError
from streamcodec.live.line import Line
from streamcodec.live.roundtrip import RoundTrip
from streamcodec.live.running import run
from streamcodec.live.watchdog import Watchdog


class ThreadHost:
    """Calls back every 10 ms from a thread; `quiet(number of opening)` leaves callbacks out."""

    def __init__(self, quiet=lambda opening: False, refuse=lambda opening: False) -> None:
        self.quiet, self.refuse = quiet, refuse
        self.opened = self.closed = 0
        self._thread: threading.Thread | None = None
        self._end = threading.Event()

    def open(self, on_input, on_output) -> None:
        self.opened += 1
        if self.refuse(self.opened):
            raise DeviceError("the device is gone")
        if self.quiet(self.opened):
            return
        self._end.clear()
        self._thread = threading.Thread(target=self._run, args=(on_input, on_output))
        self._thread.start()

    def _run(self, on_input, on_output) -> None:
        while not self._end.wait(0.01):
            now = time.monotonic()
            on_input(np.full((6, 1), 0.25, np.float32), now - 0.01, False)
            on_output(np.empty((6, 1), np.float32), now + 0.01, False)

    def close(self) -> None:
        self.closed += 1
        self._end.set()
        if self._thread is not None:
            self._thread.join()


def trip() -> RoundTrip:
    return RoundTrip(Line(small_codec("24khz")), input_block=6, output_block=6)


def test_it_runs_for_the_time_asked_and_hands_over_what_was_played():
    host, subject, played = ThreadHost(), trip(), []
    assert run(subject, host, seconds=0.5, played=played.append) == 0
    assert host.closed == 1
    assert subject.line.steps > 10
    assert sum(map(len, played)) == subject.playout.position > 100
    assert subject.mean_delay() is not None
    assert threading.active_count() == 1 or all(thread.name != "codec" for thread in threading.enumerate())


def test_a_tick_that_returns_true_ends_it():
    count = iter(range(100))
    run(trip(), ThreadHost(), tick=lambda: next(count) == 3)
    assert next(count) == 4


def test_a_silent_device_is_named_and_opened_again():
    host, said = ThreadHost(quiet=lambda opening: opening == 1), []
    assert run(trip(), host, seconds=1.0, say=said.append, watchdog=Watchdog(patience=0.3)) == 1
    assert host.opened == 2
    assert said == ["no callback arrived from the input and output device for 0.3 s; opening the devices again"]


def test_a_device_that_stays_silent_is_given_up():
    host, said = ThreadHost(quiet=lambda opening: True), []
    with pytest.raises(DeviceError, match=r"no callback arrived from the input and output device.*opened 3 times"):
        run(trip(), host, say=said.append, watchdog=Watchdog(patience=0.1))
    assert (host.opened, len(said)) == (4, 3)
    assert host.closed == 4


def test_a_device_that_is_gone_for_a_moment_comes_back():
    host, said = ThreadHost(quiet=lambda opening: opening == 1, refuse=lambda opening: opening == 2), []
    assert run(trip(), host, seconds=2.0, say=said.append, watchdog=Watchdog(patience=0.2)) == 2
    assert "the device is gone" in said
    assert host.opened == 3


def test_what_ends_the_codecs_thread_is_raised_here():
    subject = trip()
    subject.line.heard = lambda rows: 1 / 0
    host = ThreadHost()
    with pytest.raises(ZeroDivisionError):
        run(subject, host, seconds=5.0)
    assert host.closed == 1
