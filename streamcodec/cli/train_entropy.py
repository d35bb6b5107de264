"""``streamcodec train entropy``: codes to a model that makes them cost fewer bits."""

import sys
from argparse import Namespace

import numpy as np

from ..checkpoint import load
from ..codecs import Codec
from ..entropy import EntropyModel, FrameEncoder, Predictor
from ..errors import AudioError, ConfigError
from ..train.entropy import EntropySettings, export, train_entropy
from ..train.entropy_codes import codes_of
from .telling import progress

__all__ = ["run_entropy"]

HELD_BACK = 20  # one recording of so many, to measure with
TOLD = 100  # times that a line tells of the training where there is no terminal
BLOCK = 500  # frames


def run_entropy(args: Namespace) -> None:
    """Run the command."""
    if args.hours <= 0 or args.minutes <= 0:
        raise ConfigError(f"--hours is {args.hours} and --minutes {args.minutes}; both must be above 0")
    if args.out.exists() and not args.force:
        raise AudioError(f"{args.out} exists already; give another name, or --force to replace it")
    codec = load(args.codec)
    with progress(args.hours * 3600) as advance:
        done = [0.0]

        def heard(seconds: float) -> None:
            advance(seconds - done[0])
            done[0] = seconds

        codes = codes_of(args.data, codec, args.hours, args.seed, heard)
    kept = len(codes) // HELD_BACK
    model = _trained(codec, codes[kept:], EntropySettings(minutes=args.minutes, seed=args.seed))
    model.write(args.out)
    size = len(model.to_bytes())
    print(f"{args.out}: {size / 2**20:.1f} MiB, {model.hash[:16]}{_saved(codec, model, codes[:kept])}")


def _trained(codec: Codec, codes: list[np.ndarray], settings: EntropySettings) -> EntropyModel:
    from tqdm import tqdm

    told, smooth = 0.0, 0.0
    with tqdm(total=100.0, disable=not sys.stderr.isatty(), file=sys.stderr) as bar:
        bar.bar_format = "{l_bar}{bar}| {n:.1f}% {postfix}"
        for step in train_entropy(codec, codes, settings):
            smooth = 0.95 * smooth + 0.05 * step.bits if smooth else step.bits
            bar.set_postfix_str(f"{smooth:.3f} bits a code", refresh=False)
            bar.update(100 * step.done - bar.n)
            if bar.disable and step.done >= told:
                told += 1 / TOLD
                print(f"{100 * step.done:.1f}%: {smooth:.3f} bits a code", file=sys.stderr, flush=True)
    return export(step.network, codec)


def _saved(codec: Codec, model: EntropyModel, codes: list[np.ndarray]) -> str:
    """What coded bytes save on recordings that were held back, at each bandwidth."""
    if not codes:
        return ""
    predictor, width, parts = Predictor(model), int(codec.spec.codebook_size - 1).bit_length(), []
    for bandwidth in codec.spec.bandwidths:
        count = codec.spec.codebooks(bandwidth)
        plain = sum(width * count * each.shape[1] for each in codes)
        coded = 0
        for each in codes:
            encoder = FrameEncoder(predictor)
            for start in range(0, each.shape[1], BLOCK):
                coded += 8 * len(encoder.encode(each[:count, start : start + BLOCK]).data)
        parts.append(f"{1 - coded / plain:.1%} at {bandwidth:g} kbps")
    return f"; on {len(codes)} recordings that were held back it saves {', '.join(parts)}"
