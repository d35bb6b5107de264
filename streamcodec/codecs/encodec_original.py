"""Original EnCodec files (``encodec_24khz-d7cc33bc.th``, audiocraft's ``compression_state_dict.bin``) in other names.

Source of the layout: `encodec.model.EncodecModel._get_model` and `encodec.modules.seanet` of the ``encodec`` package
(Défossez et al. 2022), which audiocraft's models share. Shapes tell all sizes. What they cannot tell (sample rate,
causality, padding, normalisation, segments) is in audiocraft's file, or in a config.json that came with the weights, or
is that of the published model whose every size a bare state dict has but for its widths.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..errors import CheckpointError
from . import audiocraft
from .original import Original

__all__ = ["convert"]

# What the package's own two models have, by channels: all but num_filters and hidden_size.
_BOTH: dict[str, Any] = {
    "num_residual_layers": 1,
    "upsampling_ratios": [8, 5, 4, 2],
    "kernel_size": 7,
    "last_kernel_size": 7,
    "residual_kernel_size": 3,
    "dilation_growth_rate": 2,
    "pad_mode": "reflect",
    "compress": 2,
    "num_lstm_layers": 2,
    "trim_right_ratio": 1.0,
    "codebook_size": 1024,
    "use_conv_shortcut": True,
}
_PUBLISHED: dict[int, dict[str, Any]] = {
    1: _BOTH
    | {
        "sampling_rate": 24_000,
        "audio_channels": 1,
        "normalize": False,
        "chunk_length_s": None,
        "overlap": None,
        "norm_type": "weight_norm",
        "use_causal_conv": True,
        "target_bandwidths": [1.5, 3.0, 6.0, 12.0, 24.0],
    },
    2: _BOTH
    | {
        "sampling_rate": 48_000,
        "audio_channels": 2,
        "normalize": True,
        "chunk_length_s": 1.0,
        "overlap": 0.01,
        "norm_type": "time_group_norm",
        "use_causal_conv": False,
        "target_bandwidths": [3.0, 6.0, 12.0, 24.0],
    },
}
# What a config.json must say, since a wrong guess would go unnoticed.
_NEEDED = ("sampling_rate", "use_causal_conv", "pad_mode")

_LAYER = r"(?P<half>encoder|decoder)\.model\.(?P<place>\d{1,3}(?:\.block\.\d|\.shortcut)?)"
_CONV = re.compile(_LAYER + r"\.(?:conv\.conv|convtr\.convtr)\.(?P<kind>weight|bias)")
_NORM = re.compile(_LAYER + r"\.(?:conv|convtr)\.norm\.(?P<kind>weight|bias)")
_LSTM = re.compile(_LAYER + r"\.lstm\.(?P<kind>\w+)")
_CODEBOOK = re.compile(r"quantizer\.vq\.layers\.(?P<place>\d{1,3})\._codebook\.(?P<kind>\w+)")


def convert(original: Original) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """The (configuration, tensors) of an original EnCodec state dict as transformers would name them.

    Returns None when this is no EnCodec state dict at all.

    Raises CheckpointError when it is one, but with unknown entries, without those that sizes are read from, or where
    nothing tells the settings that sizes leave open. Other missing entries are found when the codec is built.
    """
    tensors, filename = original.tensors, original.filename
    if not any(_CODEBOOK.fullmatch(name) for name in tensors) or not any(
        name.startswith("encoder.model.") for name in tensors
    ):
        return None
    renamed = {_rename(name, filename): tensor for name, tensor in tensors.items()}
    sizes = _sizes(renamed, filename)
    count = len(_Sizes(renamed, filename).places(r"quantizer\.layers\.(\d+)\..*"))
    config = {"model_type": "encodec", "architectures": ["EncodecModel"], **sizes, **_settings(sizes, count, original)}
    config.setdefault("target_bandwidths", [_full_bandwidth(config, count)])
    # The original packages encode with all codebooks unless told otherwise, transformers with the fewest.
    return {"streamcodec_default_bandwidth": config["target_bandwidths"][-1]} | config, renamed


def _rename(name: str, filename: str) -> str:
    for pattern, target in (
        (_CONV, "{half}.layers.{place}.conv.{kind}"),
        (_NORM, "{half}.layers.{place}.norm.{kind}"),
        (_LSTM, "{half}.layers.{place}.lstm.{kind}"),
        (_CODEBOOK, "quantizer.layers.{place}.codebook.{kind}"),
    ):
        match = pattern.fullmatch(name)
        if match:
            return target.format(**match.groupdict())
    raise CheckpointError(f"{filename}: an EnCodec state dict, but with an unknown entry {name!r}")


class _Sizes:
    """Reads sizes off the weights' shapes, under their Hugging Face names."""

    def __init__(self, tensors: Mapping[str, Tensor], filename: str) -> None:
        self.tensors = tensors
        self.filename = filename

    def shape(self, name: str, ndim: int) -> tuple[int, ...]:
        if name not in self.tensors:
            raise CheckpointError(f"{self.filename}: an EnCodec state dict without {name!r} (in Hugging Face naming)")
        shape = tuple(self.tensors[name].shape)
        if len(shape) != ndim or 0 in shape:
            raise CheckpointError(f"{self.filename}: {name!r} has shape {shape}, {ndim} dimensions are expected")
        return shape

    def stride(self, name: str) -> int:
        """Of a strided convolution, whose kernel is twice its stride."""
        kernel_size = self.shape(name, 3)[2]
        if kernel_size % 2:
            raise CheckpointError(
                f"{self.filename}: {name!r} has kernel size {kernel_size}; twice a stride is expected"
            )
        return kernel_size // 2

    def places(self, pattern: str) -> list[int]:
        """The distinct layer numbers that `pattern`'s group captures, ascending."""
        matches = (re.fullmatch(pattern, name) for name in self.tensors)
        return sorted({int(match[1]) for match in matches if match})

    def encoder_layout(self) -> tuple[list[int], list[int], int]:
        """Layer numbers of the encoder's plain convolutions, its residual blocks and its LSTM, checked.

        The encoder is a convolution; for every ratio the same number of residual blocks, an activation and a strided
        convolution; the LSTM, an activation and a convolution. Activations have a number but no weights.
        """
        convs = self.places(r"encoder\.layers\.(\d+)\.conv\.weight")
        blocks = self.places(r"encoder\.layers\.(\d+)\.block\..*")
        lstms = self.places(r"encoder\.layers\.(\d+)\.lstm\..*")
        end = lstms[0] if lstms else 0
        ratios = (end - 1 - len(blocks)) // 2  # each takes its blocks and two places more
        if ratios == len(convs) - 2 > 0 and blocks and len(lstms) == 1:
            step = len(blocks) // ratios + 2
            if convs == [*range(0, ratios * step + 1, step), end + 2]:
                return convs, blocks, end
        raise CheckpointError(
            f"{self.filename}: an EnCodec state dict whose encoder has convolutions at {convs}, residual blocks at "
            f"{blocks} and LSTMs at {lstms}; that is none of the published architecture's layouts, such as "
            "[0, 3, 6, 9, 12, 15], [1, 4, 7, 10] and [13]: entries are missing, or it is another model"
        )


