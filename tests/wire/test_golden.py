"""The golden bytes, read and written; by the page's JavaScript too."""

import json
import shutil
import subprocess
from pathlib import Path

import make_golden
import numpy as np
import pytest
from fake_link import same

from streamcodec.entropy.frames import Coded
from streamcodec.packet import CodedMessage, CodesMessage, PacketError, PcmMessage, pack, unpack

HERE = Path(__file__).parent
GOLDEN = json.loads(make_golden.GOLDEN.read_text(encoding="utf-8"))
COMMON = ("sequence", "index", "stream", "last", "discontinuity", "crc")


def packet_of(entry):
    common = {name: entry[name] for name in COMMON}
    if entry["kind"] == "pcm":
        dtype = {"s16le": np.int16, "f32le": np.float32}[entry["format"]]
        return PcmMessage(samples=np.array(entry["samples"], dtype).reshape(-1, entry["channels"]), **common)
    scale = None if entry["scale"] is None else np.array(entry["scale"], np.float32)
    rest = {name: entry[name] for name in ("bits", "length", "reduced")}
    if entry["kind"] == "coded":
        coded = Coded(bytes.fromhex(entry["coded"]), entry["check"])
        rest |= {name: entry[name] for name in ("codebooks", "frames", "restart")}
        return CodedMessage(coded=coded, scale=scale, **common, **rest)
    return CodesMessage(codes=np.array(entry["codes"], np.uint16), scale=scale, **common, **rest)


@pytest.mark.parametrize("entry", GOLDEN["packets"] + GOLDEN["coded"], ids=lambda entry: entry["name"])
def test_golden_packets(entry):
    packet = packet_of(entry["packet"])
    assert pack(packet).hex() == entry["hex"]
    same(unpack(bytes.fromhex(entry["hex"])), packet)


@pytest.mark.parametrize("entry", GOLDEN["refused"], ids=lambda entry: entry["name"])
def test_golden_refusals(entry):
    with pytest.raises(PacketError) as caught:
        unpack(bytes.fromhex(entry["hex"]))
    assert caught.value.code == entry["code"]


def test_the_file_is_what_the_plain_writer_gives():
    assert make_golden.document() == GOLDEN


def test_the_javascript_reads_and_writes_the_same():
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed; the page's JavaScript is tested with it")
    done = subprocess.run(
        [node, "--test", "--test-reporter=tap", str(HERE / "wire.test.mjs")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# fail 0" in done.stdout
    assert f"written: {GOLDEN['packets'][0]['name']}" in done.stdout
