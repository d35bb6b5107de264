"""The same codec here and in `transformers`, or in the snac package, and the check that the two do the same."""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..checkpoint import load, save
from ..codecs import NOISE_KEY, Codec
from ..codecs.dac import DacCodec
from ..codecs.encodec import EncodecCodec
from ..codecs.mimi import MimiCodec
from ..codecs.snac import SnacCodec
from ..codecs.xcodec import XcodecCodec
from ..codes import Codes
from ..errors import InputError, StreamcodecError
from ..install import how_to_install
from .presets import PRESETS, make

__all__ = ["Upstream", "check_same", "open_codec", "open_pair", "tell"]

# Near ties between entries fall either way with the order of summation, and one moves all later codes of its frame.
AGREEMENT = 0.99
AUDIO_ERROR = 1e-4  # of the loudest sample, at least of full scale

_MODELS: dict[Any, str] = {
    EncodecCodec: "EncodecModel",
    DacCodec: "DacModel",
    MimiCodec: "MimiModel",
    SnacCodec: "SNAC",  # of the snac package; the others are of transformers
    XcodecCodec: "XcodecModel",
}


class Upstream(NamedTuple):
    """A model of another implementation at one bandwidth.

    encode: audio [B, C, N] to an output of its own kind; codes: that as codes [B, K, T]; decode: that to audio; name:
    of the implementation.
    """

    encode: Callable[[Tensor], Any]
    codes: Callable[[Any], Tensor]
    decode: Callable[[Any], Tensor]
    name: str = "transformers"


def add_backend(parser: argparse.ArgumentParser) -> None:
    """--backend, of what runs a codec."""
    parser.add_argument(
        "--backend", default="auto", metavar="NAME", help="what computes: auto, torch, native or triton"
    )


def open_codec(source: str | None, backend: str = "auto", precision: str = "float32") -> tuple[Codec, bool]:
    """What `load` makes of `source`, or a preset where nothing lies there under its name; whether it is a preset."""
    if source in PRESETS and not Path(source).exists():
        return make(PRESETS[source]).on(backend, precision), True
    return load(source, backend=backend, precision=precision), False


def open_pair(
    source: str, bandwidth: float | None, backend: str = "auto", frames: int = 256
) -> tuple[Codec, Upstream, float]:
    """The codec, the same in another implementation, and the bandwidth: that asked for, the preset's, or the default.

    source: a directory in Hugging Face format, or the name of a preset; frames: as for `make`. Raises InputError where
    there is nothing to compare with, BandwidthError.
    """
    preset = None if Path(source).exists() else PRESETS.get(source)
    if preset is not None:
        _model_of(preset.build, source)  # refused before it is made
    with tempfile.TemporaryDirectory() as scratch:
        # Saved and read again, so that both have the weights from the same file.
        directory = (
            Path(source) if preset is None else save(make(preset, frames=frames), Path(scratch) / f"{source}_random")
        )
        if not (directory / "config.json").is_file():
            raise InputError(
                f"--codec {source}: bench speed takes a directory in Hugging Face format, which transformers reads "
                f"too, or one of {', '.join(PRESETS)}"
            )
        codec = load(directory, backend=backend)
        kbps = bandwidth or (preset.bandwidth if preset else None) or codec.spec.default_bandwidth
        if isinstance(codec, SnacCodec):
            quiet = load(directory, backend=backend, noise=None if codec.noise is None else "off")
            return quiet, _snac(codec, kbps), kbps
        model = _transformers_model(_model_of(type(codec), source)).from_pretrained(directory).eval()
    codec.pad = False  # as transformers' bare models, without their processors
    return codec, _upstream(codec, model, kbps), kbps


def _model_of(family: Any, source: str) -> str:
    """The class that does the same, of transformers or the snac package. Raises InputError where there is none."""
    if family not in _MODELS:
        raise InputError(
            f"--codec {source}: there is no model for a {family.__name__} to compare with; "
            f"bench speed takes {', '.join(model.removesuffix('Model') for model in _MODELS.values())}"
        )
    return _MODELS[family]


