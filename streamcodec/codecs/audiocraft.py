"""What audiocraft's configuration of an EnCodec (`xp.cfg` in its weight files) says that no weight tells.

Source: `audiocraft.models.builders.get_compression_model` and `config/model/encodec/default.yaml` of audiocraft (Copet
et al. 2023, "Simple and Controllable Music Generation"). Values may be references, "${encodec.causal}".
"""

import re
from collections.abc import Mapping
from typing import Any

from ..errors import CheckpointError

__all__ = ["settings"]

_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
_LONGEST_CHAIN = 8  # references to references; the published files have 2
_ABSENT = object()

# Fields of EncodecConfig and where audiocraft has them; the last part of each is the name in the halves' overrides.
_FIELDS = {
    "sampling_rate": "encodec.sample_rate",
    "use_causal_conv": "seanet.causal",
    "pad_mode": "seanet.pad_mode",
    "dilation_growth_rate": "seanet.dilation_base",
    "norm_type": "seanet.norm",
    "trim_right_ratio": "seanet.decoder.trim_right_ratio",
}
# What is computed here only one way, and the one value that it may have.
_ONLY = {
    "compression_model": "encodec",
    "encodec.autoencoder": "seanet",
    "encodec.quantizer": "rvq",
    "seanet.activation": "ELU",
    "seanet.activation_params": {"alpha": 1.0},
    "seanet.decoder.final_activation": None,
}
_NORMS = {"none": "weight_norm", "weight_norm": "weight_norm", "time_group_norm": "time_group_norm"}


def settings(config: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """The fields of an EncodecConfig that the weights' sizes leave open. Raises CheckpointError."""
    found = {field: _look_up(config, path) for field, path in _FIELDS.items()}
    if missing := [path for field, path in _FIELDS.items() if found[field] is _ABSENT]:
        raise CheckpointError(f"{origin}: the configuration in this file (xp.cfg) lacks {', '.join(missing)}")
    for path, wanted in _ONLY.items():
        value = _look_up(config, path)
        if value not in (_ABSENT, wanted):
            raise CheckpointError(f"{origin}: {path} is {value!r} in this file's xp.cfg; only {wanted!r} can be run")
    _refuse_overrides(config, origin)
    if found["norm_type"] not in _NORMS:
        raise CheckpointError(
            f"{origin}: seanet.norm is {found['norm_type']!r} in this file's xp.cfg; allowed are {', '.join(_NORMS)}"
        )
    found["norm_type"] = _NORMS[found["norm_type"]]
    normalize = _look_up(config, "encodec.renormalize")
    return found | {"normalize": False if normalize is _ABSENT else normalize, "chunk_length_s": None, "overlap": None}


def _refuse_overrides(config: Mapping[str, Any], origin: str) -> None:
    """Encoder and decoder share their settings here: one half that has another value cannot be run."""
    shared = {path.rpartition(".")[2] for path in (*_FIELDS.values(), *_ONLY)} - {"trim_right_ratio"}
    for half in ("encoder", "decoder"):
        overrides = _look_up(config, f"seanet.{half}")
        for name in shared & (overrides.keys() if isinstance(overrides, Mapping) else set()):
            path = f"seanet.{half}.{name}"
            if path not in _ONLY and _look_up(config, path) != _look_up(config, f"seanet.{name}"):
                raise CheckpointError(
                    f"{origin}: {path} in this file's xp.cfg is not seanet.{name}; both must be equal"
                )


def _look_up(config: Mapping[str, Any], path: str) -> Any:
    """The value at `path`, references followed; _ABSENT where it, or what it refers to, is not there."""
    for _ in range(_LONGEST_CHAIN):
        value: Any = config
        for part in path.split("."):
            value = value.get(part, _ABSENT) if isinstance(value, Mapping) else _ABSENT
        reference = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if reference is None:
            return value
        path = reference[1]
    return _ABSENT
