"""Writes golden.json: packets as bytes, by a writer of its own that shares nothing with streamcodec.packet.

    python tests/wire/make_golden.py

The bits are counted one by one, as docs/protocol.md puts it, and the CRC-32 is long division. The file is committed: it
only changes with the version of the protocol.
"""

import json
import random
import struct
from pathlib import Path

GOLDEN = Path(__file__).parent / "golden.json"
LAST, DISCONTINUITY, REDUCED, SCALE, LENGTH, CRC, CODED, RESTART = 1, 2, 4, 8, 16, 32, 64, 128


def crc32(data):
    """Remainder of the bits, each byte's least significant first, by the polynomial 0x04C11DB7, mirrored."""
    register = 0xFFFFFFFF
    for byte in data:
        for i in range(8):
            carry = (register ^ (byte >> i)) & 1
            register >>= 1
            if carry:
                register ^= 0xEDB88320
    return register ^ 0xFFFFFFFF


def code_bits(codes, bits):
    """Bit i of code n is bit (n * bits + i) of the stream; bit p of the stream is bit p % 8 of byte p // 8."""
    stream = [code >> i & 1 for row in codes for code in row for i in range(bits)]
    stream += [0] * (-len(stream) % 8)
    return bytes(sum(stream[8 * byte + i] << i for i in range(8)) for byte in range(len(stream) // 8))


def to_bytes(packet):
    """The packet of a golden entry."""
    coded, codes = packet["kind"] == "coded", packet["kind"] != "pcm"
    rows = packet["samples"] if not codes else [] if coded else packet["codes"]
    flags = LAST * packet["last"] | DISCONTINUITY * packet["discontinuity"] | CRC * packet["crc"]
    body = b""
    if codes:
        depth, count = (packet["codebooks"], packet["frames"]) if coded else (len(rows), len(rows[0]))
        width = packet["bits"]
        flags |= CODED * coded | RESTART * (coded and packet["restart"])
        flags |= REDUCED * packet["reduced"]
        if packet["length"] is not None:
            flags |= LENGTH
            body += packet["length"].to_bytes(8, "little")
        if packet["scale"] is not None:
            flags |= SCALE
            body += b"".join(struct.pack("<f", value) for value in packet["scale"])
        body += bytes.fromhex(packet["coded"]) if coded else code_bits(rows, width)
    else:
        depth, count, width = packet["channels"], len(rows), {"s16le": 16, "f32le": 32}[packet["format"]]
        body = b"".join(struct.pack("<h" if width == 16 else "<f", value) for row in rows for value in row)
    head = [(1, 1), (1 + codes, 1), (flags, 2), (packet["sequence"], 4), (packet["index"], 8)]
    head += [(packet["stream"], 2), (count, 2), (depth, 1), (width, 1), (packet["check"] if coded else 0, 2)]
    data = b"".join(value.to_bytes(size, "little") for value, size in head) + body
    return data + crc32(data).to_bytes(4, "little") if packet["crc"] else data


def codes(rows, **fields):
    return {
        "kind": "codes", "sequence": 0, "index": 0, "stream": 0, "bits": 10, "codes": rows, "scale": None,
        "length": None, "last": False, "discontinuity": False, "reduced": False, "crc": False, **fields,
    }  # fmt: skip


def coded(data, codebooks, frames, check, **fields):
    return {
        "kind": "coded", "sequence": 0, "index": 0, "stream": 0, "bits": 10, "coded": data, "codebooks": codebooks,
        "frames": frames, "check": check, "scale": None, "length": None, "last": False, "discontinuity": False,
        "reduced": False, "crc": False, "restart": False, **fields,
    }  # fmt: skip


def pcm(rows, channels, name, **fields):
    return {
        "kind": "pcm", "sequence": 0, "index": 0, "stream": 0, "format": name, "channels": channels, "samples": rows,
        "last": False, "discontinuity": False, "crc": False, **fields,
    }  # fmt: skip


def valid():
    random.seed(1)

    def some(depth, count, bits):
        return [[random.randrange(2**bits) for _ in range(count)] for _ in range(depth)]

    yield "one frame of two codebooks", codes([[1], [1023]])
    yield "the example of the text", codes([[1, 2], [3, 4]], sequence=7, index=300, crc=True)
    yield "eight codebooks, four frames", codes(some(8, 4, 10), sequence=2**32 - 1, index=2**32 + 5)
    yield "thirty-two codebooks", codes(some(32, 1, 10), stream=65535)
    for bits in (1, 7, 8, 9, 11, 15, 16):
        yield f"{bits} bits", codes(some(3, 5, bits), bits=bits)
    yield "every code of all ones", codes([[1023] * 3] * 3, crc=True)
    yield "reduced after a gap", codes(some(2, 2, 10), index=40, discontinuity=True, reduced=True)
    yield "scales", codes(some(4, 3, 10), scale=[0.5, 1.25, 2.0**-20], crc=True)
    yield "last, with a length", codes(some(4, 2, 10), last=True, length=2**53 - 1)
    yield "last, empty", codes([[], []], index=2**53 - 1, last=True, length=0)
    yield "last, scales and length", codes(some(1, 2, 3), bits=3, scale=[1.0, 3.0], last=True, length=7, crc=True)
    yield "mono integers", pcm([[0], [1], [-1], [32767], [-32768]], 1, "s16le", sequence=9, index=480)
    yield "stereo integers", pcm([[1, -2], [300, -400]], 2, "s16le", crc=True)
    yield "mono floats", pcm([[0.0], [0.5], [-1.0], [2.0**-24]], 1, "f32le", stream=3)
    yield "stereo floats", pcm([[0.25, -0.75]], 2, "f32le", discontinuity=True, index=96000)
    yield "last, no samples", pcm([], 2, "f32le", last=True, index=12)


def refused():
    good = to_bytes(codes([[1, 2], [3, 4]]))
    sealed = to_bytes(codes([[1, 2], [3, 4]], crc=True))

    def changed(data, at, value):
        return data[:at] + bytes([value]) + data[at + 1 :]

    yield "nothing", b"", "bad_message"
    yield "a header cut short", good[:23], "bad_message"
    yield "version 2", changed(good, 0, 2), "unsupported_version"
    yield "kind 3", changed(good, 1, 3), "bad_message"
    yield "kind 0", changed(good, 1, 0), "bad_message"
    yield "a restart of codes that are not coded", changed(good, 2, RESTART), "bad_message"
    yield "an unknown high flag", changed(good, 3, 1), "bad_message"
    yield "a flag of codes on PCM", changed(to_bytes(pcm([[1]], 1, "s16le")), 2, REDUCED), "bad_message"
    yield "a length without last", changed(good, 2, LENGTH), "bad_message"
    yield "reserved", changed(good, 22, 1), "bad_message"
    yield "no depth", changed(good, 20, 0), "bad_message"
    yield "17 bits", changed(good, 21, 17), "bad_message"
    yield "no bits", changed(good, 21, 0), "bad_message"
    yield "PCM of 24 bits", changed(to_bytes(pcm([[1]], 1, "s16le")), 21, 24), "bad_message"
    yield "empty and not last", changed(changed(good, 18, 0), 2, 0)[:24], "bad_message"
    yield "an index past 2**53 - 1", changed(good, 14, 0x20), "bad_message"
    yield "a length past 2**53 - 1", changed(to_bytes(codes([[1]], last=True, length=0)), 30, 0x20), "bad_message"
    yield "a byte too many", good + b"\0", "bad_message"
    yield "a byte too few", good[:-1], "bad_message"
    yield "padding that is not 0", changed(to_bytes(codes([[1]])), 25, 0x80), "bad_message"
    yield "a damaged code", changed(sealed, 25, 0x7F), "bad_crc"
    yield "a damaged sequence", changed(sealed, 4, 1), "bad_crc"
    yield "a damaged CRC", changed(sealed, len(sealed) - 1, sealed[-1] ^ 1), "bad_crc"


def valid_coded():
    """Of packets alone: what the bytes stand for depends on a model."""
    yield "coded", coded("8123ff", 2, 3, 0xBEEF, sequence=5, index=300)
    yield "coded, nothing to tell", coded("", 8, 1, 0, restart=True, crc=True)
    yield (
        "coded, with all blocks",
        coded("00112233", 4, 2, 1, scale=[0.5, 2.0], last=True, length=640, restart=True, discontinuity=True, crc=True),
    )


def document():
    packets = [{"name": name, "hex": to_bytes(packet).hex(), "packet": packet} for name, packet in valid()]
    bad = [{"name": name, "hex": data.hex(), "code": code} for name, data, code in refused()]
    more = [{"name": name, "hex": to_bytes(packet).hex(), "packet": packet} for name, packet in valid_coded()]
    return {"version": 1, "packets": packets, "coded": more, "refused": bad}


if __name__ == "__main__":
    lines = {key: value for key, value in document().items() if isinstance(value, list)}
    parts = [f'"{key}": [\n' + ",\n".join(json.dumps(item) for item in items) + "\n]" for key, items in lines.items()]
    GOLDEN.write_text('{"version": 1,\n' + ",\n".join(parts) + "}\n", encoding="utf-8")
