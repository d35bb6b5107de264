"""The addresses of a server that people have."""

import pytest

from streamcodec.addresses import ServerAddress, is_loopback, server_address
from streamcodec.errors import InputError


@pytest.mark.parametrize(
    ("url", "socket", "pages"),
    [
        ("127.0.0.1:8765", "ws://127.0.0.1:8765/v1/stream", "http://127.0.0.1:8765/"),
        ("localhost", "ws://localhost/v1/stream", "http://localhost/"),
        (" ws://a:1/\n", "ws://a:1/v1/stream", "http://a:1/"),
        ("ws://a/v1/stream", "ws://a/v1/stream", "http://a/"),
        ("HTTP://a:1", "ws://a:1/v1/stream", "http://a:1/"),
        ("https://a/codec/", "wss://a/codec/v1/stream", "https://a/codec/"),
        ("wss://a/codec/v1/stream?x=1", "wss://a/codec/v1/stream?x=1", "https://a/codec/"),
        ("wss://a/sound", "wss://a/sound", "https://a/"),
        ("ws://[::1]:8765", "ws://[::1]:8765/v1/stream", "http://[::1]:8765/"),
    ],
)
def test_an_address_leads_to_the_websocket_and_to_the_pages_beside_it(url, socket, pages):
    assert server_address(url) == ServerAddress(socket, pages)


def test_a_link_of_the_page_names_its_room_and_key():
    link = server_address("https://a/codec/#room=the+hall&key=s3cret&rate=16000")
    assert (link.socket, link.room, link.key) == ("wss://a/codec/v1/stream", "the hall", "s3cret")
    assert server_address("https://a/#rate=16000").room is None
    assert server_address("https://a/#") == server_address("https://a/")


@pytest.mark.parametrize("url", ["", "ws://", "ws://a:99999", "a:b", "ws://[::1", "::1", "ws://a:0", "/v1/stream"])
def test_what_is_no_address_is_refused_with_one_that_is(url):
    with pytest.raises(InputError, match=r"is no address of a server; give one such as ws://127\.0\.0\.1:8765"):
        server_address(url)


def test_other_schemes_and_fragments_are_refused_and_no_secret_is_shown():
    with pytest.raises(InputError, match=r"begins with ftp://; a server is at ws://, wss://, http:// or https://"):
        server_address("ftp://a")
    with pytest.raises(InputError, match="room=NAME"):
        server_address("http://a/#intro")
    with pytest.raises(InputError) as caught:
        server_address("ftp://a/#key=s3cret")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *((host, True) for host in ("localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.8.8.8", "::1")),
        ("::ffff:127.0.0.1", True),
        *((host, False) for host in ("", "localhost.example", "10.0.0.1", "0.0.0.0", "::", "::ffff:10.0.0.1", "127.1")),
    ],
)
def test_loopback_is_known_by_name_and_number(host, expected):
    assert is_loopback(host) is expected
