"""Lyra v2, to compare a codec with: its own three networks, which the package ai-edge-litert runs.

They are in github.com/google/lyra, folder lyra/model_coeffs, under the Apache licence 2.0; no copy comes with this
package. Lyra codes 20 ms frames at 16 kHz. Its networks keep their past inside, so each stream has its own.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, MissingPackageError
from ..install import how_to_install
from .recording import Decoded, Recording, at_rate, fitted

__all__ = ["Lyra"]

RATE, HOP = 16000, 320  # Hz, samples
STAGES = {3.2: 16, 6.0: 30, 9.2: 46}  # kbps: stages of the quantizer
BITS = 4  # of a stage
LATENTS = 64
ENCODER, QUANTIZER, DECODER = FILES = ("soundstream_encoder.tflite", "quantizer.tflite", "lyragan.tflite")


class Lyra:
    """Lyra v2 at its three bitrates. folder: where the three files are.

    Raises InputError where one is not there, MissingPackageError without ai-edge-litert.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        if missing := [name for name in FILES if not (folder / name).is_file()]:
            raise InputError(f"{folder} lacks {', '.join(missing)}; Lyra's are in lyra/model_coeffs of google/lyra")
        self._load(QUANTIZER, delegates=False)  # what is missing or broken is said before anything is measured

    def _load(self, name: str, delegates: bool = True) -> Any:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        try:
            from ai_edge_litert.interpreter import Interpreter, OpResolverType
        except ImportError as error:
            raise MissingPackageError(f"Lyra needs ai-edge-litert: {how_to_install('lyra')}") from error
        kind = OpResolverType.AUTO if delegates else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        try:
            net = Interpreter(str(self.folder / name), num_threads=1, experimental_op_resolver_type=kind)
            net.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{self.folder / name} is no network of Lyra's: {error}") from error
        return net

    def __call__(self, recording: Recording) -> Iterator[Decoded]:
        """One for each bitrate."""
        wav = at_rate(recording.audio, recording.sample_rate, RATE)
        frames = -(-len(wav) // HOP)
        # As Lyra's program reads and writes them: 16-bit samples.
        units = np.clip(np.round(wav * 32768), -32768, 32767).astype(np.float32) / 32768
        latents = _run(self._load(ENCODER), fitted(units, frames * HOP).reshape(frames, HOP))
        quantizer = self._load(QUANTIZER, delegates=False)
        encode, decode = (quantizer.get_signature_runner(name) for name in ("encode", "decode"))
        codes = [_encode(encode, row) for row in latents]
        for kbps, stages in STAGES.items():
            vectors = np.stack([_decode(decode, row[:stages]) for row in codes])
            audio = _run(self._load(DECODER), vectors).reshape(-1)
            audio = np.trunc(np.clip(audio * 32768, -32768, 32767)).astype(np.float32) / 32768
            result = fitted(at_rate(audio, RATE, recording.sample_rate), len(recording.audio))
            yield Decoded(f"Lyra {kbps:g}", result, frames * stages * BITS)


def _run(net: Any, rows: np.ndarray) -> np.ndarray:
    """A network with a past, row by row: [T, n] to [T, m]."""
    source, target = net.get_input_details()[0], net.get_output_details()[0]["index"]
    results = []
    for row in rows:
        net.set_tensor(source["index"], row.reshape(source["shape"]))
        net.invoke()
        results.append(net.get_tensor(target).reshape(-1).copy())
    return np.stack(results)


def _encode(run: Any, latents: np.ndarray) -> np.ndarray:
    """Codes of all stages [46]. Each stage refines those before it, so a lower bitrate has the first of them."""
    stages = max(STAGES.values())
    found = run(input_frames=latents.reshape(1, 1, LATENTS), num_quantizers=np.int32(stages))["output_0"]
    return found.reshape(-1)[:stages].astype(np.int32)


def _decode(run: Any, codes: np.ndarray) -> np.ndarray:
    indices = np.full((max(STAGES.values()), 1, 1), -1, np.int32)  # -1: a stage that was not sent
    indices[: len(codes), 0, 0] = codes
    return run(encoding_indices=indices)["output_0"].reshape(-1)
