"""Saved streams go on to the bit, here and in another process; anything else is refused with one error."""

import hashlib
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import KINDS, cuts, signal, small_codec
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

import streamcodec
from streamcodec import Codes
from streamcodec.errors import BandwidthError, InputError, StateError

kinds = st.sampled_from(sorted(KINDS))
dtypes = st.sampled_from([torch.float32, torch.float64])
starts = st.sampled_from(["exact", "primed"])


def same(one: Codes, other: Codes) -> bool:
    scales = one.scale is other.scale is None or torch.equal(one.scale, other.scale)
    return torch.equal(one.data, other.data) and one.length == other.length and scales


@settings(max_examples=60)
@given(kinds, dtypes, starts, st.integers(0, 300), st.lists(st.integers(0, 60), max_size=6))
def test_an_encoder_goes_on_to_the_bit(kind, dtype, start, cut, sizes):
    codec = small_codec(kind, dtype)
    wav = signal(2, codec.spec.channels, cut + 150)
    encoder = codec.open_encoder(0.8, 2, start=start)
    encoder.push(wav[:, :, :cut])
    blob = encoder.save()
    again = codec.open_encoder(state=blob)
    assert (again.batch, again.start, again.bandwidth, again.closed) == (2, start, 0.8, False)
    assert again.save() == blob
    for first, last in cuts(150, sizes):  # in turns, so that memory shared by mistake would show
        piece = wav[:, :, cut + first : cut + last]
        assert same(encoder.push(piece), again.push(piece))
    assert same(encoder.flush(), again.flush())
    assert codec.open_encoder(state=again.save()).closed


@settings(max_examples=60)
@given(kinds, dtypes, starts, st.integers(0, 50), st.lists(st.integers(0, 9), max_size=6))
def test_a_decoder_goes_on_to_the_bit(kind, dtype, start, cut, sizes):
    codec = small_codec(kind, dtype)
    codes = codec.encode(signal(2, codec.spec.channels, 450), 1.6)
    frames = codes.data.shape[2]

    def part(first: int, last: int) -> Codes:
        scale = None if codes.scale is None else codes.scale[:, first:last]
        return Codes(codes.data[:, :, first:last], scale)

    decoder = codec.open_decoder(2, start=start)
    decoder.push(part(0, cut))
    blob = decoder.save()
    again = codec.open_decoder(state=blob)
    assert again.save() == blob
    for first, last in cuts(frames - cut, sizes):
        piece = part(cut + first, cut + last)
        assert torch.equal(decoder.push(piece), again.push(piece))
    assert torch.equal(decoder.flush(), again.flush())
    assert codec.open_decoder(state=again.save()).closed


ELSEWHERE = """
    import sys
    from pathlib import Path
    import torch
    import streamcodec

    torch.set_num_threads(1)
    here = Path(sys.argv[1])
    codec = streamcodec.load(here / "codec")
    wav = torch.load(here / "rest.pt")
    encoder = codec.open_encoder(state=(here / "encoder").read_bytes())
    decoder = codec.open_decoder(state=(here / "decoder").read_bytes())
    pcm = []
    for codes in (encoder.push(wav), encoder.flush()):
        pcm.append(decoder.push(codes))
    pcm.append(decoder.flush())
    torch.save(torch.cat(pcm, 2), here / "pcm.pt")
"""


@pytest.mark.slow
@pytest.mark.parametrize("start", ["exact", "primed"])
def test_another_process_goes_on_to_the_bit(start, tmp_path):
    streamcodec.save(small_codec("24khz", torch.float32), tmp_path / "codec")
    codec = streamcodec.load(tmp_path / "codec")
    wav = signal(1, 1, 500)
    encoder, decoder = codec.open_encoder(1.6, start=start), codec.open_decoder(start=start)
    decoder.push(encoder.push(wav[:, :, :201]))
    for name, blob in (("encoder", encoder.save()), ("decoder", decoder.save())):
        (tmp_path / name).write_bytes(blob)
    torch.save(wav[:, :, 201:].clone(), tmp_path / "rest.pt")
    subprocess.run([sys.executable, "-c", textwrap.dedent(ELSEWHERE), tmp_path], check=True, timeout=120)
    pcm = [decoder.push(encoder.push(wav[:, :, 201:])), decoder.push(encoder.flush()), decoder.flush()]
    assert torch.equal(torch.load(Path(tmp_path / "pcm.pt")), torch.cat(pcm, 2))


# -- what is refused -----------------------------------------------------------------------------------------------


def saved(kind: str = "24khz", start: str = "exact") -> bytes:
    codec = small_codec(kind)
    encoder = codec.open_encoder(0.8, start=start)
    encoder.push(signal(1, codec.spec.channels, 100))
    return encoder.save()


def forged(blob: bytes, tensors: Any = None, **change: Any) -> bytes:
    """The state with other contents and a right checksum: what another release, or an attacker, might send."""
    content = blob[:-32]
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    meta = json.loads(header["__metadata__"]["stream"])
    for name, value in change.items():
        if value is ...:
            del meta[name]
        else:
            meta[name] = value
    held = load_tensors(content) | (tensors or {})
    content = save_tensors(
        {name: tensor for name, tensor in held.items() if tensor is not None}, {"stream": json.dumps(meta)}
    )
    return content + hashlib.sha256(content).digest()


