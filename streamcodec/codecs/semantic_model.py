"""Speech models of transformers (HuBERT, WavLM) as frozen sources of semantic features."""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..errors import ConfigError
from ..install import how_to_install
from .hf_names import split_weight_norm
from .tensors import TensorReader

__all__ = ["SpeechModel", "resample"]

# What transformers calls the speech models whose features come from convolutions over samples.
KINDS = ("data2vec-audio", "hubert", "unispeech", "unispeech-sat", "wav2vec2", "wavlm")

# The vector that stands for masked frames: training only, and not in every file.
_MASK = "masked_spec_embed"


class SpeechModel(nn.Module):
    """A speech model that is only listened to: its weights are frozen, it is always in evaluation mode.

    model: one of transformers' `KINDS`, such as `HubertModel.from_pretrained(...)`; sample_rate: Hz that it hears.
    Its features are the mean of ALL hidden states, the projected convolution features among them (Ye et al. 2024,
    "Codec Does Matter", section 3.2, and its reference code). Raises ConfigError for a model of another kind.
    """

    def __init__(self, model: Any, sample_rate: int = 16_000):
        super().__init__()
        config = model.config
        if getattr(config, "model_type", None) not in KINDS:
            kind = getattr(config, "model_type", type(model).__name__)
            raise ConfigError(f"the speech model is {kind!r}; supported are {', '.join(KINDS)}")
        self.sample_rate = sample_rate
        self.channels: int = config.hidden_size
        self.stride = math.prod(config.conv_stride)  # samples per row of features
        self.extent = 1  # samples that one row is made from
        for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
            self.extent = (self.extent - 1) * stride + kernel
        self._normed = merge_weight_norm(model)
        self.model = model
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def from_config(cls, config: Mapping[str, Any], sample_rate: int = 16_000) -> "SpeechModel":
        """With random weights, from what transformers writes into a config.json. Raises ConfigError."""
        transformers = _transformers()
        settings = speech_config(config)
        try:
            return cls(transformers.AutoModel.from_config(settings), sample_rate)
        except (ValueError, TypeError, ZeroDivisionError, RuntimeError) as error:
            raise ConfigError(f"the configuration of the {settings.model_type} model cannot be run: {error}") from error

    def train(self, mode: bool = True) -> "SpeechModel":
        """Stays in evaluation mode: dropout and masking would blur what the codec is taught."""
        return super().train(False)

    def rows(self, samples: int) -> int:
        """Rows of features for `samples` samples."""
        return 0 if samples < self.extent else (samples - self.extent) // self.stride + 1

    @torch.no_grad()
    def forward(self, wav: Tensor) -> Tensor:
        """[B, N] at `sample_rate` to features [B, rows(N), channels]; no gradient."""
        if self.rows(wav.shape[1]) == 0:
            return wav.new_zeros(wav.shape[0], 0, self.channels)
        hidden = self.model(wav, output_hidden_states=True, return_dict=True).hidden_states
        return torch.stack(tuple(hidden), 1).mean(1)

    @torch.no_grad()
    def take(self, reader: TensorReader, prefix: str) -> None:
        """The weights of a checkpoint, weight norm merged."""
        for name, tensor in self.model.state_dict().items():
            entry = f"{prefix}.{name}"
            if name == _MASK and entry not in reader:
                tensor.zero_()  # it is never heard, but the fingerprint of a codec is over all that there is
                continue
            found = reader.take(entry, tuple(tensor.shape))
            if found is not None:
                tensor.copy_(found)
        reader.drop(f"{prefix}.{_MASK}")

    def give(self, prefix: str) -> dict[str, Tensor]:
        """The weights as transformers reads them: weight norm apart again, so that it comes back to the bit."""
        tensors: dict[str, Tensor] = {}
        for name, tensor in self.model.state_dict().items():
            entry = f"{prefix}.{name}"
            if name not in self._normed:
                tensors[entry] = tensor
                continue
            module = entry.removesuffix(".weight")
            norm, direction = split_weight_norm(tensor.contiguous(), self._normed[name])
            tensors[f"{module}.parametrizations.weight.original0"] = norm
            tensors[f"{module}.parametrizations.weight.original1"] = direction
        return tensors


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            "this codec runs a speech model of the package transformers, which is not installed: "
            + how_to_install("xcodec")
        ) from error
    return transformers


