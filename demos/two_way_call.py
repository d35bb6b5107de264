"""A call: your microphone to a room of a live server, the others in the room to your loudspeaker. Use headphones.

    streamcodec serve                                        # in another terminal
    pip install '.[client]'
    python demos/two_way_call.py ROOM [ws://127.0.0.1:8765] [--name ME] [--seconds S]

Whoever names the same ROOM is in the call. Without sound devices: --input FILE.wav speaks a recording in place of the
microphone, and --output FILE.wav records what the loudspeaker would play. Ends at Ctrl-C, or with the recording.
"""

import argparse
import asyncio
import contextlib
import sys
import threading
import time

import numpy as np
import soundfile

from streamcodec.audio import AudioReader
from streamcodec.client import Joined, Left, Lost, Mixer, Resumed, Session, SessionError, connect
from streamcodec.errors import AudioError, DeviceError
from streamcodec.live import Ring
from streamcodec.live.devices import portaudio

RATE = 24_000  # Hz
BLOCK = RATE // 100  # 10 ms
WAIT = 1.0  # seconds that the last words of a recording may take to the others


class Microphone:
    """The default input device, or a file at its own pace: blocks of samples [BLOCK, 1]."""

    def __init__(self, path: str | None) -> None:
        self._samples = None
        if path:
            with AudioReader(path, RATE, 1, RATE) as reader:
                self._samples = np.concatenate(list(reader), axis=1).T
        self._ring = Ring(RATE, 1)  # a second

    def open(self) -> contextlib.AbstractContextManager:
        if self._samples is not None:
            return contextlib.nullcontext()
        sd = portaudio("client")

        def heard(rows, frames, times, status) -> None:
            self._ring.write(rows)

        return sd.InputStream(samplerate=RATE, channels=1, blocksize=BLOCK, dtype="float32", callback=heard)

    async def blocks(self):
        if self._samples is not None:
            began = time.monotonic()
            for start in range(0, len(self._samples), BLOCK):
                await asyncio.sleep(max(0.0, began + (start + BLOCK) / RATE - time.monotonic()))
                yield self._samples[start : start + BLOCK]
            return
        while True:
            await asyncio.sleep(BLOCK / RATE / 2)
            while self._ring.fill >= BLOCK:
                block = np.zeros((BLOCK, 1), np.float32)
                self._ring.read(block)
                yield block


@contextlib.contextmanager
def speaker(mixer: Mixer, path: str | None):
    """The default output device plays the mixer, or a file records it, from a thread of its own either way."""
    if path is None:
        sd = portaudio("client")

        def fill(out, frames, times, status) -> None:
            out[:] = np.clip(mixer.pull(frames), -1, 1)

        with sd.OutputStream(samplerate=RATE, channels=1, blocksize=BLOCK, dtype="float32", callback=fill):
            yield
        return
    ended = threading.Event()

    def record() -> None:
        due = time.monotonic()
        with soundfile.SoundFile(path, "w", RATE, 1) as file:
            while not ended.wait(max(0.0, due - time.monotonic())):
                due += BLOCK / RATE
                file.write(mixer.pull(BLOCK))

    thread = threading.Thread(target=record)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


async def speak(session: Session, microphone: Microphone) -> None:
    async for block in microphone.blocks():
        await session.send(block)
    await session.flush()
    await asyncio.sleep(WAIT)


async def listen(session: Session, mixer: Mixer) -> None:
    async for event in session:
        mixer.take(event)
        if isinstance(event, Joined):
            print(f"{event.member.member or event.member.id} is here")
        elif isinstance(event, Left):
            print(f"member {event.id} has left")
        elif isinstance(event, (Lost, Resumed)):
            print("connection lost" if isinstance(event, Lost) else "connected again")


async def main(args: argparse.Namespace) -> None:
    microphone, mixer = Microphone(args.input), Mixer(RATE, 1, BLOCK)
    async with connect(args.url, "room", room=args.room, member=args.name, sample_rate=RATE) as session:
        others = [member.member or member.id for member in session.welcome.room.members if member.member != args.name]
        print(f"in room {args.room}, with {', '.join(map(str, others)) or 'nobody yet'}")
        with microphone.open(), speaker(mixer, args.output):
            tasks = [asyncio.create_task(speak(session, microphone)), asyncio.create_task(listen(session, mixer))]
            try:
                done, _ = await asyncio.wait(tasks, timeout=args.seconds, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
    print(f"underruns {mixer.underruns}, reconnected {session.reconnects} times")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("room")
    parser.add_argument("url", nargs="?", default="ws://127.0.0.1:8765")
    parser.add_argument("--name", default="", help="to show to the others")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--input", metavar="WAV", help="in place of the microphone")
    parser.add_argument("--output", metavar="WAV", help="in place of the loudspeaker")
    try:
        asyncio.run(main(parser.parse_args()))
    except (SessionError, DeviceError, AudioError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        pass
