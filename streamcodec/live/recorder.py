"""Float recordings of what the codec heard and of what was played, so that they can be compared to the bit."""

from pathlib import Path
from typing import TYPE_CHECKING

from ..audio import WAV_LIMIT
from ..errors import AudioError
from ..files import NewFile
from .ring import Rows

if TYPE_CHECKING:
    import os

__all__ = ["Recorder"]

BYTES = 4  # of a sample


class Recorder:
    """A 32-bit float WAV file that takes its name when it is closed. Raises AudioError where it cannot be written.

    A WAV file holds 4 GiB: what comes later is left out, and `full` says so.
    """

    def __init__(self, path: "str | os.PathLike[str]", sample_rate: int, channels: int) -> None:
        import soundfile

        if Path(path).suffix.lower() != ".wav":
            raise AudioError(f"{path}: what is live is recorded as float samples; give a name that ends in .wav")
        self._new, self._channels, self._length = NewFile(path), channels, 0
        self.path, self.full = Path(path), False
        try:
            self._file = soundfile.SoundFile(
                self._new.partial, "w", sample_rate, channels, format="WAV", subtype="FLOAT"
            )
        except (OSError, soundfile.LibsndfileError) as error:
            self._new.discard()
            raise AudioError(f"cannot write {path}: {error}") from error

    def write(self, rows: Rows) -> None:
        """Append samples [n, channels]."""
        import soundfile

        if self.full or (self._length + len(rows)) * self._channels * BYTES > WAV_LIMIT:
            self.full = True
            return
        self._length += len(rows)
        try:
            self._file.write(rows)
        except (OSError, soundfile.LibsndfileError) as error:
            raise AudioError(f"cannot write {self.path}: {error}") from error

    def close(self) -> None:
        """Give the file its name; without samples there is none."""
        self._file.close()
        if self._length:
            self._new.commit()
        else:
            self._new.discard()
