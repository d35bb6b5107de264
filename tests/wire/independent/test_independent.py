"""A client that knows docs/protocol.md and nothing of ours: Node with npm's `ws`, against the real server."""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("websockets", reason="the extra `server` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")
sys.path.append(str(Path(__file__).parents[2] / "server"))
from talk import RATE, encoded, served, small_codec, wave

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def client(tmp_path_factory):
    """The script beside an installed `ws`."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node or npm is not installed")
    directory = tmp_path_factory.mktemp("independent")
    for name in ("package.json", "package-lock.json", "client.js"):
        shutil.copy(HERE / name, directory)
    try:
        done = subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
            cwd=directory, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        pytest.skip("npm ci did not end: the registry cannot be reached")
    if done.returncode:
        pytest.skip(f"npm ci cannot install ws: {done.stderr.strip()[-300:]}")
    return directory / "client.js"


def test_a_session_by_the_text_of_the_protocol_alone(client, tmp_path):
    samples = np.rint(wave(2.0)[0] * 32767).astype("<i2")
    (tmp_path / "samples.s16le").write_bytes(samples.tobytes())

    async def run():
        async with served() as server:
            url = f"ws://127.0.0.1:{server.port}/v1/stream"
            process = await asyncio.create_subprocess_exec(
                "node", str(client), url, str(tmp_path / "samples.s16le"), str(RATE),
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            out, error = await asyncio.wait_for(process.communicate(), 60)
            return process.returncode, out.decode(), error.decode()

    code, out, error = asyncio.run(run())
    assert code == 0, error
    assert not error
    result = json.loads(out)
    codes, length = encoded(small_codec(), (samples / np.float32(32768))[None])
    np.testing.assert_array_equal(np.array(result["codes"]), codes)
    assert result["length"] == length == len(samples)
    assert result["resumed"] == 1
    assert result["order"].index("half") < result["order"].index("end") < result["order"].index("last")
    assert result["order"][-3:] == ["last", "flushed", "goodbye"]
    assert result["refused"]["code"] == "bad_bandwidth"
    assert result["refused"]["scope"] == "message"
    assert result["refused"]["allowed"] == [0.8, 1.6, 6.4]
    assert result["close"] == 1000
