"""A codec and settings so small that a training step takes milliseconds."""

from typing import Any

SMALL: dict[str, Any] = {
    "target_bandwidths": [1.5, 3.0],
    "hidden_size": 8,
    "num_filters": 2,
    "num_lstm_layers": 1,
    "codebook_size": 1024,
    "pad_mode": "constant",
    "use_conv_shortcut": False,
}
SETTINGS: dict[str, Any] = {
    "steps": 6,
    "batch": 2,
    "crop_samples": 3200,
    "start_batches": 3,
    "rise_steps": 1,
    "warm_share": 0.4,
    "books": [2, 4],
    "chances": [0.5, 0.5],
    "precision": "float32",
    "log_every": 2,
}
