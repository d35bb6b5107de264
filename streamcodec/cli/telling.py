"""What commands say on stderr while they run. Needs no torch."""

import contextlib
import sys
from collections.abc import Callable, Iterator

from ..audio import AudioReader, AudioWriter
from .signals import check_ended

__all__ = ["announce", "announce_clipping", "progress", "tell"]

PROGRESS_FROM = 10  # seconds of audio: shorter files are done before a bar is of use


@contextlib.contextmanager
def progress(seconds: float | None) -> Iterator[Callable[[float], object]]:
    """A function to call with the seconds of audio just done; it draws a bar on a terminal if there are many.

    seconds: how many there will be, None where nobody knows.
    """
    if (seconds is not None and seconds <= PROGRESS_FROM) or not sys.stderr.isatty():
        yield lambda seconds: check_ended()
        return
    from tqdm import tqdm

    form = "{n:.0f} s of audio [{elapsed}]"
    if seconds is not None:
        form = "{l_bar}{bar}| {n:.0f}/{total:.0f} s of audio [{elapsed}<{remaining}]"
    with tqdm(total=seconds, bar_format=form, file=sys.stderr) as bar:

        def advance(seconds: float) -> None:
            check_ended()
            bar.update(seconds)

        yield advance


def announce(reader: AudioReader) -> None:
    """Say on stderr what is changed about a recording."""
    for sentence in reader.changes:
        tell(f"{reader.name}: {sentence}")


def announce_clipping(writer: AudioWriter) -> None:
    """Say on stderr what the file could not hold."""
    if writer.clipped:
        tell(f"{writer.path}: {writer.clipped} samples were outside ±1 and were clipped")


def tell(sentence: str) -> None:
    """To stderr: stdout has only the result."""
    print(f"streamcodec: {sentence}", file=sys.stderr)