def _sizes(tensors: Mapping[str, Tensor], filename: str) -> dict[str, Any]:
    """The fields of an EncodecConfig that shapes tell."""
    sizes = _Sizes(tensors, filename)
    convs, blocks, lstm = sizes.encoder_layout()
    num_filters, channels, kernel_size = sizes.shape(f"encoder.layers.{convs[0]}.conv.weight", 3)
    hidden_size, _, last_kernel_size = sizes.shape(f"encoder.layers.{convs[-1]}.conv.weight", 3)
    # The widest block: `compress` divides with a remainder in narrow ones.
    block_hidden, block_dim, block_kernel = sizes.shape(f"encoder.layers.{blocks[-1]}.block.1.conv.weight", 3)
    first = sizes.places(r"quantizer\.layers\.(\d+)\..*")[0]
    codebook_size, codebook_dim = sizes.shape(f"quantizer.layers.{first}.codebook.embed", 2)
    strides = [sizes.stride(f"encoder.layers.{place}.conv.weight") for place in convs[1:-1]]
    return {
        "audio_channels": channels,
        "hidden_size": hidden_size,
        "num_filters": num_filters,
        "num_residual_layers": len(blocks) // len(strides),
        "upsampling_ratios": strides[::-1],  # in the decoder's order
        "norm_type": "time_group_norm" if any(".norm." in name for name in tensors) else "weight_norm",
        "kernel_size": kernel_size,
        "last_kernel_size": last_kernel_size,
        "residual_kernel_size": block_kernel,
        "compress": block_dim // block_hidden,
        "num_lstm_layers": len(sizes.places(rf"encoder\.layers\.{lstm}\.lstm\.weight_ih_l(\d+)")),
        "codebook_size": codebook_size,
        "codebook_dim": codebook_dim,
        "use_conv_shortcut": f"encoder.layers.{blocks[0]}.shortcut.conv.weight" in tensors,
    }


