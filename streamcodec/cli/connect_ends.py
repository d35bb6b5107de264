"""Where what ``streamcodec connect`` carries comes from and goes to: standard streams, loudspeakers, files."""

import asyncio
import concurrent.futures
import contextlib
import os
import sys
import threading
from argparse import Namespace
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..audio import AudioWriter, Samples
from ..codesfile import CodesBlock, CodesWriter
from ..errors import InputError
from ..files import NewFile
from ..int16 import INT16_SCALE, rounded
from ..live.devices import portaudio
from .connect_recording import codes_header
from .telling import announce_clipping

if TYPE_CHECKING:
    from ..client import Session

__all__ = ["RAW", "Sink", "sink_of", "speaker", "stdin"]

RAW = "-"  # standard input or output, for raw samples


async def stdin(args: Namespace, block: int, told: asyncio.Event) -> AsyncIterator[Samples]:
    """Raw s16le samples, as they come, until they end or `told` is set."""
    size = 2 * args.channels * block
    end = asyncio.ensure_future(told.wait())
    try:
        while True:
            read = asyncio.ensure_future(_in_thread(lambda: _read(size)))
            await asyncio.wait({read, end}, return_when=asyncio.FIRST_COMPLETED)
            data = read.result() if read.done() else b""
            if not data:
                read.cancel()
                return
            whole = len(data) - len(data) % (2 * args.channels)
            rows = np.frombuffer(data[:whole], "<i2").reshape(-1, args.channels)
            yield np.ascontiguousarray(rows.T, np.float32) * INT16_SCALE
    finally:
        end.cancel()


def _read(size: int) -> bytes:
    """So many bytes of standard input, fewer where it ends. Past Python's buffer, whose lock would outlive the end."""
    data = b""
    while len(data) < size and (more := os.read(sys.stdin.fileno(), size - len(data))):
        data += more
    return data


async def _in_thread(call: Callable[[], bytes]) -> bytes:
    """`call()` in a thread that the end of the program does not wait for, as it does for those of an executor."""
    future: concurrent.futures.Future[bytes] = concurrent.futures.Future()

    def work() -> None:
        future.set_running_or_notify_cancel()
        try:
            future.set_result(call())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return await asyncio.wrap_future(future)


@contextlib.contextmanager
def speaker(args: Namespace, mixer: Any, block: int, sink: "Sink | None") -> Iterator[None]:
    """The default output device plays the mixer."""
    sd = portaudio("client")

    def fill(out: Any, frames: int, times: Any, status: Any) -> None:
        out[:] = np.clip(mixer.pull(frames), -1, 1)
        if sink is not None:
            sink.audio(out.T.copy())

    try:
        stream = sd.OutputStream(
            samplerate=args.rate, channels=args.channels, blocksize=block, dtype="float32", callback=fill
        )
    except (sd.PortAudioError, ValueError) as error:
        raise InputError(f"--play: no sound device takes {args.rate} Hz, {args.channels} channels: {error}") from error
    with stream:
        yield


class Sink:
    """Where what comes is kept."""

    def audio(self, samples: Samples) -> None:
        """[C, n]."""

    def codes(self, packet: Any) -> None: ...


def sink_of(
    args: Namespace, session: "Session", output: NewFile | None, form: str, stack: contextlib.ExitStack
) -> Sink:
    """What --output names; output: the file, of format `form`."""
    if output is None:
        return _RawSink() if args.output == RAW else Sink()
    if args.mode == "encode":
        return _CodesSink(session, output, stack)
    writer = stack.enter_context(AudioWriter(output, args.rate, args.channels, form))
    stack.callback(announce_clipping, writer)
    return _AudioSink(writer.write)


class _AudioSink(Sink):
    def __init__(self, write: Callable[[Samples], object]) -> None:
        self._write = write

    def audio(self, samples: Samples) -> None:
        if samples.shape[1]:
            self._write(samples)


class _RawSink(Sink):
    def audio(self, samples: Samples) -> None:
        sys.stdout.buffer.write(rounded(samples.T).astype("<i2").tobytes())
        sys.stdout.buffer.flush()


class _CodesSink(Sink):
    """Codes to a file. The last packet says how long the audio was, so the one before it waits."""

    def __init__(self, session: "Session", output: NewFile, stack: contextlib.ExitStack) -> None:
        self._writer = stack.enter_context(CodesWriter(output, codes_header(session)))
        self._hop = session.codec.hop_length
        self._held: Any = None
        stack.callback(self._finish, None)

    def codes(self, packet: Any) -> None:
        if packet.codes.shape[1]:
            self._write(None)
            self._held = packet
        if packet.last:
            self._finish(packet.length)

    def _write(self, length: int | None) -> None:
        packet, self._held = self._held, None
        if packet is None:
            return
        data, scale = packet.codes[None], None if packet.scale is None else packet.scale[None]
        self._writer.write(CodesBlock(data, scale, data.shape[2] * self._hop if length is None else length))

    def _finish(self, total: int | None) -> None:
        self._write(None if total is None else max(0, total - self._writer.length))
