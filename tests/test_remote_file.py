"""Files behind http addresses: parts of them are fetched, bounded in size and in number."""

import contextlib

import pytest
from range_server import RangeServer as Server

from streamcodec.errors import AudioError
from streamcodec.remote_file import MOST, is_address, open_address


def test_it_reads_as_a_file_does():
    data = bytes(range(256)) * 300
    with Server(data) as server, open_address(server.url) as file:
        assert file.name == server.url.partition("?")[0]
        assert file.read(10) == data[:10]
        assert file.seek(70_000) == 70_000
        assert file.read(100) == data[70_000:70_100]
        assert file.seek(-5, 2) == len(data) - 5
        assert file.read() == data[-5:]
        assert file.read(1) == b""
        file.seek(0)
        assert file.read() == data


def test_what_has_come_meanwhile_is_read():
    with Server(b"abc") as server, open_address(server.url) as file:
        assert file.read() == b"abc"
        server.data += b"def"
        assert file.read() == b"def"
        assert file.seek(0, 2) == 6


def test_a_request_is_never_for_more_than_may_be_held():
    with Server(bytes(2**22)) as server, open_address(server.url) as file:
        assert len(file.read()) == 2**22
        assert max(count for _, count in server.asked) <= MOST


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": b"abc", "ranges": False}, "does not give parts"),
        ({"status": 404}, "answers 404"),
        ({"data": b"abcdef", "shift": 1}, "another part"),
    ],
)
def test_what_a_server_cannot_do_is_said_without_the_query(options, message):
    with Server(**options) as server, pytest.raises(AudioError, match=message) as told:
        open_address(server.url)
    assert "secret" not in str(told.value)


def test_nobody_there():
    with Server() as server:
        url = server.url
    with pytest.raises(AudioError, match="cannot be read"):
        open_address(url)


def test_what_is_an_address():
    assert is_address("http://a/b")
    assert is_address("HTTPS://a/b")
    assert not any(is_address(name) for name in ("a.wav", "ftp://a", "-", None, 5))


def test_few_requests_find_a_place_in_a_long_file(tmp_path):
    np = pytest.importorskip("numpy")
    from streamcodec.codesfile import CodesBlock, CodesHeader
    from streamcodec.codesfile.scx import ScxHeader, ScxReader, ScxWriter

    codes = CodesHeader("tiny", "", "", 1.0, 24000, 1, 320, 1024, "exact")
    with ScxWriter(tmp_path / "a.scx", ScxHeader(codes)) as writer:
        for _ in range(60):  # 80 minutes
            writer.write(CodesBlock(np.zeros((1, 8, 6000), int), None, 6000 * 320))
    data = (tmp_path / "a.scx").read_bytes()
    for content, most in ((data, 8), (data[:-50], 20)):  # with the index, and without it
        with Server(content) as server, contextlib.closing(open_address(server.url)) as file:
            reader = ScxReader(file)
            piece = next(iter(reader.pieces(300_000 * 320)))
            assert 299_000 < piece.frame <= 300_000
            assert len(server.asked) <= most
            assert sum(count for _, count in server.asked) < 400_000 < len(content) / 8
