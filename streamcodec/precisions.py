"""The precisions of steps, by name. Imports nothing that takes time: options name them."""

from collections.abc import Mapping

from .errors import ConfigError

__all__ = ["ENCODING", "PRECISIONS", "check_encoding"]

# Each with the backends that have it; docs/kernels.md has what each changes. On processors with AMX the native
# backend makes some products in float32 of six in bfloat16, which are no less exact.
PRECISIONS: Mapping[str, tuple[str, ...]] = {
    "float32": ("auto", "torch", "native", "triton"),
    "tf32": ("triton",),
    "bfloat16": ("native", "triton"),
    "bfloat16x3": ("native",),
    "int8": ("native",),
}
# Those in which encoders run too: in the others they would give other codes.
ENCODING = frozenset({"float32", "bfloat16x3"})


def check_encoding(precision: str) -> None:
    """Raises ConfigError for a precision in which no encoder runs."""
    if precision in PRECISIONS and precision not in ENCODING:
        raise ConfigError(
            f"precision {precision!r}: encoding in it would change up to a fifth of the codes, so it is for decoding "
            "alone. Leave it out, or take 'bfloat16x3'"
        )
