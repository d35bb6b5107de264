"""The original EnCodec files (``encodec_24khz-d7cc33bc.th``, ``encodec_48khz-7e698e3e.th``) in Hugging Face terms.

Source of the layout: `encodec.model.EncodecModel._get_model` and `encodec.modules.seanet` of the ``encodec`` package
(Défossez et al. 2022). The file is a bare state dict. What shapes tell is read from them; what they cannot tell
(sample rate, causality, normalisation, segments, bandwidths) is that of the published model which the file resembles.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import CheckpointError

__all__ = ["convert"]


@dataclass(frozen=True)
class _Published:
    """What the shapes of a published model's weights do not tell."""

    sampling_rate: int
    normalize: bool
    chunk_length_s: float | None
    overlap: float | None
    norm_type: str
    use_causal_conv: bool
    target_bandwidths: tuple[float, ...]  # kbps


_MONO_24KHZ = _Published(24_000, False, None, None, "weight_norm", True, (1.5, 3.0, 6.0, 12.0, 24.0))
_STEREO_48KHZ = _Published(48_000, True, 1.0, 0.01, "time_group_norm", False, (3.0, 6.0, 12.0, 24.0))

_LAYER = r"(?P<half>encoder|decoder)\.model\.(?P<place>\d{1,3}(?:\.block\.\d|\.shortcut)?)"
_CONV = re.compile(_LAYER + r"\.(?:conv\.conv|convtr\.convtr)\.(?P<kind>weight|bias)")
_NORM = re.compile(_LAYER + r"\.(?:conv|convtr)\.norm\.(?P<kind>weight|bias)")
_LSTM = re.compile(_LAYER + r"\.lstm\.(?P<kind>\w+)")
_CODEBOOK = re.compile(r"quantizer\.vq\.layers\.(?P<place>\d{1,3})\._codebook\.(?P<kind>\w+)")


def convert(tensors: Mapping[str, Tensor], filename: str) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """The (configuration, tensors) of an original EnCodec state dict as transformers would name them.

    Args:
        tensors: the state dict, weight norm merged.
        filename: the file's name, for messages.

    Returns None when this is no EnCodec state dict at all.

    Raises CheckpointError when it is one, but with unknown entries, without those that sizes are read from, or of
    neither published kind. Other missing entries are found when the codec is built.
    """
    if not any(_CODEBOOK.fullmatch(name) for name in tensors) or not any(
        name.startswith("encoder.model.") for name in tensors
    ):
        return None
    renamed = {_rename(name, filename): tensor for name, tensor in tensors.items()}
    return _config(renamed, filename), renamed


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


def _config(tensors: Mapping[str, Tensor], filename: str) -> dict[str, Any]:
    """A complete EncodecConfig."""
    sizes = _Sizes(tensors, filename)
    convs, blocks, lstm = sizes.encoder_layout()
    num_filters, channels, kernel_size = sizes.shape(f"encoder.layers.{convs[0]}.conv.weight", 3)
    hidden_size, _, last_kernel_size = sizes.shape(f"encoder.layers.{convs[-1]}.conv.weight", 3)
    # The widest block: `compress` divides with a remainder in narrow ones.
    block_hidden, block_dim, block_kernel = sizes.shape(f"encoder.layers.{blocks[-1]}.block.1.conv.weight", 3)
    books = sizes.places(r"quantizer\.layers\.(\d+)\..*")
    codebook_size, codebook_dim = sizes.shape(f"quantizer.layers.{books[0]}.codebook.embed", 2)
    strides = [sizes.stride(f"encoder.layers.{place}.conv.weight") for place in convs[1:-1]]
    published = _published(tensors, channels, filename)
    bandwidths = _bandwidths(published, math.prod(strides), len(books), codebook_size)
    return {
        "model_type": "encodec",
        "architectures": ["EncodecModel"],
        "target_bandwidths": bandwidths,
        "sampling_rate": published.sampling_rate,
        "audio_channels": channels,
        "normalize": published.normalize,
        "chunk_length_s": published.chunk_length_s,
        "overlap": published.overlap,
        "hidden_size": hidden_size,
        "num_filters": num_filters,
        "num_residual_layers": len(blocks) // len(strides),
        "upsampling_ratios": strides[::-1],  # in the decoder's order
        "norm_type": published.norm_type,
        "kernel_size": kernel_size,
        "last_kernel_size": last_kernel_size,
        "residual_kernel_size": block_kernel,
        "dilation_growth_rate": 2,
        "use_causal_conv": published.use_causal_conv,
        "pad_mode": "reflect",
        "compress": block_dim // block_hidden,
        "num_lstm_layers": len(sizes.places(rf"encoder\.layers\.{lstm}\.lstm\.weight_ih_l(\d+)")),
        "trim_right_ratio": 1.0,
        "codebook_size": codebook_size,
        "codebook_dim": codebook_dim,
        "use_conv_shortcut": f"encoder.layers.{blocks[0]}.shortcut.conv.weight" in tensors,
        # The original package encodes with all codebooks unless told otherwise, transformers with the fewest.
        "streamcodec_default_bandwidth": bandwidths[-1],
    }


def _published(tensors: Mapping[str, Tensor], channels: int, filename: str) -> _Published:
    group_norm = any(".norm." in name for name in tensors)
    if group_norm and channels == 2:
        return _STEREO_48KHZ
    if not group_norm and channels == 1:
        return _MONO_24KHZ
    raise CheckpointError(
        f"{filename}: an EnCodec state dict with {channels} channel(s) and {'group' if group_norm else 'weight'} norm; "
        "the published ones are 24 kHz (mono, weight norm) and 48 kHz (stereo, group norm). The sample rate of any "
        "other cannot be told from its weights: save it with a config.json, in Hugging Face layout"
    )


def _bandwidths(published: _Published, hop_length: int, num_codebooks: int, codebook_size: int) -> list[float]:
    """The published bandwidths (kbps) that the file's codebooks reach, and the one that uses them all.

    transformers derives the number of codebooks from the last bandwidth, so that one must stand for all of them.
    """
    frame_rate = math.ceil(published.sampling_rate / hop_length)
    bits_per_second = frame_rate * math.ceil(math.log2(codebook_size))  # of one codebook
    full = num_codebooks * bits_per_second / 1000
    if full * 1000 < num_codebooks * bits_per_second:  # rounded down: counting back would lose a codebook
        full = math.nextafter(full, math.inf)
    return [b for b in published.target_bandwidths if bits_per_second / 1000 <= b < full] + [full]