def test_the_forger_can_leave_a_state_as_it_is():
    """Else the tests below would prove nothing."""
    blob = saved()
    assert small_codec().open_encoder(state=forged(blob)).push(signal(1, 1, 50)).data.shape[1] == 2


@pytest.mark.parametrize("kind", KINDS)
def test_state_cut_short_at_any_byte_is_refused(kind):
    blob = saved(kind)
    for size in {*range(0, len(blob), 13), *range(min(100, len(blob))), *range(len(blob) - 100, len(blob))}:
        with pytest.raises(StateError, match="cut short"):
            small_codec(kind).open_encoder(state=blob[:size])
    with pytest.raises(StateError, match="checksum"):
        small_codec(kind).open_encoder(state=blob + b"\0")


@pytest.mark.slow
@settings(max_examples=300)
@given(st.data())
def test_state_with_flipped_bits_is_refused(data):
    damaged = bytearray(saved())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    if bytes(damaged) == saved():
        return
    with pytest.raises(StateError, match="checksum"):
        small_codec().open_encoder(state=bytes(damaged))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 1}, "version 1.*reads .*version 2"),
        ({"format": "other"}, "'other'"),
        ({"format": ...}, "cannot be read"),
        ({"kind": "decoder"}, "decoder.*encoder"),
        ({"fingerprint": "0"}, "other weights"),
        ({"numbers": ...}, "lacks numbers"),
        ({"numbers": {}}, "counters"),
        ({"numbers": [1]}, "counters"),
        ({"numbers": {"frames": -1, "samples": 0, "emitted": 0}}, "counters"),
        ({"numbers": {"frames": 1.5, "samples": 0, "emitted": 0}}, "counters"),
        ({"core": None}, "counters"),
        ({"core": {}}, "place in the stream"),
        ({"batch": 2}, "shape"),
        ({"batch": 0}, "batch"),
        ({"batch": "x"}, "batch"),
        ({"start": "x"}, "start"),
        ({"bandwidth": 7.0}, "bandwidth"),
        ({"bandwidth": [1]}, "bandwidth"),
        ({"tensors": {"pending": None}}, "current frame"),
        ({"tensors": {"pending": torch.zeros(1, 10_000, 1, dtype=torch.float64)}}, "10000"),
        ({"tensors": {"pending": torch.zeros(1, 1, 1)}}, "float32|shape"),
        ({"tensors": {"pending": torch.zeros(3)}}, "shape"),
        ({"tensors": {"state.extra": torch.zeros(3)}}, "unexpected"),
        ({"tensors": {"state.0.history": None}}, "lacks the tensor"),
        ({"tensors": {"state.0.history": torch.zeros(1)}}, "state.0.history"),
    ],
)
def test_state_that_is_not_this_codecs_is_refused(change, message):
    with pytest.raises(StateError, match=message):
        small_codec().open_encoder(state=forged(saved(), **change))


@pytest.mark.parametrize(
    "tensors",
    [
        {"pending": None},
        {"pending": torch.zeros(1, 3, 5, dtype=torch.float64)},
        {"sums": torch.zeros(2, 3, 2, dtype=torch.float64)},
        {"weights": torch.zeros(1, 3, dtype=torch.float64)},
        {"scale": torch.zeros(1, 3)},
        {"extra": torch.zeros(1)},
    ],
)
def test_a_segment_decoders_state_is_checked(tensors):
    codec = small_codec("48khz")
    decoder = codec.open_decoder()
    decoder.push(codec.encode(signal(1, 2, 100)))
    with pytest.raises(StateError):
        codec.open_decoder(state=forged(decoder.save(), tensors))


def test_state_of_another_codec_or_direction_is_refused():
    blob = saved()
    with pytest.raises(StateError, match="that of the encoder; this is the decoder"):
        small_codec().open_decoder(state=blob)
    for other in (small_codec("32khz"), small_codec("24khz", torch.float32), small_codec("24khz", pad_mode="constant")):
        with pytest.raises(StateError, match="other weights"):
            other.open_encoder(state=blob)


@pytest.mark.parametrize("state", [b"", b"\0" * 8, b"x" * 1000, b"\xff" * 100, "text", 1, [1]])
def test_what_is_no_state_is_refused(state):
    with pytest.raises(StateError):
        small_codec().open_encoder(state=state)


def test_what_a_state_says_cannot_be_asked_for_differently():
    codec, blob = small_codec(), saved()
    for change in ({"batch": 2}, {"start": "primed"}):
        with pytest.raises(StateError, match="leave it out"):
            codec.open_encoder(state=blob, **change)
    assert codec.open_encoder(state=blob, batch=1, start="exact", bandwidth=1.6).bandwidth == 1.6
    with pytest.raises(BandwidthError):
        codec.open_encoder(state=blob, bandwidth=7.0)
    with pytest.raises(InputError, match="start"):
        codec.open_encoder(start="x")
