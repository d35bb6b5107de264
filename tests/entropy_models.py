"""Entropy models with random weights, for tests of what is built on them."""

from typing import Any

import numpy as np

from streamcodec.entropy import EntropyModel, Predictor
from streamcodec.entropy.model import TABLE, UNIT


def random_tensors(
    codebooks: int = 3, size: int = 11, width: int = 4, state: int = 5, stage: int = 6, most: int = 127, seed: int = 0
) -> dict[str, Any]:
    """Tensors of a model: weights up to `most`, so that few make distributions even and many make them sharp."""
    random, groups = np.random.default_rng(seed), max(1, round(size**0.5))
    members = -(-size // groups)
    shapes = {
        "past": (2 * state, width + state),
        "stage": (codebooks, stage, state + 2 * width),
        "group": (codebooks, groups, stage),
        "item": (codebooks, groups * members, stage),
    }
    tensors: dict[str, Any] = {
        "vectors": random.integers(-most, most + 1, (codebooks, size, width)).astype(np.int8),
        "places": np.stack([random.permutation(groups * members)[:size] for _ in range(codebooks)]).astype(np.uint16),
    }
    for name, shape in shapes.items():
        tensors[f"{name}.weights"] = random.integers(-most, most + 1, shape).astype(np.int8)
        tensors[f"{name}.exponents"] = random.integers(3, 9, shape[:-1]).astype(np.int8)
        tensors[f"{name}.biases"] = random.integers(-2000, 2001, shape[:-1]).astype(np.int32)
    middle = (np.arange(TABLE) - TABLE // 2 + 0.5) / UNIT
    tensors["sigmoid"] = np.round(256 / (1 + np.exp(-middle))).astype(np.int16)
    tensors["tanh"] = np.round(127 * 128 * np.tanh(middle)).astype(np.int16)
    tensors["frequencies"] = np.maximum(1, np.round(2**15 * np.exp2(-np.arange(TABLE) / UNIT))).astype(np.int32)
    return tensors


def random_model(fingerprint: str = "", **sizes: int) -> EntropyModel:
    """See `random_tensors`."""
    return EntropyModel("test", fingerprint, random_tensors(**sizes))


def likeliest(predictor: Predictor, count: int, codebooks: int) -> Any:
    """Codes [K, T] uint16 that the model finds likely, each after those before it: they take few bytes."""
    frames, past = [], predictor.start()
    for _ in range(count):
        context, so_far, frame = predictor.context(past), predictor.so_far(), []
        for stage in range(codebooks):
            features = predictor.features(stage, context, so_far)
            group = int(predictor.group_frequencies(stage, features).argmax())
            place = int(predictor.place_frequencies(stage, group, features).argmax())
            frame.append(max(0, predictor.entry(stage, group, place)))
            so_far = so_far + predictor.vector(stage, frame[-1])
        frames.append(frame)
        past = predictor.after(past, np.array(frame))
    return np.array(frames, np.uint16).T
