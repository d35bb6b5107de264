"""A round trip on a host: the codec's thread, the watchdog and the end."""

import sys
import threading
import time
from collections.abc import Callable

import numpy as np

from ..errors import DeviceError
from .host import Host
from .ring import Ring, Rows
from .roundtrip import RoundTrip
from .watchdog import Watchdog

__all__ = ["run"]

TICK = 0.05  # seconds between two looks at watchdog, keys and figures
REOPEN = 0.5  # seconds between two attempts to open a device
# Seconds after which a thread must let another one run. Python's own 5 ms is as long as a whole block of samples.
SWITCH = 0.0005


def run(
    trip: RoundTrip,
    host: Host,
    *,
    seconds: float | None = None,
    tick: Callable[[], bool | None] | None = None,
    say: Callable[[str], object] = print,
    played: Callable[[Rows], object] | None = None,
    watchdog: Watchdog | None = None,
) -> int:
    """Run until `seconds` are over, `tick` returns True, or Ctrl-C (KeyboardInterrupt is passed on after the clean-up).

    tick: called about 20 times a second; say: for sentences such as a device's failure; played: called, from this
    thread, with what the speaker got. Returns how often the devices were opened again.
    Raises DeviceError when they cannot be opened, or give no callback however often; and what the codec raises.
    """
    dog, tape = watchdog or Watchdog(), trip.start_tape() if played is not None else None
    worker = _Worker(trip)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH)
    try:
        host.open(trip.on_input, trip.on_output)
        worker.start()
        end, reopened = None if seconds is None else time.monotonic() + seconds, 0
        dog.opened(time.monotonic())
        while end is None or time.monotonic() < end:
            time.sleep(TICK)
            worker.check()
            reopened += _guard(trip, host, dog, say)
            trip.tick()
            if tape is not None and played is not None:
                played(_drained(tape))
            if tick is not None and tick():
                break
        return reopened
    finally:
        host.close()
        worker.stop()
        if tape is not None and played is not None:
            played(_drained(tape))
        sys.setswitchinterval(interval)


def _guard(trip: RoundTrip, host: Host, dog: Watchdog, say: Callable[[str], object]) -> int:
    """Open the devices again where one gives no callback; how often that was done."""
    for side, last in trip.callbacks.items():
        if last:
            dog.called(side, last)
    silent = dog.silent(time.monotonic())
    if not silent:
        return 0
    sides = " and ".join(silent)
    if dog.failed():
        raise DeviceError(
            f"no callback arrived from the {sides} device, though it was opened {dog.attempts} times again; check the "
            "sound server and the cable, or choose another device (see 'streamcodec mic --list-devices')"
        )
    say(f"no callback arrived from the {sides} device for {dog.patience:g} s; opening the devices again")
    host.close()
    try:
        host.open(trip.on_input, trip.on_output)
    except DeviceError as error:
        say(str(error))
        time.sleep(REOPEN)
    dog.opened(time.monotonic())
    return 1


def _drained(tape: Ring) -> Rows:
    rows: Rows = np.empty((tape.fill, tape.channels), np.float32)
    tape.read(rows)
    return rows


class _Worker(threading.Thread):
    """Runs the codec whenever samples have come."""

    def __init__(self, trip: RoundTrip) -> None:
        super().__init__(name="codec", daemon=True)
        self._trip, self._ended = trip, False
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._ended:
                self._trip.arrived.wait(TICK)
                self._trip.arrived.clear()
                self._trip.work()
        except BaseException as error:  # handed to the main thread, whatever it is
            self._error = error

    def check(self) -> None:
        """Raise here what ended the thread."""
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        self._ended = True
        self._trip.arrived.set()
        if self.ident is not None:
            self.join()
