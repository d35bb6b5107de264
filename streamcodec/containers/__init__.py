"""Where the samples of an audio file are, and how to read all of them: what libsndfile gets wrong when left alone.

`Recording` is the way in. A layout says of a file which stretches of it libsndfile reads as files of their own, behind
headers that hold: `chunks` (WAV, Wave64, AIFF, CAF), `au`, `ogg`, `mpeg`, `flac`. Needs no torch.
"""

from .recording import Recording

__all__ = ["Recording"]
