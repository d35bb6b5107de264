"""``streamcodec bench serve`` with a codec that costs nothing."""

import argparse
import asyncio
import json
import math

import pytest

pytest.importorskip("websockets", reason="the extra `server` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")

import torch

from streamcodec.bench.paced import Paced, drive
from streamcodec.bench.serve import _get, _given, _row, _server
from streamcodec.checkpoint import save
from streamcodec.cli import main
from streamcodec.codecs.encodec import EncodecCodec


def small_codec(folder, **settings):
    torch.manual_seed(0)
    sizes = {"num_filters": 2, "hidden_size": 8, "upsampling_ratios": [8, 5, 4, 2], "codebook_size": 16}
    model = EncodecCodec({**sizes, "sampling_rate": 8000, "target_bandwidths": [0.2], **settings})
    return str(save(model, folder / "small"))


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    return small_codec(tmp_path_factory.mktemp("codec"))


@pytest.fixture(scope="module")
def there(codec):
    """The address of a server that is there already: to start one takes seconds."""
    with _server(argparse.Namespace(engines=1, codec=codec), 3) as server:
        yield server.pages


@pytest.mark.parametrize(("frames", "starts"), [(1, True), (3, False)])
def test_every_packet_comes_back_and_is_timed(tmp_path, frames, starts, request, capsys):
    """Also of a codec that looks ahead, whose last audio comes when the stream has ended."""
    late = {"use_causal_conv": False}
    server = ["--codec", small_codec(tmp_path, **late)] if starts else ["--url", request.getfixturevalue("there")]
    command = ["bench", "serve", *server, "--sessions", "1,3", "--seconds", "1.5", "--warm", "0.2"]
    assert main([*command, "--packet-frames", str(frames), "--target", "5000", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["rate"] == 8000
    assert result["packet_ms"] == 40 * frames
    assert [row["sessions"] for row in result["rows"]] == [1, 3]
    for row in result["rows"]:
        assert row["lost"] == row["underruns"] == 0
        assert not row["failures"]
        fewest = 25 if starts else 30  # its last ones are one
        before = sum(math.ceil(i * (1 + 1 / row["sessions"])) for i in range(row["sessions"]))  # all had begun
        assert fewest // frames * row["sessions"] - before <= row["packets"] <= 33 // frames * row["sessions"]
        assert 0 < row["p50_ms"] <= row["p99_ms"] <= row["worst_ms"]
        assert row["engine_cpu"] > 0
        assert row["rest_cpu"] > 0
        fewest = 0.5 if starts else 1  # steps that only fill what it looks ahead give nothing
        assert fewest <= row["step_sessions"] <= row["sessions"]


def test_a_target_that_cannot_be_met_is_told_by_the_exit_code_and_the_table(there, capsys):
    assert main(["bench", "serve", "--url", there, "--sessions", "2", "--seconds", "1", "--warm", "0",
                 "--packet-frames", "1", "--target", "0.001"]) == 1  # fmt: skip
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 3
    cells = [cell.strip() for cell in table[2].strip("|").split("|")]
    assert cells[0] == "2"
    assert int(cells[1]) >= 40


def test_cpu_is_counted_from_when_all_sessions_are_open_to_when_their_audio_is_back(there):
    server, looks = _given(there.replace("http", "ws", 1)), []

    def look():
        lines = [line.rpartition(" ") for line in _get(server, "metrics").splitlines()]
        looks.append({name: float(value) for name, _, value in lines if not name.startswith("#")})

    results = asyncio.run(
        drive(
            server.socket, 2, 0.5, rate=8000, blocks=[bytes(640)], block=320, packet_frames=1, bandwidth=None, look=look
        )
    )  # fmt: skip
    before, after = looks
    (live,) = [name for name in before if name.startswith("streamcodec_sessions{")]
    assert before[live] == after[live] == 2
    received = 'streamcodec_messages_total{direction="received"}'
    assert after[received] - before[received] >= sum(result.sent for result in results) + 2  # a flush each
    assert all(result.samples >= 320 * result.sent for result in results)


def test_late_and_lost_packets_are_counted_after_the_warm_up():
    class Args:
        warm, target = 1.0, 40.0

    good = Paced([(0.5, 0.2), (1.5, 0.010), (2.0, 0.020)], sent=3, samples=30)
    bad = Paced([(1.5, 0.050), (2.0, 0.030)], sent=3, samples=20, failure="lost")
    row = _row(Args, [good, bad], 10, 100)
    assert (row["packets"], row["underruns"], row["sessions_with_underruns"], row["lost"]) == (4, 1, 1, 1)
    assert row["failures"] == ["lost"]
    assert row["worst_ms"] == 50


def test_sessions_begin_and_end_one_after_the_other_and_count_from_when_all_have_begun(there):
    server = _given(there.replace("http", "ws", 1))
    results = asyncio.run(
        drive(server.socket, 3, 0.5, rate=8000, blocks=[bytes(640)], block=320, packet_frames=1, bandwidth=None)
    )  # fmt: skip
    between = 4 / 3 * 0.04  # of 3 sessions: a packet and a third
    for number, result in enumerate(results):
        dues = [due for due, _ in result.latencies]
        assert dues == sorted(dues)
        assert dues[-1] - dues[0] < 0.5
        assert dues[-1] == pytest.approx(0.04 * result.sent - (2 - number) * between)


def test_what_it_cannot_measure_is_said(there, capsys):
    assert main(["bench", "serve", "--url", "ws://127.0.0.1:1", "--sessions", "1"]) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert main(["bench", "serve", "--seconds", "1", "--warm", "2"]) == 2
    assert "--seconds must be above --warm" in capsys.readouterr().err
    assert main(["bench", "serve", "--url", there, "--sessions", "2,20", "--seconds", "2", "--warm", "1"]) == 2
    assert "20 sessions begin one after the other" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["bench", "serve", "--sessions", "0,4"])
