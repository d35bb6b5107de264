"""The small random DAC and X-Codec models live beside their tests."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "codecs"))
