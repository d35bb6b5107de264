"""A codec and settings so small that a training step takes milliseconds."""

from pathlib import Path
from typing import Any

from streamcodec.train.build import build_run
from streamcodec.train.config import Settings, parse_settings
from streamcodec.train.loop import Run

SMALL: dict[str, dict[str, Any]] = {
    "run": {"steps": 6, "precision": "float32", "log_every": 2, "audio_every": 0, "tensorboard": False},
    "data": {"batch": 2, "crop_samples": 3200, "threads": 0},
    "codec": {
        "target_bandwidths": [1.5, 3.0],
        "default_bandwidth": 3.0,
        "hidden_size": 8,
        "num_filters": 2,
    },
    "loss": {"windows": [128, 512], "bands": 20},
    "discriminator": {"windows": [512, 128], "filters": 2, "alone": 2, "chance": 0.7},
    "quantizer": {"warm_share": 0.4, "start_batches": 3, "books": [2, 4], "chances": [0.5, 0.5]},
    "optimizer": {"rise_steps": 1},
}


def small(**sections: dict[str, Any]) -> Settings:
    """`SMALL` with some settings changed."""
    return parse_settings(
        {
            name: table | sections.get(name, {})
            for name, table in (SMALL | {"augment": {}, "spectral": {}, "dac": {}, "teacher": {}}).items()
        }
    )


def run_of(source: Path, folder: Path, **sections: dict[str, Any]) -> Run:
    """A run with small settings."""
    return build_run(source, folder, small(**sections))
