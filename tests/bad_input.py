"""Input that every stream refuses, and how a refusal must look."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from streamcodec.errors import DtypeError, NonFiniteError, ShapeError, StreamcodecError

# For a mono stream opened with batch=2: the audio, the error, and what its text says.
BAD_AUDIO = {
    "channels": (torch.zeros(2, 3, 10), ShapeError, r"\[2, 3, 10\].*\[batch, 1, samples\]"),
    "batch": (torch.zeros(1, 1, 10), ShapeError, r"batch 1.*batch=2"),
    "no batch": (torch.zeros(0, 1, 10), ShapeError, r"\[0, 1, 10\]"),
    "one dimension": (torch.zeros(10), ShapeError, r"\[10\].*\[batch, 1, samples\]"),
    "four dimensions": (torch.zeros(2, 1, 10, 1), ShapeError, r"\[2, 1, 10, 1\]"),
    "NaN": (torch.full((2, 1, 10), math.nan), NonFiniteError, "NaN|finite"),
    "infinity": (torch.full((2, 1, 10), -math.inf), NonFiniteError, "inf"),
    "one NaN": (torch.tensor([0.0] * 9 + [math.nan]).expand(2, 1, 10).numpy(), NonFiniteError, "NaN|finite"),
    "int32": (torch.zeros(2, 1, 10, dtype=torch.int32), DtypeError, "int32.*float32, float64 or int16"),
    "half": (np.zeros((2, 1, 10), np.float16), DtypeError, "float16.*float32, float64 or int16"),
    "complex": (torch.zeros(2, 1, 10, dtype=torch.complex64), DtypeError, "complex64"),
    "list": ([[0.0]], DtypeError, "list.*NumPy array or a torch tensor"),
    "None": (None, DtypeError, "NoneType"),
}


def assert_one_error(call: Any, kind: type[StreamcodecError], message: str) -> None:
    with pytest.raises(StreamcodecError, match=message) as caught:
        call()
    assert type(caught.value) is kind
    assert len(str(caught.value)) < 400
