"""Send a recording to a live server at its own pace, and write what comes back.

    streamcodec serve                                        # in another terminal
    pip install '.[client]'
    python demos/websocket_client.py IN.wav OUT.wav [ws://127.0.0.1:8765]

Break the connection while it runs: it comes back and goes on where it was. `streamcodec connect` does more.
"""

import asyncio
import sys
import time

import soundfile

from streamcodec.client import Session, SessionError, connect

PACKET = 0.02  # seconds


async def send(session: Session, samples, rate: int) -> None:
    block, began = round(PACKET * rate), time.monotonic()
    for start in range(0, len(samples), block):
        ready = began + (start + block) / rate  # when a microphone would have heard all of it
        await asyncio.sleep(max(0.0, ready - time.monotonic()))
        await session.send(samples[start : start + block])
    await session.flush()


async def main(source: str, target: str, url: str = "ws://127.0.0.1:8765") -> None:
    samples, rate = soundfile.read(source, dtype="float32", always_2d=True)
    channels = samples.shape[1]
    async with connect(url, mode="roundtrip", sample_rate=rate, channels=channels) as session:
        print(
            f"{session.codec.name}, {session.welcome.bandwidth:g} kbps, delay {session.welcome.delays.total_ms:.0f} ms"
        )
        sending = asyncio.create_task(send(session, samples, rate))
        with soundfile.SoundFile(target, "w", rate, channels) as file:
            async for block in session.pcm():
                file.write(block)
        await sending
        print(f"wrote {target}; reconnected {session.reconnects} times")


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    try:
        asyncio.run(main(*sys.argv[1:]))
    except SessionError as error:
        sys.exit(str(error))