def _transformers_model(name: str) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise InputError(
            f"bench speed compares with transformers; install it with: {how_to_install('xcodec')}"
        ) from error
    return getattr(transformers, name)


def _snac(codec: SnacCodec, bandwidth: float) -> Upstream:
    """The snac package's model with the weights of `codec`, without the noise that it draws anew at each call."""
    try:
        import snac
    except ImportError as error:
        raise InputError(
            "bench speed compares SNAC with the snac package; install it with: pip install snac"
        ) from error
    if bandwidth != codec.spec.bandwidths[-1]:
        raise InputError(f"the snac package always takes all levels: leave out --bandwidth {bandwidth:g}")
    config, tensors = codec.to_huggingface()
    names = {"model_type", NOISE_KEY}
    model = snac.SNAC(**{name: value for name, value in config.items() if name not in names})
    for layer in model.modules():
        if nn.utils.parametrize.is_parametrized(layer, "weight"):
            nn.utils.parametrize.remove_parametrizations(layer, "weight")
    angles = {name: value for name, value in model.state_dict().items() if name.endswith("inv_freq")}
    model.load_state_dict(tensors | angles)
    for block in [layer for layer in model.modules() if type(layer).__name__ == "NoiseBlock"]:
        block.forward = lambda x: x
    model.eval()
    levels = codec.spec.levels
    return Upstream(model.encode, lambda codes: Codes.of_levels(codes, levels).data, model.decode, "snac")


def _upstream(codec: Codec, model: Any, bandwidth: float) -> Upstream:
    count = codec.spec.codebooks(bandwidth)
    if isinstance(codec, DacCodec):
        return Upstream(
            lambda audio: model.encode(audio, n_quantizers=count),
            lambda output: output.audio_codes,
            lambda output: model.decode(audio_codes=output.audio_codes).audio_values.unflatten(0, (-1, 1)),
        )
    if isinstance(codec, MimiCodec):
        return Upstream(
            lambda audio: model.encode(audio, num_quantizers=count),
            lambda output: output.audio_codes,
            lambda output: model.decode(output.audio_codes).audio_values,
        )
    if isinstance(codec, XcodecCodec):
        return Upstream(
            lambda audio: model.encode(audio, bandwidth=bandwidth),
            lambda output: output.audio_codes,
            lambda output: model.decode(output.audio_codes).audio_values,
        )
    return Upstream(
        lambda audio: model.encode(audio, bandwidth=bandwidth),
        _encodec_codes,
        lambda output: model.decode(
            output.audio_codes, output.audio_scales, last_frame_pad_length=output.last_frame_pad_length
        )[0],
    )


def _encodec_codes(output: Any) -> Tensor:
    codes = torch.cat(list(output.audio_codes), -1)
    return codes[..., : codes.shape[-1] - (output.last_frame_pad_length or 0)]


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
    agreement = float((ours.data == codes).double().mean())
    if agreement < AGREEMENT:
        raise StreamcodecError(
            f"bench: only {agreement:.2%} of the codes equal those of {upstream.name}; not timing two different things"
        )
    audio_here = codec.decode(Codes(codes, ours.scale, ours.length))
    wav = upstream.decode(theirs)[..., : audio_here.shape[-1]]
    error = float((audio_here - wav).abs().max()) if audio_here.shape == wav.shape else float("inf")
    if not error <= AUDIO_ERROR * max(1.0, float(wav.abs().max())):
        raise StreamcodecError(
            f"bench: decoded audio differs from that of {upstream.name} by {error:.1e}; not timing it"
        )
    tell(
        f"checked against {upstream.name}: {agreement:.2%} of codes equal, audio within {error:.1e}; "
        f"{len(codes.unique())} of {codec.spec.codebook_size} entries in use"
    )


def tell(sentence: str) -> None:
    """To stderr: stdout has only the result."""
    print(f"streamcodec: {sentence}", file=sys.stderr)
