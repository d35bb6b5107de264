"""Any acoustic codec of this package with X-Codec's semantic branch (Ye et al. 2024, "Codec Does Matter")."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from torch import Tensor

from ..errors import CheckpointError, ConfigError
from ..nn.quantize import ResidualVectorQuantizer
from ..spec import SemanticWindow
from .base import Codec
from .hearing import Hearing
from .semantic import SemanticBase
from .semantic_layers import SemanticConfig
from .semantic_model import SpeechModel, plain_config
from .tensors import TensorReader, layers_for

__all__ = ["MODEL_TYPE", "SemanticCodec", "from_checkpoint"]

MODEL_TYPE = "streamcodec_semantic"
_ACOUSTIC = "acoustic_model."


class SemanticCodec(SemanticBase):
    """An acoustic codec and a speech model of transformers, joined as X-Codec joins them; ready to be trained.

    acoustic: a mono codec that runs frame by frame (`EncodecCodec`, `DacCodec`); its encoder and decoder are shared
    with this codec, its quantizer is not used. speech: a frozen `SpeechModel`. num_codebooks, codebook_size: of the new
    quantizer of the joined latents, whose entries start random. semantic: the semantic encoder and decoder.
    window: the default window of streaming encoders. tensors: the weights of all but the acoustic codec, under the
    names of `to_huggingface`; None for those of `speech` and random ones.

    Rates need not agree. Samples are resampled to the speech model's rate by a windowed sinc (`resample`), padded with
    zeros by what its convolutions cut off (a signal too short for one row of features: up to one), and where it then
    makes another number of rows than the codec has frames (times the semantic encoder's strides), they are interpolated
    linearly over time to that number.

    `forward` is differentiable and gives reconstruction, semantic loss and commitment loss; `parameter_groups` names
    what there is to train. Raises ConfigError for an acoustic codec that is not mono or works on segments.
    """

    def __init__(
        self,
        acoustic: Codec,
        speech: SpeechModel,
        *,
        num_codebooks: int = 8,
        codebook_size: int = 1024,
        semantic: SemanticConfig | None = None,
        window: SemanticWindow | None = None,
        name: str = "semantic",
        tensors: Mapping[str, Tensor] | None = None,
    ):
        super().__init__()
        spec, semantic = acoustic.spec, semantic or SemanticConfig()
        if acoustic.segments is not None or spec.channels != 1 or isinstance(acoustic, SemanticBase):
            raise ConfigError(
                f"{spec.name} cannot be given a semantic branch: that takes a mono codec that runs frame by frame "
                "and has none yet"
            )
        if num_codebooks < 1 or codebook_size < 2 or codebook_size & (codebook_size - 1):
            raise ConfigError(
                f"num_codebooks is {num_codebooks} and codebook_size {codebook_size}; there must be at least one "
                "codebook, and its size a power of 2"
            )
        cut = speech.extent - speech.stride
        self.config = {
            "model_type": MODEL_TYPE,
            "acoustic_model_config": acoustic.config,
            "semantic_model_config": plain_config(speech.model.config.to_dict()),
            "semantic_sample_rate": speech.sample_rate,
            "num_codebooks": num_codebooks,
            "codebook_size": codebook_size,
            **{key: list(value) if isinstance(value, tuple) else value for key, value in asdict(semantic).items()},
        }
        with layers_for(tensors):
            self.assemble(
                (acoustic.encoder, acoustic.decoder),
                acoustic.quantizer.dimension,
                speech,
                semantic,
                Hearing(
                    spec.sample_rate,
                    spec.hop_length,
                    (cut // 2, cut - cut // 2),
                    math.prod(semantic.strides),
                    stretch=True,
                ),
                partial(ResidualVectorQuantizer, num_codebooks, codebook_size),
                window,
            )
        if tensors is not None:
            reader = TensorReader(tensors)
            self.take_branch(reader)
            reader.finish()
        # In a tuple, so that its encoder and decoder are not there twice: it is kept for the names of its weights.
        self._acoustic = (acoustic,)
        bits = math.log2(codebook_size) * spec.sample_rate / spec.hop_length
        bandwidths = tuple(round(count * bits) / 1000 for count in range(1, num_codebooks + 1))
        self.finish_construction(
            name=name,
            sample_rate=spec.sample_rate,
            channels=1,
            hop_length=spec.hop_length,
            bandwidths=bandwidths,
            default_bandwidth=bandwidths[-1],
            bandwidth_codebooks=tuple(range(1, num_codebooks + 1)),
        )

    def to_huggingface(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """In transformers' manner of naming; the acoustic codec's weights, its own quantizer's too, under its names.

        transformers has no model of this kind: `load` of this package reads it.
        """
        acoustic = self._acoustic[0].to_huggingface()[1]
        tensors = {f"{_ACOUSTIC}{key}": tensor for key, tensor in acoustic.items()} | self.give_branch()
        return dict(self.config), {key: tensor.detach() for key, tensor in tensors.items()}


def from_checkpoint(
    build: Callable[[Mapping[str, Any], Mapping[str, Tensor], str], Codec],
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    name: str,
) -> SemanticCodec:
    """What `to_huggingface` gave. build: makes the acoustic codec. Raises ConfigError, CheckpointError."""
    for key in ("acoustic_model_config", "semantic_model_config"):
        if not isinstance(config.get(key), Mapping):
            raise ConfigError(f"{key} is {config.get(key)!r}; it must be an object")
    if config["acoustic_model_config"].get("model_type") == MODEL_TYPE:
        raise ConfigError(f"acoustic_model_config is another {MODEL_TYPE}; it must be an acoustic codec's")
    counts = {key: config.get(key) for key in ("semantic_sample_rate", "num_codebooks", "codebook_size")}
    if bad := [key for key, value in counts.items() if type(value) is not int or value < 1]:
        raise ConfigError(f"{bad[0]} is {config.get(bad[0])!r}; it must be a whole number of at least 1")
    mine = {key: value for key, value in tensors.items() if not key.startswith(_ACOUSTIC)}
    theirs = {key.removeprefix(_ACOUSTIC): value for key, value in tensors.items() if key.startswith(_ACOUSTIC)}
    if not theirs:
        raise CheckpointError(f"weights do not fit the configuration: missing {_ACOUSTIC}*")
    acoustic = build(config["acoustic_model_config"], theirs, name)
    with layers_for(mine):  # its weights are among them
        speech = SpeechModel.from_config(config["semantic_model_config"], config["semantic_sample_rate"])
    return SemanticCodec(
        acoustic,
        speech,
        num_codebooks=config["num_codebooks"],
        codebook_size=config["codebook_size"],
        semantic=SemanticConfig.from_dict(config),
        name=name,
        tensors=mine,
    )