def _settings(sizes: Mapping[str, Any], num_codebooks: int, original: Original) -> Mapping[str, Any]:
    """What the sizes leave open: from the file itself, else from a config.json, else as published."""
    if (written := original.inside("xp.cfg")) is not None:
        return audiocraft.settings(written, original.filename)
    if original.config is not None:
        missing = [name for name in _NEEDED if name not in original.config]
        if original.config.get("model_type") != "encodec" or missing:
            raise CheckpointError(
                f"{original.filename}: an EnCodec state dict, whose config.json says model_type "
                f"{original.config.get('model_type')!r}{' and lacks ' if missing else ''}{', '.join(missing)}; "
                f"an EnCodec's says 'encodec' and what no weight tells, at least {' and '.join(_NEEDED)}"
            )
        return original.config
    published = _PUBLISHED.get(sizes["audio_channels"])
    if published is None:
        differs = f"{sizes['audio_channels']} channels"
    else:
        wanted, found = {"codebooks": _full_codebooks(published), **published}, {"codebooks": num_codebooks, **sizes}
        others = [name for name, value in found.items() if wanted.get(name, value) != value]
        if not others:
            return published
        differs = ", ".join(f"{name} {found[name]} for {wanted[name]}" for name in others)
    raise CheckpointError(
        f"{original.filename}: an EnCodec state dict, but not the published 24 kHz (mono) or 48 kHz (stereo) model: "
        f"it has {differs}. Its sample rate, its padding and whether it is causal cannot be told from its weights: put "
        'it as pytorch_model.bin into a folder with a config.json such as {"model_type": "encodec", "sampling_rate": '
        '32000, "use_causal_conv": false, "pad_mode": "reflect"}, or give audiocraft\'s own file '
        "(compression_state_dict.bin), which holds them"
    )


def _bits_per_second(config: Mapping[str, Any]) -> int:
    """Of one codebook; the frame rate is rounded up, as upstream does."""
    rate = config["sampling_rate"]
    if type(rate) is not int or rate < 1:
        raise CheckpointError(f"sampling_rate is {rate!r}; it must be a whole number of Hz")
    return math.ceil(rate / math.prod(config["upsampling_ratios"])) * math.ceil(math.log2(config["codebook_size"]))


def _full_codebooks(config: Mapping[str, Any]) -> int:
    return int(1000 * config["target_bandwidths"][-1] // _bits_per_second(config))


def _full_bandwidth(config: Mapping[str, Any], num_codebooks: int) -> float:
    """The bandwidth (kbps) from which transformers counts back to this number of codebooks."""
    bits = num_codebooks * _bits_per_second(config)
    full = bits / 1000
    return math.nextafter(full, math.inf) if full * 1000 < bits else full  # rounded down it would lose a codebook
