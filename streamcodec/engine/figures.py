"""What the engine counts. Times are seconds by `time.perf_counter`."""

from dataclasses import dataclass

__all__ = ["EngineFigures", "LaneFigures", "SessionFigures", "StepTime"]


@dataclass
class StepTime:
    """Wall time of steps, in seconds: the last one's, the longest one's, the sum and the number of them."""

    last: float = 0.0
    longest: float = 0.0
    total: float = 0.0
    steps: int = 0

    @property
    def mean(self) -> float:
        """0.0 before the first step."""
        return self.total / self.steps if self.steps else 0.0

    def add(self, seconds: float) -> None:
        self.last, self.longest = seconds, max(self.longest, seconds)
        self.total += seconds
        self.steps += 1


@dataclass(frozen=True)
class LaneFigures:
    """One direction of the engine.

    batched: False where the codec has no framed network in this direction and sessions run one by one.
    open, slots: sessions that have a slot, and slots; queued: frames (whole ones) that wait.
    batches: network steps run; rows: sessions in them; frames: by which those moved on; padding: rows of scratch that
    filled batches up to a prepared size;
    alone: calls that ran one session by itself (starts and ends of mirrored codecs, and all where not batched).
    nbytes: memory of all slots' states, allocated up front; 0 where not batched.
    """

    batched: bool
    open: int
    slots: int
    queued: int
    batches: int
    rows: int
    frames: int
    padding: int
    alone: int
    nbytes: int
    seconds: float


@dataclass(frozen=True)
class EngineFigures:
    """All sessions together.

    sessions: open now; opened, refused, failed: since the start; time: of steps in which anything was ready.
    """

    sessions: int
    opened: int
    refused: int
    failed: int
    time: StepTime
    encoder: LaneFigures
    decoder: LaneFigures


@dataclass(frozen=True)
class SessionFigures:
    """One session.

    queued_samples: audio that waits to be encoded; queued_frames: codes that wait to be decoded; encoded_frames,
    decoded_frames: frames that came out of the encoder and that went into the decoder; time: of the steps it took part
    in.
    """

    queued_samples: int
    queued_frames: int
    encoded_frames: int
    decoded_frames: int
    time: StepTime
