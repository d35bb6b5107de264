"""``streamcodec roundtrip``: encode and decode a recording, write the result and measure it."""

import math
from argparse import Namespace
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import Tensor

from ..audio import FORMATS, AudioReader, AudioWriter, Samples
from ..metrics import MelDistance, SiSdr
from .ends import input_of, output_format
from .running import CodecRun, open_codec, report, result_output
from .telling import announce, announce_clipping, progress, tell

__all__ = ["RECORDING", "run"]

RECORDING = Path(__file__).parents[1] / "bundled" / "jfk.flac"  # 11 s of speech at 24 kHz, public domain


class _Comparison:
    """The metrics of a result that trails its reference: keeps the reference until the result has come."""

    def __init__(self, sample_rate: int) -> None:
        self.si_sdr, self.mel = SiSdr(), MelDistance(sample_rate)
        self._waiting: deque[Samples] = deque()

    def reference(self, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """The blocks, noted on their way through."""
        for block in blocks:
            self._waiting.append(block)
            yield block

    def result(self, pcm: Tensor) -> None:
        """The next samples of the result, [C, n]."""
        estimate = pcm.numpy()
        while estimate.shape[1]:
            head = self._waiting.popleft()
            count = min(head.shape[1], estimate.shape[1])
            if count < head.shape[1]:
                self._waiting.appendleft(head[:, count:])
            self.si_sdr.update(head[:, :count], estimate[:, :count])
            self.mel.update(head[:, :count], estimate[:, :count])
            estimate = estimate[:, count:]


def run(args: Namespace) -> int:
    """Run the command."""
    source, name = input_of(args.input or RECORDING), args.output or f"out.{args.format or 'wav'}"
    form = output_format(name, list(FORMATS), args.format)
    with result_output(args, name, [source, args.codec], numbered=args.output is None) as output:
        codec = open_codec(args.codec, args)
        spec, run = codec.spec, CodecRun(codec, args, codec.spec.resolve(args.bandwidth, args.codebooks), args.start)
        comparison = _Comparison(spec.sample_rate)
        with (
            AudioReader(source, spec.sample_rate, spec.channels, run.block) as reader,
            AudioWriter(output, spec.sample_rate, spec.channels, form) as writer,
            progress(reader.seconds) as advance,
        ):
            announce(reader)
            for pcm in run.decode(run.counted(run.encode(comparison.reference(reader)))):
                writer.write(pcm)
                comparison.result(pcm)
                advance(pcm.shape[1] / spec.sample_rate)
        announce_clipping(writer)
    si_sdr = comparison.si_sdr.result()
    if math.isnan(si_sdr):
        tell(f"{reader.name}: silent, and so without an SI-SDR")
    result = {
        "input": args.input or str(RECORDING),
        "output": name if args.output else str(output.path),
        "changes": reader.changes,
        "clipped_samples": writer.clipped,
        **run.figures(writer.length, spec.delay),
        "si_sdr_db": si_sdr,
        "mel_distance": comparison.mel.result(),
    }
    report(result, args)
    return 0
