"""The predictor: its floats are whole numbers, so that no order of adding and no machine changes one of them."""

import numpy as np
import pytest
from entropy_models import random_model, random_tensors

from streamcodec.entropy import EntropyModel
from streamcodec.entropy.model import TABLE
from streamcodec.entropy.predictor import FLOAT32, Predictor


class WholeNumbers:
    """The predictor in Python's integers, as the head of `model` says it: the reference."""

    def __init__(self, model):
        self.tensors = {name: tensor.tolist() for name, tensor in model.tensors.items()}
        self.width, self.state = len(self.tensors["vectors"][0][0]), len(self.tensors["past.weights"]) // 2
        self.members = len(self.tensors["item.weights"][0]) // len(self.tensors["group.weights"][0])
        self.fine, self.last = [0] * self.state, [0] * self.width

    def rows(self, weights, exponents, biases, inputs):
        return [
            (sum(w * x for w, x in zip(row, inputs, strict=True)) + b) >> e
            for row, e, b in zip(weights, exponents, biases, strict=True)
        ]

    def layer(self, name, inputs, stage=None):
        parts = [self.tensors[f"{name}.{part}"] for part in ("weights", "exponents", "biases")]
        return self.rows(*(parts if stage is None else [part[stage] for part in parts]), inputs)

    def after(self, codes):
        self.last = self.summed(codes)
        gates = self.layer("past", [*self.last, *(fine >> 7 for fine in self.fine)])
        places = [min(max(gate, -TABLE // 2), TABLE // 2 - 1) + TABLE // 2 for gate in gates]
        opened = [self.tensors["sigmoid"][place] for place in places[: self.state]]
        candidates = [self.tensors["tanh"][place] for place in places[self.state :]]
        self.fine = [h + ((c - h) * z >> 8) for h, z, c in zip(self.fine, opened, candidates, strict=True)]

    def summed(self, codes):
        vectors = [self.tensors["vectors"][k][code] for k, code in enumerate(codes)]
        return [sum(column) for column in zip(*vectors, strict=True)] if vectors else [0] * self.width

    def choices(self, codes):
        """(start, frequency, total) of the group and the place of each code of a frame."""
        for k, code in enumerate(codes):
            inputs = [*(fine >> 7 for fine in self.fine), *self.last, *self.summed(codes[:k])]
            features = [min(max(value, 0), 127) for value in self.layer("stage", inputs, k)]
            group, place = divmod(self.tensors["places"][k][code], self.members)
            yield self.choice(self.layer("group", features, k), group)
            logs = self.layer("item", features, k)[group * self.members : (group + 1) * self.members]
            yield self.choice(logs, place)

    def choice(self, logs, chosen):
        frequencies = [self.tensors["frequencies"][min(max(logs) - log, TABLE - 1)] for log in logs]
        return sum(frequencies[:chosen]), frequencies[chosen], sum(frequencies)


SIZES = [
    {},
    {"codebooks": 1, "size": 2, "width": 1, "state": 1, "stage": 1},
    {"codebooks": 2, "size": 50, "most": 20},
    {"codebooks": 4, "size": 16, "width": 16, "state": 24, "stage": 24, "seed": 3},
]


@pytest.mark.parametrize("sizes", SIZES)
def test_it_is_what_whole_numbers_of_any_size_give(sizes):
    model = random_model(**sizes)
    predictor, reference = Predictor(model), WholeNumbers(model)
    codes = np.random.default_rng(1).integers(0, model.codebook_size, (model.codebooks, 30))
    intervals, past = predictor.intervals(predictor.start(), codes)
    for t, frame in enumerate(codes.T.tolist()):
        found = zip(*(each[t].ravel().tolist() for each in intervals), strict=True)
        assert list(found) == list(reference.choices(frame))
        reference.after(frame)
    assert past.state.tolist() == reference.fine
    assert past.last.tolist() == reference.last


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("seed", [0, 1])
def test_no_order_of_adding_changes_a_number(sizes, seed, monkeypatch):
    model = random_model(**sizes)
    codes = np.random.default_rng(1).integers(0, model.codebook_size, (model.codebooks, 20))
    predictor = Predictor(model)
    before, _ = predictor.intervals(predictor.start(), codes)
    # The same weights with the columns of every layer in another order, which BLAS then adds in another order.
    columns = {name: np.random.default_rng(seed).permutation(model.tensors[f"{name}.weights"].shape[-1])
               for name in ("group", "item")}  # fmt: skip
    features = np.random.default_rng(seed).integers(0, 128, (500, model.tensors["stage.weights"].shape[1]))
    for name, order in columns.items():
        rows = getattr(predictor, f"_{name}").weights[0]
        plain = rows @ features.T.astype(rows.dtype)
        assert (plain == rows[:, order] @ features.T[order].astype(rows.dtype)).all()
    one_by_one, past = [], predictor.start()
    for frame in codes.T:
        found, past = predictor.intervals(past, frame[:, None])
        one_by_one.append(found)
    for number, whole in enumerate(before):
        assert (np.concatenate([each[number] for each in one_by_one]) == whole).all()


@pytest.mark.parametrize(("codebooks", "stage", "dtype"), [(12, 130, np.float32), (12, 1100, np.float64)])
def test_products_that_could_leave_the_whole_numbers_of_float32_are_made_in_float64(codebooks, stage, dtype):
    tensors = random_tensors(codebooks=codebooks, stage=stage)
    for name, tensor in tensors.items():
        if name.endswith("weights"):
            tensor[:] = 127  # every product of the same sign: the greatest sums that there can be
    predictor = Predictor(EntropyModel("test", "", tensors))
    assert predictor._group.weights.dtype == dtype
    assert (stage * 127 * 127 + 2000 < FLOAT32) == (dtype is np.float32)
    features = np.full(stage, 127)
    total = int(tensors["group.biases"][0][0]) + stage * 127 * 127 >> int(tensors["group.exponents"][0][0])
    rows = predictor._group
    assert np.floor(rows.weights[0] @ features.astype(dtype) + rows.biases[0])[0] == total


def test_the_first_codebooks_alone_are_predicted_as_among_all():
    model = random_model()
    predictor = Predictor(model)
    codes = np.random.default_rng(0).integers(0, model.codebook_size, (model.codebooks, 1))
    every, _ = predictor.intervals(predictor.start(), codes)
    for count in range(1, model.codebooks):
        fewer, _ = predictor.intervals(predictor.start(), codes[:count])
        for number, each in enumerate(fewer):
            assert (each == every[number][:, :count]).all()


def test_every_code_has_a_share_and_the_shares_of_all_fill_the_total():
    predictor = Predictor(random_model(most=127, seed=5))
    context = predictor.context(predictor.start())
    features = predictor.features(0, context, predictor.so_far())
    shares = predictor.group_frequencies(0, features)
    assert shares.min() >= 1
    codes = np.tile(np.arange(11), (3, 1))
    intervals, _ = predictor.intervals(predictor.start(), codes[:, :1])
    assert intervals.totals[0, 0, 0] == shares.sum()
