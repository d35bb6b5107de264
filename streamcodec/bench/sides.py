"""The sides of a comparison: each runs the same audio, and says how long its steps took."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..codecs import Codec
from ..codecs.mimi import MimiCodec
from ..codes import Codes
from ..engine import Direction, Engine
from ..errors import StreamcodecError
from ..precisions import ENCODING
from .machine import synchronized
from .pairs import AGREEMENT, AUDIO_ERROR, agreement
from .upstream import Upstream, moshi_steps
from .work import Work, work_of

__all__ = ["Side", "check_steps", "loss_of_precision", "moshi", "offline", "parts", "same_codes", "served", "streamed"]

Run = Callable[[], Sequence[float]]  # the whole audio; returns the seconds of each step


class Side(NamedTuple):
    """name: for the tables; run: by direction; frames: of a step, 0 offline; work: by direction, where it is known;
    precision: of the steps."""

    name: str
    run: dict[str, Run]
    frames: int = 0
    work: dict[str, Work] = {}  # noqa: RUF012 (of a tuple, it cannot be changed by accident)
    precision: str = "float32"


def offline(name: str, encode: Callable[[], object], decode: Callable[[], object], codec: Codec) -> Side:
    """Both directions at once."""
    calls = {"encode": synchronized(encode, codec.device), "decode": synchronized(decode, codec.device)}

    def at_once(call: Callable[[], object]) -> Sequence[float]:
        with torch.inference_mode():
            call()
        return ()

    return Side(name, {way: lambda call=call: at_once(call) for way, call in calls.items()})  # type: ignore[misc]


def streamed(
    name: str, codec: Codec, audio: Tensor, codes: Codes, bandwidth: float, frames: int, precision: str
) -> Side:
    """Streams in steps of `frames` frames; in a precision that is not for encoders the decoder alone."""
    blocks, pieces, batch = audio.split(frames * codec.spec.hop_length, -1), parts(codec, codes, frames), len(audio)

    def encode() -> Sequence[float]:
        stream = codec.open_encoder(bandwidth, batch, start="primed")
        return _timed(codec, stream.push, blocks, stream.flush)

    def decode() -> Sequence[float]:
        stream = codec.open_decoder(batch, start="primed")
        return _timed(codec, stream.push, pieces, stream.flush)

    work = work_of(codec, bandwidth, precision, frames * batch)
    return _side(name, encode, decode, frames, precision, work)


def served(name: str, codec: Codec, audio: Tensor, codes: Codes, bandwidth: float, frames: int, precision: str) -> Side:
    """The same as sessions of an engine, each fed its part before a step; what an engine costs beside it counts."""
    batch = len(audio)
    engine = Engine(codec, slots=batch, batch_sizes=(batch,), step_frames=(frames,))
    engine.prepare()
    blocks = [list(block.split(1)) for block in audio.split(frames * codec.spec.hop_length, -1)]
    pieces = [[Codes(row, None, piece.length) for row in piece.data.split(1)] for piece in parts(codec, codes, frames)]

    def run(direction: Direction, inputs: Sequence[Sequence[Any]]) -> Sequence[float]:
        sessions = [engine.open(direction, bandwidth=bandwidth, start="primed") for _ in range(batch)]

        def step(rows: Sequence[Any]) -> None:
            for session, row in zip(sessions, rows, strict=True):
                engine.feed(session, row)
            while engine.ready:
                engine.step()

        def end() -> None:
            for session in sessions:
                engine.flush(session)
            while engine.ready:
                engine.step()

        return _timed(codec, step, inputs, end)

    work = work_of(codec, bandwidth, precision, frames * batch)
    return _side(name, partial(run, "encode", blocks), partial(run, "decode", pieces), frames, precision, work)


def _side(name: str, encode: Run, decode: Run, frames: int, precision: str, work: dict[str, Work]) -> Side:
    run = {"encode": encode, "decode": decode} if precision in ENCODING else {"decode": decode}
    return Side(name, run, frames, work, precision)


def _timed(
    codec: Codec, step: Callable[[Any], object], inputs: Sequence[Any], end: Callable[[], object] = lambda: None
) -> Sequence[float]:
    times = []
    for each in inputs:
        begun = time.perf_counter()
        synchronized(partial(step, each), codec.device)()
        times.append(time.perf_counter() - begun)
    end()
    return times


def parts(codec: Codec, codes: Codes, frames: int) -> list[Codes]:
    """`codes` cut into pieces of `frames` frames; those at the end of the audio have the length that is left."""
    data = codes.data.split(frames, 2)
    scales = [None] * len(data) if codes.scale is None else codes.scale.split(frames, 1)
    pieces = [Codes(piece, scale) for piece, scale in zip(data, scales, strict=True)]
    if codes.length is None:
        return pieces
    stop = before = 0
    for i, piece in enumerate(pieces):
        stop += piece.data.shape[2]
        last, full = i == len(pieces) - 1, codec.spec.samples(stop)
        after = codes.length if last else min(full, codes.length)
        if last or after < full:  # DAC's last frame may hold nothing of the audio
            pieces[i] = Codes(piece.data, piece.scale, after - before)
        before = after
    return pieces


def loss_of_precision(codec: Codec, low: Codec, codes: Codes, frames: int) -> float:
    """dB by which the audio of `codec`'s decoder is above the difference of `low`'s, in steps, of the same codes."""

    def audio(of: Codec) -> Tensor:
        stream = of.open_decoder(len(codes.data), start="exact")
        return torch.cat([*(stream.push(piece) for piece in parts(of, codes, frames)), stream.flush()], 2)

    exact = audio(codec)
    return float(10 * torch.log10(exact.square().sum() / (exact - audio(low)).square().sum()))


def same_codes(codec: Codec, other: Codec, precision: str, audio: Tensor, bandwidth: float, frames: int) -> float:
    """The part of the codes of `codec`'s offline call that `other` has where it encodes in that precision, in steps."""
    other = other.on(other.backend)
    other.framing.networks[0].use(other.backend, precision)  # `Codec.on` leaves the encoder in float32
    stream = other.open_encoder(bandwidth, len(audio))
    pieces = [stream.push(block) for block in audio.split(frames * codec.spec.hop_length, -1)]
    return agreement(Codes.cat([*pieces, stream.flush()]).data, codec.encode(audio, bandwidth).data)


