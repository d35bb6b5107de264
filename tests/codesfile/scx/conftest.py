"""The small random codecs live beside their tests."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "codecs"))
