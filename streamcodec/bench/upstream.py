"""Other implementations of the codecs here, with the same weights: `transformers`, and the packages of their makers."""

import contextlib
import importlib
import importlib.util
import sys
import tempfile
import types
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor, nn

from ..checkpoint import save
from ..codecs import NOISE_KEY, Codec
from ..codecs.dac import DacCodec
from ..codecs.encodec import EncodecCodec
from ..codecs.mimi import MimiCodec
from ..codecs.mimi_original import for_moshi
from ..codecs.qwen_tts import QwenTtsCodec
from ..codecs.snac import SnacCodec
from ..codecs.xcodec import XcodecCodec
from ..codes import Codes
from ..errors import InputError
from ..install import how_to_install

__all__ = ["Upstream", "moshi_steps", "qwen_decoder", "upstream_of"]

_MODELS: dict[type[Codec], str] = {
    EncodecCodec: "EncodecModel",
    DacCodec: "DacModel",
    MimiCodec: "MimiModel",
    XcodecCodec: "XcodecModel",
}  # of transformers


class Upstream(NamedTuple):
    """A model of another implementation at one bandwidth.

    encode: audio [B, C, N] to an output of its own kind; codes: that as codes [B, K, T]; decode: that to audio; name:
    of the implementation.
    """

    encode: Callable[[Tensor], Any]
    codes: Callable[[Any], Tensor]
    decode: Callable[[Any], Tensor]
    name: str = "transformers"


def upstream_of(codec: Codec, bandwidth: float, directory: Path | None) -> Upstream | None:
    """The model that does what `codec` does, or None where there is no such.

    directory: where the codec was read, in Hugging Face format; None: it was not.

    Raises InputError where the package is missing.
    """
    if isinstance(codec, SnacCodec):
        return _snac(codec, bandwidth)
    count = codec.spec.codebooks(bandwidth)
    if isinstance(codec, QwenTtsCodec):
        return _qwen(codec, count)
    if type(codec) not in _MODELS or directory is None:
        return None
    model = _transformers(_MODELS[type(codec)]).from_pretrained(directory).eval().to(codec.device)
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


def _transformers(name: str) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise InputError(
            f"bench speed compares with transformers; install it with: {how_to_install('xcodec')}"
        ) from error
    return getattr(transformers, name)


def _encodec_codes(output: Any) -> Tensor:
    codes = torch.cat(list(output.audio_codes), -1)
    return codes[..., : codes.shape[-1] - (output.last_frame_pad_length or 0)]


# -- SNAC ------------------------------------------------------------------------------------------------------------


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
    model.eval().to(codec.device)
    levels = codec.spec.levels
    return Upstream(model.encode, lambda codes: Codes.of_levels(codes, levels).data, model.decode, "snac")


# -- Qwen3-TTS -------------------------------------------------------------------------------------------------------


def _qwen(codec: QwenTtsCodec, count: int) -> Upstream:
    """The package's model in its two parts: its encoder is transformers' Mimi, of which it takes the first codebooks.

    (The class that joins them is of an older transformers.)
    """
    own = {name: tensor.cpu() for name, tensor in _below(codec, "encoder.").items()}
    mimi = MimiCodec(codec.settings.encoder)
    mimi = MimiCodec(codec.settings.encoder, mimi.to_huggingface()[1] | own).eval()
    with tempfile.TemporaryDirectory() as folder:
        encoder = _transformers("MimiModel").from_pretrained(save(mimi, folder)).eval().to(codec.device)
    decoder = qwen_decoder(codec.config["decoder_config"]).to(codec.device)
    decoder.load_state_dict(_below(codec, "decoder."))
    return Upstream(
        lambda audio: encoder.encode(audio, num_quantizers=count).audio_codes, lambda codes: codes, decoder, "qwen-tts"
    )


def _below(codec: Codec, prefix: str) -> dict[str, Tensor]:
    tensors = codec.to_huggingface()[1].items()
    return {name.removeprefix(prefix): tensor for name, tensor in tensors if name.startswith(prefix)}


def qwen_decoder(fields: dict[str, Any]) -> Any:
    """The decoder of the package qwen-tts of that decoder_config, with random weights.

    Raises InputError where the package is missing.
    """
    module = _qwen_module()
    torch.manual_seed(0)
    config = module.Qwen3TTSTokenizerV2DecoderConfig(**fields)
    config._attn_implementation = "eager"
    return module.Qwen3TTSTokenizerV2Decoder._from_config(config).eval()


@cache
def _qwen_module() -> Any:
    """The package is of another transformers and imports much that its model does not need. So its two files are taken
    alone, and what they want of the older transformers is given to them.
    """
    found = importlib.util.find_spec("qwen_tts")
    if found is None or not found.submodule_search_locations:
        raise InputError(
            "bench speed compares Qwen3-TTS with the package qwen-tts; install it with: pip install --no-deps qwen-tts"
        )
    alone = "qwen_tts_tokenizer"
    module = types.ModuleType(alone)
    module.__path__ = [str(Path(found.submodule_search_locations[0], "core", "tokenizer_12hz"))]
    sys.modules[alone] = module
    from transformers import masking_utils
    from transformers.utils import generic

    # transformers speaks of missing docstrings on stdout, where the result goes.
    given = mock.patch.object(generic, "check_model_inputs", create=True, return_value=lambda forward: forward)
    with given, contextlib.redirect_stdout(sys.stderr):
        model: Any = importlib.import_module(f"{alone}.modeling_qwen3_tts_tokenizer_v2")
    model.ROPE_INIT_FUNCTIONS = {"default": _frequencies}
    for name in ("create_causal_mask", "create_sliding_window_causal_mask"):
        setattr(model, name, _masks(getattr(masking_utils, name)))
    return model


def _frequencies(config: Any, device: Any = None, **_: Any) -> tuple[Tensor, float]:
    size = config.head_dim
    return 1.0 / config.rope_theta ** (torch.arange(0, size, 2, dtype=torch.float, device=device) / size), 1.0


def _masks(made: Any) -> Any:
    def call(**given: Any) -> Any:
        parts = (given["config"], given["input_embeds"], given["attention_mask"], None)
        return made(*parts, position_ids=given["position_ids"])

    return call


# -- moshi, which streams --------------------------------------------------------------------------------------------


def moshi_steps(codec: MimiCodec, bandwidth: float) -> Any:
    """The moshi package's Mimi with the weights of `codec`; None where that is not installed, or of other sizes."""
    if importlib.util.find_spec("moshi") is None:
        return None
    from moshi.models import loaders

    model = loaders.get_mimi(None, num_codebooks=codec.spec.codebooks(bandwidth), device=codec.device)
    tensors = codec.to_huggingface()[1]
    try:
        model.load_state_dict(for_moshi(model.state_dict(), tensors, codec.settings.num_attention_heads))
    except (KeyError, RuntimeError):
        return None
    return model
