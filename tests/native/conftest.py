"""The random stacks of layers live beside the layers' tests, the small codecs beside their families'."""

import sys
from pathlib import Path

for folder in ("nn", "codecs", "engine"):
    sys.path.append(str(Path(__file__).parent.parent / folder))
