"""Pictures of spectrograms side by side: the recording, and what each system made of it."""

from pathlib import Path

import numpy as np

from ..errors import MissingPackageError
from ..install import how_to_install
from .evaluation import Results
from .recording import ORIGINAL

__all__ = ["draw", "panels_of"]

WINDOW, HOP = 1024, 256
RANGE = 90.0  # dB from white to black
COLOURS = 24  # some 4 dB each: a picture of few colours is half as large
SECONDS = 6.0  # of a recording that a picture shows


def _decibels(wav: np.ndarray) -> np.ndarray:
    """[N] to [bins, frames], dB of full scale."""
    padded = np.pad(wav, (0, max(0, WINDOW - len(wav))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    window = np.hanning(WINDOW)
    return 20 * np.log10(np.abs(np.fft.rfft(frames * window) / window.sum()).T + 1e-9)


def panels_of(results: Results) -> dict[str, np.ndarray]:
    """Title and audio of each panel. (The recording is among the systems too, where it is judged as one.)"""
    decoded = {f"{system} kbps": audio for system, audio, _ in results.decoded if system != ORIGINAL}
    return {ORIGINAL: results.recording.audio} | decoded


def draw(results: Results, path: Path) -> None:
    """Write a PNG with a panel per system, the first seconds. Raises MissingPackageError without matplotlib."""
    try:
        from matplotlib import colormaps
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError(f"pictures need the package matplotlib: {how_to_install('plots')}") from error
    rate = results.recording.sample_rate
    end = int(SECONDS * rate)
    panels = panels_of(results)
    columns = -(-len(panels) // 2) if len(panels) > 4 else len(panels)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.8 * rows), layout="constrained")
    colours = colormaps["magma"].resampled(COLOURS)
    top = float(_decibels(panels[ORIGINAL][:end]).max())
    for place, (title, audio) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(rows, columns, place)
        shown = _decibels(audio[:end])
        extent = (0, min(len(audio), end) / rate, 0, rate / 2000)
        axes.imshow(
            shown,
            origin="lower",
            aspect="auto",
            extent=extent,
            vmin=top - RANGE,
            vmax=top,
            cmap=colours,
            interpolation="nearest",
        )
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=7)
    figure.supxlabel("seconds", fontsize=8)
    figure.supylabel("kHz", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=72)
