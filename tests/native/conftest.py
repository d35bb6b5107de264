"""Random stacks of layers, small codecs and checks of kernels live beside other tests."""

import sys
from pathlib import Path

for folder in ("nn", "codecs", "engine", "kernels"):
    sys.path.append(str(Path(__file__).parent.parent / folder))
