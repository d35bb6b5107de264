"""What the commands that encode or decode share: opening the codec, running it block by block, timing and reporting."""

import contextlib
import json
import math
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..audio import Samples
from ..checkpoint import load
from ..codecs import Codec, CodecSpec, Start
from ..codes import Codes
from ..errors import InputError
from ..files import NewFile
from ..sources import Source, SourceFile
from .ends import new_output, takes_stdout
from .telling import tell

__all__ = ["CodecRun", "milliseconds", "open_codec", "report", "result_output"]

# Key of a result and how the line on stdout has it.
FIGURES = {
    "bitrate_kbps": "{:.2f} kbps",
    "algorithmic_delay_ms": "algorithmic delay {:.1f} ms",
    "real_time_factor": "real-time factor {:.4f}",
    "si_sdr_db": "SI-SDR {:.2f} dB",
    "mel_distance": "mel distance {:.4f}",
}


def open_codec(source: str | None, args: Namespace) -> Codec:
    """`streamcodec.load` of `source`, with the options for where to compute."""
    if getattr(args, "threads", None) is not None:
        torch.set_num_threads(args.threads)
    precision = getattr(args, "precision", "float32")
    return load(source, device=getattr(args, "device", "cpu"), backend=args.backend, precision=precision)


class CodecRun:
    """A codec run as the options have it, streamed or offline, with its count of frames and seconds.

    bandwidth: kbps; start: "exact" or "primed"; step_frames: frames pushed at a time, None offline.
    frames, codebooks: of the codes that passed `counted`; seconds: spent in the codec.
    """

    def __init__(self, codec: Codec, args: Namespace, bandwidth: float | None, start: Start) -> None:
        if args.offline and args.start == "primed":
            raise InputError("--start primed is a way for a stream to begin; leave it or --offline out")
        self.codec, self.spec, self.start = codec, codec.spec, start
        self.bandwidth = self.spec.default_bandwidth if bandwidth is None else bandwidth
        second = max(1, round(self.spec.frame_rate))
        self.step_frames: int | None = None if args.offline else args.step_frames or second
        self.block_frames = self.step_frames or second
        self.frames, self.codebooks, self.seconds = 0, 0, 0.0

    @property
    def block(self) -> int:
        """Samples to read at a time."""
        return self.block_frames * self.spec.hop_length

    def encode(self, blocks: Iterable[Samples]) -> Iterator[Codes]:
        """Codes of audio blocks [C, n]: block by block, or offline all at the end."""
        if self.step_frames is None:
            wav = np.concatenate(list(blocks), axis=1)[None]
            yield self.timed(self.codec.encode, wav, self.bandwidth)
            return
        stream = self.codec.open_encoder(bandwidth=self.bandwidth, start=self.start)
        for block in blocks:
            yield self.timed(stream.push, block[None])
        yield self.timed(stream.flush)

    def decode(self, parts: Iterable[Codes], batch: int = 1) -> Iterator[Tensor]:
        """Audio [C, n] on the CPU: part by part, or offline all at the end; C: batch times channels."""
        if self.step_frames is None:
            yield self._heard(self.codec.decode, Codes.cat(parts))
            return
        # The silence that a primed stream begins from has the codes of some bandwidth: that of these codes.
        primed = self.bandwidth if self.start == "primed" else None
        stream = self.codec.open_decoder(batch, start=self.start, bandwidth=primed)
        for codes in parts:
            yield self._heard(stream.push, codes)
        yield self._heard(stream.flush)

    def _heard(self, function: Callable[..., Tensor], *args: Any) -> Tensor:
        return self.timed(function, *args).flatten(0, 1).cpu()

    def counted(self, parts: Iterable[Codes]) -> Iterator[Codes]:
        """The codes, counted on their way through."""
        for codes in parts:
            self.frames += codes.data.shape[2]
            self.codebooks = codes.data.shape[1]
            yield codes

    def timed(self, function: Callable[..., Any], *args: Any) -> Any:
        """What the function returns, its time counted as the codec's."""
        since = time.perf_counter()
        result = function(*args)
        if self.codec.device.type == "cuda":  # else the work may only have been queued
            torch.cuda.synchronize(self.codec.device)
        self.seconds += time.perf_counter() - since
        return result

    def figures(self, samples: int, delay: int) -> dict[str, Any]:
        """What every result has. samples: of the recording, a channel; delay: samples.

        bitrate: at ceil(log2(codebook_size)) bits a code. real_time_factor: seconds of computing per second of audio.
        """
        seconds = samples / self.spec.sample_rate
        bits = self.frames * self.codebooks * (self.spec.codebook_size - 1).bit_length()
        return {
            "codec": self.spec.name,
            "sample_rate": self.spec.sample_rate,
            "channels": self.spec.channels,
            "samples": samples,
            "bandwidth_kbps": self.bandwidth,
            "codebooks": self.codebooks,
            "frames": self.frames,
            "start": self.start,
            "step_frames": self.step_frames,
            "bitrate_kbps": bits / seconds / 1000,
            "algorithmic_delay_samples": delay,
            "algorithmic_delay_ms": milliseconds(delay, self.spec),
            "codec_seconds": self.seconds,
            "real_time_factor": self.seconds / seconds,
        }


def milliseconds(samples: int, spec: CodecSpec) -> float:
    """A count of samples as time."""
    return 1000 * samples / spec.sample_rate


@contextlib.contextmanager
def result_output(
    args: Namespace, path: str, sources: Sequence[Source | SourceFile | None], *, numbered: bool = False
) -> Iterator[NewFile]:
    """A command's output (see `new_output`), which it commits; `report` then knows whether stdout is still free."""
    args.takes_stdout = takes_stdout(path)
    if args.takes_stdout and args.json:
        raise InputError(f"--json and the output {path}: both want standard output; leave one of them out")
    with new_output(path, args.force, sources, numbered=numbered) as output:
        yield output
    if not args.takes_stdout:
        tell(f"wrote {output.path}")


def report(result: dict[str, Any], args: Namespace) -> None:
    """The result on stdout: one line of its figures, or one JSON object, where a number that is not finite is null.

    Where stdout has the output, the line goes to stderr.
    """
    if args.json:
        print(json.dumps({key: value if _is_json(value) else None for key, value in result.items()}))
        return
    figures = [form.format(result[key]) for key, form in FIGURES.items() if not math.isnan(result.get(key, math.nan))]
    pace = "offline" if result["step_frames"] is None else f"steps of {result['step_frames']} frames"
    print(" | ".join([*figures, pace]), file=sys.stderr if args.takes_stdout else sys.stdout)


def _is_json(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)
