"""Live audio: microphone to codec to speaker.

`RoundTrip` is the audio path between two callbacks and knows no sound library; `SoundHost` runs it on the devices of
this machine through PortAudio. Callbacks only copy samples into and out of rings; a thread of its own runs the codec.
"""

from .devices import describe_devices
from .host import Host, SoundHost
from .playout import Event, Playout
from .ring import Ring
from .roundtrip import Delay, RoundTrip
from .running import run
from .watchdog import Watchdog

__all__ = [
    "Delay",
    "Event",
    "Host",
    "Playout",
    "Ring",
    "RoundTrip",
    "SoundHost",
    "Watchdog",
    "describe_devices",
    "run",
]
