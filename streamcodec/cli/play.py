"""``streamcodec play``: a .scx file to a sound device, from any place on, also while it grows."""

import json
from argparse import Namespace

import torch

from ..codesfile.scx import Follow, ScxReader, decode
from ..entropy import find_model
from ..errors import InputError
from ..live.devices import choose
from ..live.one_way import Speaker
from .decode import check_codec, codec_of
from .ends import input_of
from .scx import announce_damage, span
from .telling import progress, tell

__all__ = ["run"]


def run(args: Namespace) -> int:
    """Run the command."""
    if not 0 < args.idle <= 86_400:
        raise InputError(f"--idle {args.idle:g} cannot be used; it must be above 0 and at most 86400")
    torch.set_num_threads(1)
    model = None if args.entropy is None else find_model(args.entropy)
    with ScxReader(input_of(args.input), model) as reader:
        played = _play(reader, args)
        announce_damage(reader)
    if args.json:
        print(json.dumps({"input": args.input, "seconds": played}))
    else:
        print(f"{played:.2f} s")
    return 0


def _play(reader: ScxReader, args: Namespace) -> float:
    """Seconds that were played."""
    start, end = span(args, reader)
    codec = codec_of(reader.path, reader.header.codes, args)
    check_codec(reader.path, reader.header.codes, codec)
    spec, played = codec.spec, 0
    device = choose("output", args.output, spec, args.rate)
    follow = Follow(idle=args.idle) if args.follow else None
    known = None if args.follow else (reader.seconds if end is None else end) - start
    with Speaker(device, spec.sample_rate, spec.channels) as speaker, progress(known) as advance:
        for pcm in decode(reader, codec, start, end, follow=follow):
            speaker.play(pcm.numpy())
            played += pcm.shape[1]
            advance(pcm.shape[1] / spec.sample_rate)
    if speaker.troubles:
        tell(f"{device.name} had nothing to play {speaker.troubles} times: this machine was busy, or the file late")
    return played / spec.sample_rate
