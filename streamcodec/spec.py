"""What a codec is, in numbers."""

import math
from dataclasses import dataclass
from typing import SupportsFloat, SupportsIndex

from .errors import BandwidthError, InputError
from .scalars import meant, real, whole

__all__ = ["CodecSpec", "SemanticWindow"]

# Two minutes at 50 frames a second: attention over more is no stream any more, and its cost grows with the square.
LONGEST_WINDOW = 6000


@dataclass(frozen=True)
class SemanticWindow:
    """What a streaming encoder lets its speech model hear, in frames of the codec.

    For every `hop` frames the speech model runs on those, the `left` frames before and the `right` frames after them
    (fewer at the ends of the signal), and only the features of the `hop` frames are kept. A longer window comes closer
    to the run over the whole utterance; `right` and `hop` cost delay, and the speech model's work is
    (left + hop + right) / hop times that of one run over the signal.

    The default: 2 s of past, which is more than the 1.28 s that HuBERT's and WavLM's positional convolution
    (kernel 128) sees of either side; `hop` and `right` together 21 frames, the most that X-Codec's acoustic encoder,
    which looks 27.3 frames ahead, leaves free of delay: the semantic encoder behind it looks 7 frames ahead, and
    7 + 10 + 11 - 1 = 27.

    Raises InputError for a negative count, a hop below 1 and a window of more than 6,000 frames.
    """

    left: int = 100
    right: int = 11
    hop: int = 10

    def __post_init__(self) -> None:
        for name, least in (("left", 0), ("right", 0), ("hop", 1)):
            object.__setattr__(self, name, whole(getattr(self, name), f"a semantic window's {name}", least))
        if self.frames > LONGEST_WINDOW:
            raise InputError(f"a semantic window of {self.frames} frames; at most {LONGEST_WINDOW} are allowed")

    @property
    def frames(self) -> int:
        """Frames that the speech model hears at once."""
        return self.left + self.hop + self.right

    def heard(self, start: int, frames: int) -> tuple[int, int]:
        """First and end of the frames heard for those from `start` on, of a signal of `frames` frames."""
        return max(0, start - self.left), min(frames, start + self.hop + self.right)


