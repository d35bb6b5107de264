"""How likely each code of a frame is, by the frames before it and the codes of the frame so far: whole numbers only.

A light GRU (Ravanelli et al. 2018, without the reset gate) carries the past. A stage's features come from its state,
the last frame and the sum of the vectors of this frame's codes so far. A code is two choices, a group of entries and
then one of the group's places, so that a stage costs 2 * sqrt(N) exponentials and not N.

**Why every machine gets the same.** Weights and inputs are whole numbers, and a layer is a product of floats that are
whole numbers in units of 2**-e. BLAS may add in any order, with or without fused multiply-adds: a sum of whole numbers
is exact as long as no partial sum reaches 2**24 (float32) or 2**53 (float64), and `_Rows` proves of each layer that
none can, from the weights themselves, or takes float64. What is not a product is single IEEE operations on such
numbers, which are exact too, and tables that come with the weights.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .model import TABLE, EntropyModel, Layer

__all__ = ["Intervals", "Past", "Predictor"]

Array = NDArray[Any]
FLOAT32, FLOAT64 = 2**24, 2**53  # whole numbers up to these are exact
MOST = 127  # of a feature, and of a state as the products see it
GATE = np.float64(2**-8)  # a gate is in 256ths
COARSE = np.float64(2**-7)  # the state is kept 128 times as fine as the products see it


class Past(NamedTuple):
    """What the predictor remembers. state: [H], 128 times what it stands for; last: [D], the last frame's vectors,
    added up. Both are whole numbers in float64."""

    state: Array
    last: Array


class Intervals(NamedTuple):
    """Of codes that are known: where each choice lies among the frequencies of all. Each [T, K, 2] int64, the group and
    then the place in it."""

    starts: Array
    frequencies: Array
    totals: Array


class Predictor:
    """Computes with a model's weights. Has no state: `Past` is the caller's."""

    def __init__(self, model: EntropyModel) -> None:
        self.model, tensors = model, model.tensors
        self.codebooks, size, self._width = tensors["vectors"].shape
        self._stage = tensors["stage.weights"].shape[1]
        groups, places = tensors["group.weights"].shape[1], tensors["item.weights"].shape[1]
        self._state = len(tensors["past.weights"]) // 2
        self.groups, self.places = groups, places // groups
        self._vectors = tensors["vectors"].astype(np.float32)
        self._place = tensors["places"].astype(np.intp)
        self._entry = np.full((self.codebooks, places), -1)  # place to entry, -1 for those that have none
        np.put_along_axis(self._entry, self._place, np.arange(size)[None], 1)
        summed = np.abs(self._vectors).max(1).sum(0).astype(np.int64)  # the most that the codes of a frame add up to
        state, feature = np.full(self._state, MOST), np.full(self._stage, MOST)
        self._past = _Rows(model.layer("past"), np.concatenate([summed, state]))
        stage = _Rows(model.layer("stage"), np.concatenate([state, summed, summed]))
        known = self._state + self._width
        self._known = stage.weights[:, :, :known].reshape(-1, known)  # one product for all stages
        self._so_far = np.ascontiguousarray(stage.weights[:, :, known:])
        self._stage_bias = stage.biases.reshape(-1)
        self._group, self._item = _Rows(model.layer("group"), feature), _Rows(model.layer("item"), feature)
        shape = (self.codebooks, groups, self.places)
        self._item_weights = self._item.weights.reshape(*shape, self._stage)
        self._item_biases = self._item.biases.reshape(shape)
        # In the state's own units: a gate in 256ths, a candidate 128 times what it stands for.
        self._sigmoid, self._tanh = tensors["sigmoid"].astype(np.float64), tensors["tanh"].astype(np.float64)
        self._table = tensors["frequencies"].astype(np.int64)

    def start(self) -> Past:
        """Nothing was heard yet."""
        return Past(np.zeros(self._state), np.zeros(self._width))

    def after(self, past: Past, codes: Array) -> Past:
        """The past with one frame more. codes: [K'], K' <= K."""
        last = self._vectors[np.arange(len(codes)), codes].sum(0, dtype=np.float64)
        gates = self._past(np.concatenate([last, np.floor(past.state * COARSE)]))
        places = (np.minimum(np.maximum(gates, -TABLE // 2), TABLE // 2 - 1) + TABLE // 2).astype(np.intp)
        opened, candidate = self._sigmoid[places[: self._state]], self._tanh[places[self._state :]]
        return Past(past.state + np.floor((candidate - past.state) * opened * GATE), last)

    def context(self, past: Past) -> Array:
        """What the past says to each stage, [K, S], before this frame's codes are added and without rounding."""
        inputs = np.concatenate([np.floor(past.state * COARSE), past.last]).astype(self._known.dtype)
        return (self._known @ inputs + self._stage_bias).reshape(self.codebooks, self._stage)

    def so_far(self) -> Array:
        """The sum of the vectors of a frame's codes so far, [D]: none."""
        return np.zeros(self._width, self._so_far.dtype)

    def features(self, stage: int, context: Array, so_far: Array) -> Array:
        """[S] of stage `stage`."""
        return _rectified(context[stage] + self._so_far[stage] @ so_far)

    def group_frequencies(self, stage: int, features: Array) -> Array:
        """[G] int64."""
        return self._frequencies(np.floor(self._group.weights[stage] @ features + self._group.biases[stage]))

    def place_frequencies(self, stage: int, group: int, features: Array) -> Array:
        """[I] int64."""
        weights, biases = self._item_weights[stage, group], self._item_biases[stage, group]
        return self._frequencies(np.floor(weights @ features + biases))

    def entry(self, stage: int, group: int, place: int) -> int:
        """The code, or -1 where no entry has this place."""
        return int(self._entry[stage, group * self.places + place])

    def vector(self, stage: int, code: int) -> Array:
        """[D], what a code adds to the sum so far."""
        return self._vectors[stage, code]

    def intervals(self, past: Past, codes: Array) -> tuple[Intervals, Past]:
        """Of frames that are known, codes [K', T], and the past after them. The same numbers as one by one."""
        contexts = []
        for frame in codes.T:
            contexts.append(self.context(past)[: len(codes)])
            past = self.after(past, frame)
        stages = np.arange(len(codes))[:, None]
        vectors = self._vectors[stages, codes].astype(self._so_far.dtype)  # [K', T, D]
        so_far = np.cumsum(vectors, 0) - vectors
        context = np.stack(contexts, 1)  # [K', T, S]
        features = _rectified(context + so_far @ self._so_far[: len(codes)].transpose(0, 2, 1))
        group, place = np.divmod(self._place[stages, codes], self.places)
        weights = self._group.weights[: len(codes)].transpose(0, 2, 1)
        logs = np.floor(features @ weights + self._group.biases[: len(codes), None])
        found = [self._interval(logs, group)]
        chosen, biases = self._item_weights[stages, group], self._item_biases[stages, group]  # [K', T, I, S]
        found.append(self._interval(np.floor((chosen @ features[..., None])[..., 0] + biases), place))
        return Intervals(*(np.stack(each, -1).swapaxes(0, 1) for each in zip(*found, strict=True))), past

    def _interval(self, logs: Array, chosen: Array) -> tuple[Array, Array, Array]:
        frequencies = self._frequencies(logs)
        ends = np.cumsum(frequencies, -1)
        own = np.take_along_axis(frequencies, chosen[..., None], -1)[..., 0]
        return np.take_along_axis(ends, chosen[..., None], -1)[..., 0] - own, own, ends[..., -1]

    def _frequencies(self, logs: Array) -> Array:
        """logs: logarithms in 64ths of a bit, [..., n]. [..., n] int64, each at least 1."""
        below = np.maximum.reduce(logs, -1, keepdims=True) - logs
        return self._table.take(below.astype(np.intp), mode="clip")


def _rectified(values: Array) -> Array:
    return np.minimum(np.maximum(np.floor(values), 0), MOST)


class _Rows:
    """A layer as floats that are whole numbers in units of 2**-e, e the row's: [..., rows, columns], with its biases.

    most: the greatest magnitude of each input, [columns].
    """

    def __init__(self, layer: Layer, most: Array) -> None:
        # Of any part of a row's sum, in the row's unit: no partial sum, in whatever order, is above it.
        bound = np.abs(layer.weights.astype(np.int64)) @ most + np.abs(layer.biases.astype(np.int64))
        dtype = np.float32 if bound.max() < FLOAT32 else np.float64
        unit = np.ldexp(np.ones((), dtype), -layer.exponents.astype(np.intc))
        self.weights = (layer.weights * unit[..., None]).astype(dtype)
        self.biases = (layer.biases * unit).astype(dtype)

    def __call__(self, inputs: Array) -> Array:
        return np.floor(self.weights @ inputs.astype(self.weights.dtype) + self.biases)
