"""The same codec here and in another implementation, and the check that the two do the same."""

import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoint import load, save
from ..codecs import Codec
from ..codecs.snac import SnacCodec
from ..codes import Codes
from ..errors import InputError, StreamcodecError
from .presets import BUNDLED, PRESETS
from .random_weights import make
from .upstream import Upstream, upstream_of

__all__ = [
    "AGREEMENT",
    "AUDIO_ERROR",
    "agreement",
    "check_same",
    "open_codec",
    "open_pair",
    "tell",
]

AGREEMENT = 0.99  # least share of codes that are equal, as `agreement` counts them
AUDIO_ERROR = 1e-4  # of the loudest sample, at least of full scale


def open_codec(source: str | None, backend: str = "auto", precision: str = "float32") -> tuple[Codec, bool]:
    """What `load` makes of `source`, or a preset where nothing lies there under its name; whether it is a preset."""
    if source in PRESETS and not Path(source).exists():
        return make(PRESETS[source]).on(backend, precision), True
    return load(source, backend=backend, precision=precision), False


def open_pair(
    source: str, bandwidth: float | None, backend: str = "auto", frames: int = 256, device: str = "cpu"
) -> tuple[Codec, Upstream | None, float]:
    """The codec, the same in another implementation, and the bandwidth: that asked for, the preset's, or the default.

    source: the name of a preset or of the bundled codec, or a directory or file that `load` takes; transformers reads
    directories in Hugging Face format alone. frames: as for `make`. None stands where nothing else does the same, as
    with the bundled codec. Raises InputError where the other implementation is missing, BandwidthError.
    """
    preset = None if Path(source).exists() else PRESETS.get(source)
    with tempfile.TemporaryDirectory() as scratch:
        # Saved and read again, so that both have the weights from the same file.
        place = (
            Path(source) if preset is None else save(make(preset, frames=frames), Path(scratch) / f"{source}_random")
        )
        if not place.exists() and source != BUNDLED:
            raise InputError(
                f"--codec {source}: bench speed takes a directory in Hugging Face format, which transformers reads "
                f"too, a file or directory of a codec that is compared with itself, {BUNDLED}, or one of "
                f"{', '.join(PRESETS)}"
            )
        codec = load(place if place.exists() else None, backend=backend)
        if isinstance(codec, SnacCodec) and codec.noise is not None:
            codec = load(place, backend=backend, noise="off")
        codec = codec.to(device)
        kbps = bandwidth or (preset.bandwidth if preset else None) or codec.spec.default_bandwidth
        upstream = upstream_of(codec, kbps, place if (place / "config.json").is_file() else None)
    # The others as bare models, without their processors.
    codec.pad = upstream is None or isinstance(codec, SnacCodec)
    return codec, upstream, kbps


def agreement(ours: Tensor, theirs: Tensor) -> float:
    """The share of equal codes in [B, K, T]; of each frame only the first that differs counts, as one of eight at most.

    Near ties between entries fall either way with the order of summation, and one moves all later codes of its frame.
    """
    return 1 - float((ours != theirs).any(1).double().mean()) / min(8, ours.shape[1])


@torch.inference_mode()
def check_same(codec: Codec, upstream: Upstream, audio: Tensor, bandwidth: float) -> None:
    """Raises StreamcodecError unless both give the same codes (but for near ties) and, of those codes, the same audio.

    audio: [1, C, N]; two seconds of it are enough.
    """
    theirs = upstream.encode(audio)
    codes, ours = upstream.codes(theirs), codec.encode(audio, bandwidth)
    if ours.data.shape != codes.shape:
        raise StreamcodecError(
            f"bench: codes are {list(ours.data.shape)} here and {list(codes.shape)} in {upstream.name}; not timing "
            "two different things"
        )
    agreed = agreement(ours.data, codes)
    if agreed < AGREEMENT:
        raise StreamcodecError(
            f"bench: only {agreed:.2%} of the codes equal those of {upstream.name}; not timing two different things"
        )
    audio_here = codec.decode(Codes(codes, ours.scale, ours.length))
    wav = upstream.decode(theirs)[..., : audio_here.shape[-1]]
    error = float((audio_here - wav).abs().max()) if audio_here.shape == wav.shape else float("inf")
    if not error <= AUDIO_ERROR * max(1.0, float(wav.abs().max())):
        raise StreamcodecError(
            f"bench: decoded audio differs from that of {upstream.name} by {error:.1e}; not timing it"
        )
    tell(
        f"checked against {upstream.name}: {agreed:.2%} of codes equal, audio within {error:.1e}; "
        f"{len(codes.unique())} of {codec.spec.codebook_size} entries in use"
    )


def tell(sentence: str) -> None:
    """To stderr: stdout has only the result."""
    print(f"streamcodec: {sentence}", file=sys.stderr)
