"""Every family refuses what it cannot run, says why, and its streams go on as if nothing had come."""

import dac_models
import pytest
import spectral_models
import torch
from bad_input import BAD_AUDIO, assert_one_error
from oracles import cuts

from streamcodec import Codec, Codes
from streamcodec.errors import CodesError, DtypeError, InputError, ShapeError, StreamClosedError

FAMILIES = {"dac": lambda: dac_models.small_codec((2, 3)), "spectral": spectral_models.small_codec}


def codes_of(*shape: int, value: int = 0) -> Codes:
    return Codes(torch.full(shape, value))


def bad_codes(codec: Codec) -> dict[str, tuple[object, type[InputError], str]]:
    """For a decoder opened with batch=2: the codes, the error, and what its text says."""
    last, most = codec.spec.codebook_size - 1, codec.spec.num_codebooks
    return {
        "too high": (codes_of(2, 1, 3, value=last + 1), CodesError, rf"{last + 1}\.\.{last + 1}.*0\.\.{last}"),
        "negative": (codes_of(2, 1, 3, value=-1), CodesError, rf"-1\.\.-1.*0\.\.{last}"),
        "no codebook": (codes_of(2, 0, 3), ShapeError, rf"\[2, 0, 3\].*1\.\.{most}"),
        "too many codebooks": (codes_of(2, most + 1, 3), ShapeError, rf"\[2, {most + 1}, 3\].*1\.\.{most}"),
        "float codes": (torch.zeros(2, 1, 3), DtypeError, "float32.*whole numbers"),
        "two dimensions": (torch.zeros(2, 3, dtype=torch.int64), ShapeError, r"\[2, 3\].*\[None\]"),
        "transformers' chunks": (
            torch.zeros(1, 2, 1, 3, dtype=torch.int64),
            ShapeError,
            r"\[1, 2, 1, 3\].*\[chunks, B, K, T\].*\[0\]",
        ),
        "batch": (codes_of(1, 1, 3), ShapeError, "batch 1.*batch=2"),
        "length below 0": (Codes(codes_of(2, 1, 3).data, None, -1), CodesError, "-1"),
        "length too high": (Codes(codes_of(2, 1, 3).data, None, 10**6), CodesError, "frames"),
        "a scale too long": (Codes(codes_of(2, 1, 3).data, torch.ones(2, 4)), ShapeError, r"\[2, 4\].*\[2, 3\]"),
        "a list": ([[0]], InputError, "list.*Codes"),
        "None": (None, InputError, "NoneType.*Codes"),
    }


@pytest.fixture(params=FAMILIES)
def codec(request: pytest.FixtureRequest) -> Codec:
    return FAMILIES[request.param]()


@pytest.mark.parametrize("name", BAD_AUDIO)
def test_bad_audio_leaves_an_encoder_as_it_was(codec, name):
    bad, kind, message = BAD_AUDIO[name]
    samples = 50 * codec.spec.hop_length
    wav = 0.3 * torch.randn(2, 1, samples, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    encoder, parts = codec.open_encoder(batch=2), []
    for start, stop in cuts(samples, [0, 20, 100, 7]):
        assert_one_error(lambda: encoder.push(bad), kind, message)
        parts.append(encoder.push(wav[:, :, start:stop]))
    assert_one_error(lambda: encoder.push(bad), kind, message)
    codes, expected = Codes.cat([*parts, encoder.flush()]), codec.open_encoder(batch=2)
    whole = Codes.cat([expected.push(wav), expected.flush()])
    assert torch.equal(codes.data, whole.data)
    assert codes.length == whole.length
    if name != "batch":
        assert_one_error(lambda: codec.encode(bad), kind, message)
    assert_one_error(lambda: encoder.push(wav), StreamClosedError, "push after flush")


def test_bad_codes_leave_a_decoder_as_it_was(codec):
    generator = torch.Generator().manual_seed(2)
    spec = codec.spec
    data = torch.randint(spec.codebook_size, (2, spec.num_codebooks, 30), generator=generator)
    decoder, parts = codec.open_decoder(2), []
    for start, stop in cuts(30, [0, 5, 12, 3]):
        for bad, kind, message in bad_codes(codec).values():
            assert_one_error(lambda bad=bad: decoder.push(bad), kind, message)
        parts.append(decoder.push(Codes(data[:, :, start:stop])))
    expected = codec.decode(data)
    torch.testing.assert_close(torch.cat([*parts, decoder.flush()], 2), expected, rtol=0, atol=1e-10)
    for name, (bad, kind, message) in bad_codes(codec).items():
        if name != "batch":
            assert_one_error(lambda bad=bad: codec.decode(bad), kind, message)
