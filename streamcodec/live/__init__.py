"""Live audio: microphone to codec to speaker.

`RoundTrip` is the audio path between two callbacks and knows no sound library; `SoundHost` runs it on the devices of
this machine through PortAudio. Callbacks only copy samples into and out of rings; a thread of its own runs the codec.
"""

from typing import TYPE_CHECKING, Any

from ..lazy import resolve

if TYPE_CHECKING:
    from .devices import describe_devices
    from .host import Host, SoundHost
    from .playout import Playout, PlayoutEvent
    from .ring import Ring
    from .roundtrip import DelayBudget, RoundTrip
    from .running import run
    from .watchdog import Watchdog

__all__ = [
    "DelayBudget",
    "Host",
    "Playout",
    "PlayoutEvent",
    "Ring",
    "RoundTrip",
    "SoundHost",
    "Watchdog",
    "describe_devices",
    "run",
]

# Imported when first used: what plays and records alone needs no torch.
_HOMES = {
    "DelayBudget": "roundtrip",
    "PlayoutEvent": "playout",
    "Host": "host",
    "Playout": "playout",
    "Ring": "ring",
    "RoundTrip": "roundtrip",
    "SoundHost": "host",
    "Watchdog": "watchdog",
    "describe_devices": "devices",
    "run": "running",
}


if not TYPE_CHECKING:  # else a type checker would take every name for one of the package's

    def __getattr__(name: str) -> Any:
        return resolve(__name__, _HOMES, name)
