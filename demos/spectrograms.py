"""Draw a recording and what a codec makes of it at each bandwidth, one spectrogram under the other.

python demos/spectrograms.py [IN.wav [OUT.png]]        needs matplotlib: pip install '.[plots]'
"""

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch

import streamcodec
from streamcodec.audio import AudioReader

mpl.use("Agg")
from matplotlib import pyplot as plt

DEFAULT = Path(streamcodec.__file__).parent / "bundled" / "jfk.flac"
WINDOW, HOP, FLOOR_DB = 1024, 256, -80.0


def spectrogram(wav: torch.Tensor) -> np.ndarray:
    """Magnitudes in dB below the loudest, [WINDOW / 2 + 1, frames]."""
    magnitude = torch.stft(wav, WINDOW, HOP, window=torch.hann_window(WINDOW), return_complex=True).abs()
    return (20 * torch.log10(magnitude / magnitude.max() + 1e-6)).clamp_min(FLOOR_DB).numpy()


def main(source: str = str(DEFAULT), target: str = "spectrograms.png") -> None:
    codec = streamcodec.load()
    spec = codec.spec
    with AudioReader(Path(source), spec.sample_rate, spec.channels, 1 << 16) as reader:
        pcm = torch.from_numpy(np.concatenate(list(reader), 1))[None]
    rows = {f"original, {Path(source).name}": pcm[0, 0]}
    for bandwidth in reversed(spec.bandwidths):
        rows[f"{spec.name} at {bandwidth:g} kbps"] = codec.decode(codec.encode(pcm, bandwidth))[0, 0]

    seconds, top = pcm.shape[-1] / spec.sample_rate, spec.sample_rate / 2000
    figure, axes = plt.subplots(len(rows), 1, figsize=(11, 2.4 * len(rows)), sharex=True, layout="constrained")
    for axis, (name, wav) in zip(axes, rows.items(), strict=True):
        image = axis.imshow(
            spectrogram(wav), origin="lower", aspect="auto", cmap="magma", extent=(0, seconds, 0, top), vmin=FLOOR_DB
        )
        axis.set_title(name, loc="left", fontsize=10)
        axis.set_ylabel("kHz")
    axes[-1].set_xlabel("seconds")
    figure.colorbar(image, ax=axes, label="dB below the loudest", shrink=0.6)
    figure.savefig(target, dpi=80)
    print(f"wrote {target}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
