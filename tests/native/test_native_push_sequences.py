"""Any calls on streams whose pushes the library does in one call: the general way's results, and its state."""

import copy
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import oracles
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sets import compiled
from test_native_push import native, without_whole
from torch import Tensor

from streamcodec import Codec, Codes
from streamcodec.errors import StreamcodecError

pytestmark = compiled

FORMS: dict[str, Callable[[Tensor], Any]] = {
    "as it is": lambda x: x,
    "array": lambda x: x.numpy(),
    "int16": lambda x: (9000 * x).to(torch.int16),
    "spaced": lambda x: torch.stack([x, x], -1)[..., 0],
}
SIZES = st.sampled_from([1, 1, 1, 1, 2])  # in frames: mostly as before
CODES = st.tuples(st.just("codes"), SIZES | st.just(0), st.sampled_from([12, 12, 12, 1]))
CALLS = st.one_of(
    *[CODES, st.tuples(st.just("audio"), SIZES | st.sampled_from([0.4, 0]), st.sampled_from([*FORMS]))] * 2,
    st.tuples(st.just("bad audio"), SIZES, st.sampled_from([float("nan"), float("inf")])),
    st.tuples(st.just("bad codes"), SIZES, st.sampled_from([-1, 1 << 20])),
    st.tuples(st.just("last codes"), SIZES, st.sampled_from([0, 0, 0, 0, 100])),
    st.tuples(st.just("conceal"), st.integers(0, 3), st.none()),
    st.tuples(st.just("bandwidth"), st.integers(0, 2), st.none()),
    st.tuples(st.just("go on from"), st.sampled_from(["copy", "state"]), st.none()),
)


class Pair:
    """Streams of one codec, and what they are asked."""

    def __init__(self, codec: Codec, start: Any):
        self.codec, self.encoder, self.decoder = codec, codec.open_encoder(start=start), codec.open_decoder(start=start)
        self.random = torch.Generator().manual_seed(0)

    def call(self, what: str, size: Any, more: Any) -> Any:
        """What it gives, or the error, and the state of both streams."""
        try:
            result = getattr(self, what.replace(" ", "_"))(size, more)
        except StreamcodecError as error:
            result = type(error), str(error)
        return result, self.encoder.save(), self.decoder.save()

    def audio(self, size: float, form: str) -> Codes:
        wav = 0.2 * torch.randn(1, 1, round(size * self.codec.spec.hop_length), generator=self.random)
        return self.encoder.push(FORMS[form](wav))

    def bad_audio(self, size: int, value: float) -> Codes:
        wav = torch.zeros(1, 1, size * self.codec.spec.hop_length)
        wav[..., -1] = value
        return self.encoder.push(wav)

    def _some(self, frames: int, stages: int = 12) -> Tensor:
        spec = self.codec.spec
        return torch.randint(spec.codebook_size, (1, min(stages, spec.num_codebooks), frames), generator=self.random)

    def codes(self, size: int, stages: int) -> Tensor:
        return self.decoder.push(self._some(size, stages))

    def bad_codes(self, size: int, value: int) -> Tensor:
        data = self._some(size)
        data[0, -1, -1] = value
        return self.decoder.push(data)

    def last_codes(self, size: int, missing: int) -> Tensor:
        return self.decoder.push(Codes(self._some(size), length=max(0, size * self.codec.spec.hop_length - missing)))

    def conceal(self, size: int, _: None) -> Tensor:
        return self.decoder.conceal(size)

    def bandwidth(self, which: int, _: None) -> None:
        self.encoder.bandwidth = self.codec.spec.bandwidths[which]

    def go_on_from(self, what: str, _: None) -> None:
        if what == "copy":
            self.encoder, self.decoder = copy.copy(self.encoder), copy.copy(self.decoder)
        else:
            self.encoder = self.codec.open_encoder(state=self.encoder.save())
            self.decoder = self.codec.open_decoder(state=self.decoder.save())


def equal(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) else bool(one == other)


@cache
def codecs(name: str) -> tuple[Codec, Codec]:
    codec = native() if name == "bundled" else oracles.small_codec("24khz", torch.float32).on("native")
    return codec, without_whole(codec)


@settings(max_examples=20, deadline=None)
@given(
    name=st.sampled_from(["bundled", "encodec"]), start=st.sampled_from(["exact", "primed"]),
    calls=st.lists(CALLS, min_size=20, max_size=40),
)  # fmt: skip
def test_any_calls_give_what_the_general_way_gives(name: str, start: Any, calls: list[Any]) -> None:
    quick, general = map(partial(Pair, start=start), codecs(name))
    for each in calls:
        (result, *states), (expected, *kept) = quick.call(*each), general.call(*each)
        assert equal(result, expected), each
        assert states == kept, each
    assert quick.encoder.flush() == general.encoder.flush()
    assert torch.equal(quick.decoder.flush(), general.decoder.flush())