def speech_config(config: Mapping[str, Any]) -> Any:
    """The transformers configuration of a speech model. Raises ConfigError.

    Of what a file says only the fields of that kind of model are taken: others can make transformers fetch code.
    """
    transformers = _transformers()
    kind = config.get("model_type")
    if kind not in KINDS:
        raise ConfigError(f"the speech model's model_type is {kind!r}; supported are {', '.join(KINDS)}")
    try:
        known = transformers.AutoConfig.for_model(kind).to_dict().keys() - _NOT_OF_THE_MODEL
        return transformers.AutoConfig.for_model(kind, **{name: config[name] for name in known if name in config})
    except Exception as error:  # transformers 5 checks types with an error of huggingface_hub's own
        raise ConfigError(f"the configuration of the {kind} model cannot be read: {error}") from error


_NOT_OF_THE_MODEL = {
    "_name_or_path",
    "architectures",
    "auto_map",
    "dtype",
    "id2label",
    "label2id",
    "model_type",
    "output_attentions",
    "output_hidden_states",
    "problem_type",
    "quantization_config",
    "return_dict",
    "torch_dtype",
    "transformers_version",
}


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a speech model's configuration goes into a file: the fields that `speech_config` takes."""
    known = speech_config(config).to_dict().keys() - _NOT_OF_THE_MODEL
    return {name: config[name] for name in sorted(known) if name in config} | {"model_type": config["model_type"]}


def merge_weight_norm(model: nn.Module) -> dict[str, int]:
    """Make every weight-normed weight of `model` a plain one; its entry's name and the axis that was not normed."""
    merged = {}
    for path, module in model.named_modules():
        entry = f"{path}.weight" if path else "weight"
        if parametrize.is_parametrized(module, "weight"):
            magnitude = module.parametrizations["weight"].original0  # type: ignore[union-attr, index]
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
        elif hasattr(module, "weight_g"):
            magnitude = module.weight_g
            nn.utils.remove_weight_norm(module)
        else:
            continue
        sizes = tuple(magnitude.shape)
        merged[entry] = max(range(len(sizes)), key=sizes.__getitem__)
    return merged


def resample(wav: Tensor, old: int, new: int, cutoff: float = 0.95, crossings: int = 24) -> Tensor:
    """[B, N] from `old` Hz to `new` Hz, [B, ceil(N * new / old)].

    A windowed sinc (Smith, "Digital Audio Resampling"): cut-off at a part of the lower Nyquist frequency, so many zero
    crossings on either side under a Hann window; beyond the signal's ends there are zeros. (0.99 and 6 are those of
    torchaudio, which some codecs were trained with.)
    """
    if old == new or wav.shape[1] == 0:
        return wav
    divisor = math.gcd(old, new)
    old, new = old // divisor, new // divisor
    cutoff *= min(old, new)  # in units of half the common rate's `divisor`
    width = math.ceil(crossings * old / cutoff)  # samples of input that the zero crossings take
    # Phase p of the output lies at p * old / new input samples; taps are the input samples around it.
    taps = torch.arange(-width, width + old, device=wav.device, dtype=torch.float64) / old
    phases = torch.arange(new, device=wav.device, dtype=torch.float64) / new
    t = (taps[None, :] - phases[:, None]) * cutoff
    kernel = (
        torch.sinc(t) * torch.cos(t.clamp(-crossings, crossings) * math.pi / (2 * crossings)).square() * cutoff / old
    )
    count = -(-wav.shape[1] * new // old)
    padded = F.pad(wav, (width, width + old))[:, None]
    y = F.conv1d(padded, kernel[:, None].to(wav.dtype), stride=old)
    return y.transpose(1, 2).flatten(1)[:, :count]
