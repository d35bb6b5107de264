"""NEON, emulated: it does what torch does, with the same bits for any partition and batch."""

import ctypes
from collections.abc import Iterator

import dac_models
import emulated
import int8_layers
import mimi_models
import oracles
import pytest
import snac_models
import spectral_models
import torch
from streamcodec_kernels import factorised_reference, rvq_reference
from streamcodec_kernels.native import library
from torch import Tensor

from streamcodec import Codec, native_int8, ops
from streamcodec.errors import InputError
from streamcodec.nn.transducer import Network, Transducer

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(emulated.WHY), reason=emulated.WHY)]
CODECS = {
    "convolutions, mirrored edges and an LSTM": lambda: oracles.small_codec("24khz", torch.float32),
    "Snake": lambda: dac_models.small_codec((2,), dtype=torch.float32),
    "depthwise, norms and bands": lambda: spectral_models.small_codec(torch.float32),
    "attention": lambda: mimi_models.small_codec(torch.float32),
    "noise and attention within windows": lambda: snac_models.small_codec(torch.float32, **snac_models.ATTENTION),
}


@pytest.fixture(scope="module", autouse=True)
def neon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[emulated.Emulated]:
    with emulated.emulated(tmp_path_factory.mktemp("emulated"), "neon") as one:
        assert (one.set.lanes, one.set.panel) == (4, 4)
        yield one


def streamed(network: Network, x: Tensor, sizes: list[int]) -> Tensor:
    stream = Transducer(network, len(x), x.device, x.dtype, max(sizes))
    parts = [stream.push(part) for part in x.split([size * network.at.rate for size in sizes], 1)]
    return torch.cat([*parts, stream.flush()], 1)


@pytest.mark.parametrize("kind", CODECS)
def test_streams_equal_torchs_and_any_partition_and_batch_gives_the_same_bits(kind: str) -> None:
    codec: Codec = CODECS[kind]()
    torch.manual_seed(5)
    for in_torch, network in zip(codec.on("torch").framing.networks, codec.on("native").framing.networks, strict=True):
        first = max(1, network.prefill_frames)
        x = torch.randn(2, (first + 3) * network.at.rate, network.channels)
        whole, expected = streamed(network, x, [first + 3]), streamed(in_torch, x, [first + 3])
        size = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(whole, expected, rtol=0, atol=1e-5 * size)
        assert torch.equal(streamed(network, x[1:], [first, 1, 2]), whole[1:])


def test_a_push_in_one_call_has_the_bits_of_the_general_way(neon: emulated.Emulated) -> None:
    codec: Codec = CODECS["convolutions, mirrored edges and an LSTM"]().on("native")
    encoder, decoder = codec.open_encoder(), codec.open_decoder()
    wav = torch.randn(1, 1, 24 * codec.spec.hop_length)
    made = [encoder.push(part) for part in wav.split(2 * codec.spec.hop_length, 2)]
    audio = [decoder.push(codes) for codes in made]
    assert neon.called["push"] > 4
    whole = codec.open_encoder().push(wav)
    assert torch.equal(torch.cat([codes.data for codes in made], 2), whole.data)
    assert torch.equal(torch.cat(audio, 2), codec.open_decoder().push(whole))
    with pytest.raises(InputError):
        encoder.push(torch.full((1, 1, 2 * codec.spec.hop_length), float("inf")))


def test_few_rows_with_weights_in_int8_have_the_bits_of_many_with_floats(neon: emulated.Emulated) -> None:
    network = int8_layers.network()
    x = torch.randn(2, 9 * network.at.rate, network.channels)
    assert 3 <= neon.set.int8 < 2 * 9  # rows of the steps here
    assert torch.equal(streamed(network, x[1:], [1, 2, 1, 3, 2]), streamed(network, x, [9])[1:])


def test_rounded_weights_give_the_same_bits_for_few_rows_and_many(
    neon: emulated.Emulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_int8, "FEWEST", 0)
    network = int8_layers.unrounded()
    network.use("native", "int8")
    x = torch.randn(2, 9 * network.at.rate, network.channels)
    assert torch.equal(streamed(network, x[1:], [1, 2, 1, 3, 2]), streamed(network, x, [9])[1:])


def test_codes_equal_the_references() -> None:
    z, codebooks = rvq_reference.random_problem(5, 3, 100, 24)
    codes = ops.rvq_encode(z, codebooks, backend="native")
    assert torch.equal(codes, rvq_reference.rvq_encode(z, codebooks))
    assert torch.equal(ops.rvq_decode(codes, codebooks, backend="native"), ops.rvq_decode(codes, codebooks))
    projected, *tables = factorised_reference.random_problem(5, 4, 50, 8)
    width = projected.shape[1]
    codes = ops.factorised_encode(projected, torch.eye(width), torch.zeros(width), *tables, backend="native")
    assert torch.equal(codes, factorised_reference.factorised_encode(projected, *tables))


def test_structures_are_as_large_as_they_are_here(neon: emulated.Emulated) -> None:
    sizes = torch.zeros(len(library._STRUCTURES), dtype=torch.int64)
    neon.call("sizes", sizes)
    assert sizes.tolist() == [ctypes.sizeof(each) for each in library._STRUCTURES]
