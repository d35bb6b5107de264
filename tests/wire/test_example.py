"""The tables of docs/protocol.md, and its example session, word for word and byte for byte."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from fake_link import DELAYS, FACTS

from streamcodec.protocol import FAULTS, SUBPROTOCOL, ClientSession, Hello, Limits, PcmFormat, Resume, ServerSession
from streamcodec.protocol.messages import FROM_CLIENT, FROM_SERVER

TEXT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")


def lines_of_the_session():
    """A session as it goes over the wire: (direction, message)."""
    offers, limits, lines = {"test_24khz": FACTS}, Limits(), []
    client, server = ClientSession(), ServerSession(offers, limits, 0.0)

    def carry():
        for message in client.messages_to_send():
            lines.append((">", message))
            server.receive(message, 0.0)
        for message in server.messages_to_send():
            lines.append(("<", message))
            client.receive(message)

    pcm = PcmFormat(format="s16le", sample_rate=24000)
    client.hello(Hello(version=1, mode="encode", bandwidth=1.5, pcm=pcm, crc=True))
    carry()
    server.accept("s1", "kXv0Zq3N8yWbT5cRf1LhUg", DELAYS, 0.0, 1700000000.0)
    carry()
    client.send_pcm(np.array([[0, 0.5, -1, 1]], np.float32))
    client.mark("a")
    carry()
    client.flush()
    client.ping("1")
    carry()
    server.send_codes(np.array([[1], [1023]], np.uint16), last=True, length=4)
    server.echo("a")
    server.messages_to_send()  # lost with the connection
    server.disconnected(0.0)
    client.disconnected()
    lines.append(("-", "the connection breaks; the client connects again"))
    client.resume()
    (request,) = client.messages_to_send()
    lines.append((">", request))
    server.resume(ServerSession(offers, limits, 0.0).receive(request, 0.0)[0], 0.0)
    carry()
    server.flushed(1)
    carry()
    client.goodbye()
    carry()
    return lines


def example():
    shown = [
        f"{way} {message.hex() if isinstance(message, bytes) else message}" for way, message in lines_of_the_session()
    ]
    return "\n".join(shown)


def test_the_example_session_is_what_goes_over_the_wire():
    assert f"```text\n{example()}\n```" in TEXT


def test_the_table_of_errors():
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (\d+) \|", TEXT, re.MULTILINE)
    assert rows == [(code, fault.scope.value, str(fault.close)) for code, fault in FAULTS.items()]


@pytest.mark.parametrize("known", [FROM_CLIENT, FROM_SERVER], ids=["client", "server"])
def test_every_message_and_field_is_in_the_text(known):
    for kind, cls in known.items():
        assert f"`{kind}`" in TEXT
        for name in cls.__dataclass_fields__:
            assert f"`{name}`" in TEXT, (kind, name)


def test_the_packets_of_the_text_are_golden():
    golden = json.loads((Path(__file__).parent / "golden.json").read_text(encoding="utf-8"))
    shown = re.findall(r"^    ((?:[0-9a-f]{2} ?)+)$", TEXT, re.MULTILINE)
    assert "".join("".join(line.split()) for line in shown) == golden["packets"][1]["hex"]


def test_the_name_of_the_subprotocol():
    assert SUBPROTOCOL in TEXT
    assert isinstance(Resume(version=1, token="x"), FROM_CLIENT["resume"])


if __name__ == "__main__":
    print(example())
