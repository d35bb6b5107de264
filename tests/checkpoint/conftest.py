"""The small random DAC models live beside DAC's tests."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "codecs"))
