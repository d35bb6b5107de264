"""What a page records of itself, and the names that its tests share."""

import base64
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
SPEECH = ROOT / "streamcodec" / "bundled" / "jfk.flac"
KEY = "a-key-for-the-tests-of-the-page"


class Recording:
    """What a page recorded from a run's start on: float32 arrays at `rate`, `sent` and `received` multiples of 2**-15.

    places: of each sample received, its index in its stream. concealed: samples that went on in place of others.
    """

    def __init__(self, values):
        self.rate, self.streams, self.concealed = values["rate"], values["streams"], values["concealed"]
        self.sent, self.received = (_samples(values[name], "<i2") / np.float32(32768) for name in ("sent", "received"))
        self.played = _samples(values["played"], "<f4")
        self.places = np.concatenate([np.arange(index, index + count) for index, count in values["places"]])


def _samples(text, kind):
    return np.frombuffer(base64.b64decode(text), kind)
