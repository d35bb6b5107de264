"""Float recordings of what the codec heard and of what was played, so that they can be compared to the bit."""

from ..audio import WAV_LIMIT, SoundWriter
from ..files import NewFile, Output, suffix_format
from .ring import Rows

__all__ = ["FORMATS", "Recorder"]

FORMATS = ("wav",)  # which holds float samples

BYTES = 4  # of a sample


class Recorder(SoundWriter):
    """A 32-bit float WAV file that takes its name when it is closed. Raises AudioError where it cannot be written.

    A WAV file holds 4 GiB: what comes later is left out, and `full` says so.
    """

    def __init__(self, output: Output, sample_rate: int, channels: int) -> None:
        if not isinstance(output, NewFile):
            suffix_format(output, FORMATS)
        self.full = False
        super().__init__(output, sample_rate, channels, "WAV", "FLOAT")

    def write(self, rows: Rows) -> None:
        """Append samples [n, channels]."""
        if self.full or (self.length + len(rows)) * self.channels * BYTES > WAV_LIMIT:
            self.full = True
            return
        self._put(rows)

    def close(self) -> None:
        """Give the file its name; without samples there is none."""
        if self.length:
            super().close()
        else:
            self.abort()
