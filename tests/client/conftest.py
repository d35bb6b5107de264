"""The small codec and the server in a test's own loop live beside the server's tests."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "server"))

pytest.importorskip("websockets", reason="the extra `client` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed, and most clients talk to one")
