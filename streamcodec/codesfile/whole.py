"""Whole codes files: `load_codes` and `save_codes`."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..codecs import Codec, Start
from ..codes import Codes, CodesLike
from ..entropy import EntropyModel
from ..errors import AudioError, BandwidthError
from .dac import DacReader
from .ecdc import EcdcReader
from .ecdc_lm import EncodecLM
from .kinds import kind_of
from .safetensors_file import CodesReader, CodesWriter
from .scx.reader import ScxReader
from .scx.whole import header_of, load

if TYPE_CHECKING:
    import os

__all__ = ["load_codes", "save_codes"]

SUFFIX = ".safetensors"


def load_codes(
    path: "str | os.PathLike[str]", entropy: EntropyModel | None = None, lm: EncodecLM | None = None
) -> Codes:
    """The codes in a file, all at once and on the CPU, as ``codec.decode`` takes them.

    Of which kind a file is, its first bytes say. What is kept of each:

    - ours (.safetensors), EnCodec's (.ecdc): everything, [1, K, T] with scale and length;
    - .scx: the same, of a file of one section and one bandwidth in which nothing is missing;
    - DAC's (.dac): the codes, [channels, K, T], each channel a mono signal of its own. `length` is None, for the file
      has that of the recording, at the recording's rate; rate and loudness are left out too. `streamcodec decode`
      restores all of them.

    entropy: the model of codes that are entropy coded; without it the one beside the codec that the file names.
    lm: of an .ecdc file that was coded with EnCodec's language model (`streamcodec.codesfile.EncodecLM.load`).

    Whether the codes are those of the codec at hand is not checked: `codesfile.CodesReader(path).header` says whose
    they are. Raises AudioError for a file that is missing, damaged or of another format; CodesError.
    """
    kind = kind_of(path)
    if kind == "dac":
        return Codes(DacReader(path).file.codes)
    if kind == "scx":
        with ScxReader(path) as live:
            return load(live)
    with EcdcReader(path, lm) if kind == "ecdc" else CodesReader(path, entropy) as reader:
        if not reader.frames:
            return Codes(torch.zeros(1, reader.codebooks, 0, dtype=torch.int64), None, reader.header.length)
        (codes,) = reader.blocks(reader.frames)
        return codes


def save_codes(
    path: "str | os.PathLike[str]",
    codes: CodesLike,
    codec: Codec,
    *,
    overwrite: bool = False,
    start: Start = "exact",
    source: str = "",
    entropy: EntropyModel | None = None,
) -> None:
    """Write codes of one signal, [1, K, T], to a .safetensors file that `load_codes` and `streamcodec decode` read.

    codec: the one that made them. overwrite: replace a file that is there; otherwise that is an error.
    start: how the encoder's stream began, for `streamcodec decode` to begin alike; source: what `streamcodec.load` was
    given for the codec, for `streamcodec decode` to find it without --codec ("" for the bundled codec). entropy: the
    model to code them with, in fewer bytes.

    The file appears when it is complete. Raises AudioError where it is there already or cannot be written; InputError
    for codes that are not the codec's, or of more than one signal.
    """
    path, codes, spec = Path(path), codec.checked(codes), codec.spec
    if path.suffix != SUFFIX:
        raise AudioError(f"{path}: save_codes writes {SUFFIX}; `streamcodec encode` writes .ecdc and .dac too")
    if path.exists() and not overwrite:
        raise AudioError(f"{path} is there already; give another name, or overwrite=True to replace it")
    _, codebooks, frames = codes.shape
    length = spec.samples(frames) if codes.length is None else codes.length
    codec.check_length(length, frames)
    header = header_of(codec, bandwidth=_bandwidth(codec, codebooks), start=start, source=source).codes
    with CodesWriter(path, header, entropy) as writer:
        writer.append(Codes(codes.data, codes.scale, length))


def _bandwidth(codec: Codec, codebooks: int) -> float:
    """kbps of as many codebooks, be they on offer or not: the first ones of more are codes as well."""
    try:
        return codec.spec.bandwidth(codebooks)
    except BandwidthError:
        return codebooks * math.log2(codec.spec.codebook_size) * codec.spec.frame_rate / 1000
