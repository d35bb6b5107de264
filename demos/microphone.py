"""Hear yourself through the bundled codec: microphone to codec to speaker. Use headphones.

    pip install '.[live]'
    python demos/microphone.py [SECONDS [HEARD.wav PLAYED.wav]]

Ends after SECONDS or at Ctrl-C. `streamcodec mic` does the same with keys, a choice of devices and other codecs.
"""

import contextlib
import sys

import torch

import streamcodec
from streamcodec.errors import DeviceError
from streamcodec.live import RoundTrip, SoundHost, run
from streamcodec.live.devices import choose
from streamcodec.live.line import Line
from streamcodec.live.recorder import Recorder


def main(seconds: float | None = None, heard: str = "", played: str = "") -> None:
    torch.set_num_threads(1)  # one frame is too little work to share
    codec = streamcodec.load()
    microphone, speaker = choose("input", None, codec.spec), choose("output", None, codec.spec)
    line = Line(
        codec,
        frames=1,
        input_rate=microphone.rate,
        output_rate=speaker.rate,
        input_channels=microphone.channels,
        output_channels=speaker.channels,
    )
    blocks = {"input_block": microphone.rate // 200, "output_block": speaker.rate // 200}  # 5 ms
    trip = RoundTrip(line, **blocks)
    print(f"{microphone.name} -> {codec.spec.name} at {line.bandwidth:g} kbps -> {speaker.name}; use headphones")

    with contextlib.ExitStack() as files:
        keep = None
        if heard and played:
            recorders = Recorder(heard, codec.spec.sample_rate, 1), Recorder(played, speaker.rate, speaker.channels)
            for recorder in recorders:
                files.callback(recorder.close)
            line.heard, keep = recorders[0].write, recorders[1].write
        with contextlib.suppress(KeyboardInterrupt):
            run(trip, SoundHost(microphone, speaker, **blocks), seconds=seconds, played=keep)
    delay = trip.mean_delay()
    if delay is not None:
        print(f"delay {delay.total:.0f} ms: {delay}")
    print(f"{line.steps} steps of {1000 * line.seconds / max(1, line.steps):.1f} ms; {trip.playout.events}")


if __name__ == "__main__":
    try:
        main(*(float(value) for value in sys.argv[1:2]), *sys.argv[2:4])
    except DeviceError as error:
        sys.exit(str(error))