def check_steps(codec: Codec, audio: Tensor, bandwidth: float, frames: int, directions: Sequence[str]) -> None:
    """Raises StreamcodecError unless streams in such steps give what the offline calls do, but for near ties."""
    codes = codec.encode(audio, bandwidth)
    if "encode" in directions:
        encoder = codec.open_encoder(bandwidth, len(audio))
        blocks = audio.split(frames * codec.spec.hop_length, -1)
        ours = Codes.cat([*(encoder.push(block) for block in blocks), encoder.flush()])
        if agreement(ours.data, codes.data) < AGREEMENT:
            raise StreamcodecError(f"bench: {frames}-frame steps give other codes than the offline call; not timing it")
    if "decode" in directions:
        whole, decoder = codec.decode(codes), codec.open_decoder(len(audio))
        wav = torch.cat([*(decoder.push(piece) for piece in parts(codec, codes, frames)), decoder.flush()], 2)
        error = float((whole - wav).abs().max())
        if not error <= AUDIO_ERROR * max(1.0, float(whole.abs().max())):
            raise StreamcodecError(
                f"bench: audio of {frames}-frame steps differs from the offline call's by {error:.1e}; not timing it"
            )


def moshi(codec: Codec, upstream: Upstream, audio: Tensor, bandwidth: float) -> Side | None:
    """Mimi as the moshi package streams it, a frame at a time; None for another codec, and where it is not installed.

    Raises StreamcodecError where its codes are not those of `upstream`.
    """
    model = moshi_steps(codec, bandwidth) if isinstance(codec, MimiCodec) else None
    if model is None:
        return None
    blocks = audio.split(codec.spec.hop_length, -1)
    with torch.inference_mode():
        codes = upstream.codes(upstream.encode(audio))
        with model.streaming(len(audio)):
            agreed = agreement(torch.cat([model.encode(block) for block in blocks], 2), codes)
    if agreed < AGREEMENT:
        raise StreamcodecError(f"bench: {agreed:.2%} of the codes equal those of moshi; not timing another thing")
    pieces = codes.split(1, 2)

    def run(call: Callable[[Any], object], inputs: Sequence[Tensor]) -> Sequence[float]:
        with torch.inference_mode(), model.streaming(len(audio)):
            return _timed(codec, call, inputs)

    runs: dict[str, Run] = {
        "encode": lambda: run(model.encode, blocks),
        "decode": lambda: run(model.decode, pieces),
    }
    return Side("moshi, 1-frame steps", runs, 1, work_of(codec, bandwidth))
