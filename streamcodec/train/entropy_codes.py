"""Codes to train a predictor on: from recordings, which are encoded, or from a data set of tokens."""

import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..audio import AudioReader
from ..codecs import Codec
from ..corpus import TokenDataset
from ..errors import AudioError, InputError
from .data import find_audio, refuse_holdout
from .token_audio import is_tokens

__all__ = ["codes_of"]

CHUNK = 30.0  # seconds encoded at a time


def codes_of(
    source: Path, codec: Codec, hours: float, seed: int, heard: Callable[[float], object] = lambda seconds: None
) -> list[np.ndarray]:
    """[K, T] int32 of each recording, K all of the codec's codebooks: of `hours` at most, chosen at random.

    source: a folder of audio, a text file with one path a line, or a folder that `streamcodec tokenize` wrote. heard:
    is told the seconds that are done. A file that cannot be read is named on standard error. Raises AudioError where
    there is nothing to read; InputError for hold-out audio, and for tokens of another codec or of fewer codebooks.
    """
    found = _tokens(source, codec) if is_tokens(source) else _recordings(source, codec)
    random.Random(seed).shuffle(found)
    codes: list[np.ndarray] = []
    frames = 0
    for read in found:
        try:
            codes.append(read())
        except AudioError as error:
            print(f"skipped: {error}", file=sys.stderr)
            continue
        frames += codes[-1].shape[1]
        heard(frames / codec.spec.frame_rate)
        if frames >= hours * 3600 * codec.spec.frame_rate:
            break
    return codes


def _tokens(source: Path, codec: Codec) -> list[Callable[[], np.ndarray]]:
    data = TokenDataset(source)
    about = data.about
    if about.header.fingerprint != codec.fingerprint:
        raise InputError(f"{source} has tokens of {about.header.codec}, with other weights than {codec.spec.name} here")
    if about.codebooks != codec.spec.num_codebooks:
        raise InputError(
            f"{source} has {about.codebooks} codebooks; the predictor needs all {codec.spec.num_codebooks}: tokenize "
            "with the highest bandwidth"
        )

    def reads(index: int) -> Callable[[], np.ndarray]:
        return lambda: data[index].codes.data[0].numpy().astype(np.int32)

    return [reads(index) for index in range(len(data))]


def _recordings(source: Path, codec: Codec) -> list[Callable[[], np.ndarray]]:
    files = find_audio(source)
    refuse_holdout(files)

    def reads(path: Path) -> Callable[[], np.ndarray]:
        return lambda: encoded(path, codec)

    return [reads(path) for path in files]


def encoded(path: Path, codec: Codec) -> np.ndarray:
    """A recording's codes, [K, T] int32, with all codebooks. Raises AudioError."""
    spec = codec.spec
    with AudioReader(path, spec.sample_rate, spec.channels, spec.sample_rate) as reader:
        audio = np.concatenate(list(reader), 1)
    if not audio.shape[1]:
        return np.zeros((spec.num_codebooks, 0), np.int32)
    chunk = None if spec.semantic_window else CHUNK
    codes = codec.encode(audio[None], num_codebooks=spec.num_codebooks, chunk_seconds=chunk)
    return codes.data[0].cpu().numpy().astype(np.int32)