@dataclass(frozen=True)
class CodecSpec:
    """The public description of a codec.

    sample_rate: Hz; hop_length: samples per frame; frame_rate: frames per second.
    num_codebooks, codebook_size: stages of the quantizer and entries of each; 0 where latents are continuous.
    bandwidths: kbps on offer, ascending; default_bandwidth: the one used when none is named.
    latent_channels: channels of the latents, before the quantizer and after it.
    encoder_delay: samples beyond a frame's own last one that must be pushed before its codes come.
    decoder_delay: samples by which decoded audio trails the frames pushed.
    prefill_frames: frames that an exact start collects before anything comes out (0: none); encoder_prefill and
        decoder_prefill give each direction.
    bytes_per_stream: memory of one encoder plus one decoder stream; encoder_bytes and decoder_bytes give each.
    bandwidth_codebooks: codebooks used at each of the bandwidths; empty where as many are as a bandwidth pays for.
    segment_length, segment_stride: samples, where a codec works on whole segments (EnCodec 48 kHz); else None.
    levels: where a codec's codebooks have different rates (SNAC), the codes of a frame of each, coarsest first; else
        empty. Then a frame's codes are these level by level, num_codebooks is their sum, and `Codes.levels` takes them
        apart.
    semantic_window: the default window of a codec with a speech model (X-Codec), for which encoder_delay and
        encoder_bytes are stated: its streaming encoder equals `encode_windowed`, not `encode`. Else None.
    """

    name: str
    sample_rate: int
    channels: int
    hop_length: int
    frame_rate: float
    num_codebooks: int
    codebook_size: int
    bandwidths: tuple[float, ...]
    default_bandwidth: float
    encoder_delay: int
    decoder_delay: int
    prefill_frames: int
    bytes_per_stream: int
    encoder_prefill: int = 0
    decoder_prefill: int = 0
    encoder_bytes: int = 0
    decoder_bytes: int = 0
    segment_length: int | None = None
    segment_stride: int | None = None
    bandwidth_codebooks: tuple[int, ...] = ()
    levels: tuple[int, ...] = ()
    semantic_window: SemanticWindow | None = None
    latent_channels: int = 0

    @property
    def delay(self) -> int:
        """The algorithmic delay of encoder and decoder together, in samples: look-ahead plus one frame of framing."""
        return self.encoder_delay + self.decoder_delay + self.hop_length

    @property
    def encoder_wait(self) -> int:
        """Samples that an exact start needs before the first codes come (0: a frame is enough).

        Less than the prefill's frames by what the look-ahead leaves of a frame: the stream is cut there.
        """
        return max(0, self.encoder_prefill * self.hop_length - (-self.encoder_delay % self.hop_length))

    @property
    def decoder_wait(self) -> int:
        """Samples' worth of frames that an exact start needs before the first audio comes."""
        return self.decoder_prefill * self.hop_length

    @property
    def segment_frames(self) -> int | None:
        """Frames of a whole segment, or None."""
        return None if self.segment_length is None else -(-self.segment_length // self.hop_length)

    def samples(self, frames: int) -> int:
        """Samples that the first `frames` frames of a stream stand for."""
        if self.segment_length is None or self.segment_stride is None:  # asked at every push
            return frames * self.hop_length
        whole, rest = divmod(frames, -(-self.segment_length // self.hop_length))
        return whole * self.segment_stride + min(rest * self.hop_length, self.segment_stride)

    def codebooks(self, bandwidth: SupportsFloat) -> int:
        """Codebooks used at a bandwidth in kbps. Raises BandwidthError for one that is not on offer (see `offered`)."""
        bandwidth = self.offered(bandwidth)
        if self.bandwidth_codebooks:
            return self.bandwidth_codebooks[self.bandwidths.index(bandwidth)]
        # Upstream rounds the frame rate up before it counts bits (EncodecConfig.frame_rate).
        bits = math.log2(self.codebook_size) * math.ceil(self.frame_rate)
        return min(self.num_codebooks, max(1, math.floor(bandwidth * 1000 / bits)))

    def bandwidth(self, num_codebooks: SupportsIndex) -> float:
        """The bandwidth in kbps that has as many codebooks: the inverse of `codebooks`.

        Raises BandwidthError for a number that no bandwidth on offer has.
        """
        count = whole(num_codebooks, "num_codebooks")
        counts = [self.codebooks(bandwidth) for bandwidth in self.bandwidths]
        if count not in counts:
            offered = ", ".join(str(value) for value in sorted(set(counts)))
            raise BandwidthError(f"num_codebooks is {count}, which {self.name} does not offer; choose one of {offered}")
        return float(self.bandwidths[counts.index(count)])

    def offered(self, bandwidth: SupportsFloat) -> float:
        """The bandwidth on offer, in kbps, that `bandwidth` means: the only one less than 1 bit per second away.

        `bandwidths` are stated to the bit per second, so 0.3125 means the 0.312 among them. Raises BandwidthError.
        """
        if type(bandwidth) is float and bandwidth in self.bandwidths:  # an engine asks at every step
            return bandwidth
        try:
            value = real(bandwidth, "bandwidth")
        except InputError:
            value = math.nan
        found = meant(value, self.bandwidths)
        if found is None:
            offered = ", ".join(f"{one:g}" for one in self.bandwidths)
            raise BandwidthError(f"bandwidth {bandwidth!r} kbps is not offered by {self.name}; choose one of {offered}")
        return float(found)

    def check_codes(self) -> None:
        """Raises InputError for a codec that has no codes."""
        if not self.num_codebooks:
            raise InputError(
                f"{self.name} has continuous latents and no codes: use encode_latents, decode_latents, "
                "open_latent_encoder and open_latent_decoder"
            )

    def resolve(self, bandwidth: SupportsFloat | None = None, num_codebooks: SupportsIndex | None = None) -> float:
        """The bandwidth in kbps that a caller chose by either name, `default_bandwidth` where by none.

        Raises BandwidthError for what is not on offer, InputError where both are given.
        """
        self.check_codes()
        if bandwidth is not None and num_codebooks is not None:
            raise InputError(
                f"bandwidth={bandwidth} and num_codebooks={num_codebooks}: both say how many codebooks; give one"
            )
        if num_codebooks is not None:
            return self.bandwidth(num_codebooks)
        return float(self.default_bandwidth) if bandwidth is None else self.offered(bandwidth)
