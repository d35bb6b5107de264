"""EnCodec's .ecdc files with its language model, against the encodec package."""

import contextlib
import importlib
import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from encodec_package import import_encodec
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcodec.cli import main
from streamcodec.codes import Codes
from streamcodec.codesfile import EcdcReader, EcdcWriter, EncodecLM, load_codes
from streamcodec.codesfile.ecdc import MODELS, EcdcModel
from streamcodec.codesfile.ecdc_coder import RangeDecoder, RangeEncoder, most_symbols
from streamcodec.errors import AudioError, CheckpointError, CodesError

package = import_encodec()
upstream = importlib.import_module("encodec.compress")
ac = importlib.import_module("encodec.quantization.ac")
NAMES = list(MODELS)


def language_model(name: str, seed: int = 0, sharpness: float = 1.0, **sizes: Any) -> Any:
    """Upstream's, with random weights; a small one, where nothing else is said."""
    torch.manual_seed(seed)
    past = int(3.5 * MODELS[name].config.frame_rate)
    sizes = {"dim": 16, "num_layers": 2, "hidden_scale": 2, "past_context": past, **sizes}
    lm = package.LMModel(MODELS[name].config.num_codebooks, 1024, **sizes).eval()
    with torch.no_grad():
        for parameter in lm.parameters():  # norms and biases start as ones and zeros: any mix-up would be hidden
            parameter.add_(0.1 * torch.randn_like(parameter))
        for linear in lm.linears:
            linear.weight.mul_(sharpness)
    return lm


def published(name: str) -> Any:
    """Of the published size."""
    return language_model(name, dim=200, num_layers=5, hidden_scale=4)


@pytest.fixture(scope="module")
def pairs() -> dict[str, tuple[Any, EncodecLM]]:
    models = {name: language_model(name) for name in NAMES}
    return {name: (lm, EncodecLM(lm.state_dict())) for name, lm in models.items()}


def random_codes(model: EcdcModel, length: int, codebooks: int, seed: int = 0) -> Codes:
    generator = torch.Generator().manual_seed(seed)
    frames = model.segments.cut(length)
    data = torch.randint(0, 1024, (1, codebooks, sum(frames)), generator=generator)
    scale = torch.rand(len(frames), generator=generator).repeat_interleave(torch.tensor(frames))[None]
    return Codes(data, scale if model.config.normalize else None, length)


def encodec(model: EcdcModel, codes: Codes, lm: Any) -> Any:
    """What upstream's functions need of a model: one that gives these codes."""
    frames, start = [], 0
    for count in model.segments.cut(codes.length):
        scale = None if codes.scale is None else codes.scale[:, start]
        frames.append((codes.data[:, :, start : start + count], scale))
        start += count
    fake = SimpleNamespace(
        name=model.name, bits_per_codebook=10, encode=lambda wav: frames, get_lm_model=lambda: lm,
        segment_length=model.segments.length, segment_stride=model.segments.stride, normalize=model.config.normalize,
        sample_rate=model.config.sampling_rate, frame_rate=int(model.config.frame_rate),
        decode=lambda frames: torch.cat([frame for frame, _ in frames], 2).float(),
    )  # fmt: skip
    fake.to = lambda device: fake
    return fake


def by_upstream(model: EcdcModel, codes: Codes, lm: Any) -> bytes:
    file = io.BytesIO()
    wav = torch.zeros(model.config.audio_channels, codes.length)
    upstream.compress_to_file(encodec(model, codes, lm), wav, file, use_lm=True)
    return file.getvalue()


def save(path: Any, model: EcdcModel, codes: Codes, lm: EncodecLM, cut: int = 0) -> bytes:
    """In two parts, the first of `cut` frames."""
    with EcdcWriter(path, model, lm) as writer:
        first = min(model.samples(cut), codes.length)
        for start, end, length in ((0, cut, first), (cut, codes.data.shape[2], codes.length - first)):
            scale = None if codes.scale is None else codes.scale[:, start:end]
            writer.append(Codes(codes.data[:, :, start:end], scale, length))
    return path.read_bytes()


def check(path: Any, name: str, lm: Any, length: int, codebooks: int, cut: int = 0, block: int = 7) -> None:
    """The bytes are upstream's, we read them, and upstream reads them too."""
    model, ours = MODELS[name], EncodecLM(lm.state_dict())
    codes = random_codes(model, length, codebooks)
    data = save(path, model, codes, ours, min(cut, codes.data.shape[2]))
    assert data == by_upstream(model, codes, lm)
    with EcdcReader(path, ours) as reader:
        blocks = list(reader.blocks(block))
        again = Codes.cat(blocks)
    assert [part.data.shape[2] for part in blocks[:-1]] == [block] * (len(blocks) - 1)
    assert torch.equal(again.data, codes.data)
    assert again.length == length
    assert codes.scale is None or torch.equal(again.scale, codes.scale)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(upstream.MODELS, name, lambda: encodec(model, codes, lm))
        decoded, _ = upstream.decompress(data)
    assert torch.equal(decoded[:, :length], codes.data[0].float()[:, :length])


# -- the coder ------------------------------------------------------------------------------------------------------

tables = st.lists(st.floats(0, 1), min_size=2, max_size=40).map(
    lambda shares: ac.build_stable_quantized_cdf(
        0.9999 * torch.tensor(shares).add(1e-3).div(sum(shares) + 1e-3 * len(shares)), 24
    )
)


@settings(max_examples=60)
@given(st.lists(st.tuples(tables, st.integers(0, 39)), max_size=60), st.integers(1, 60))
def test_the_coder_gives_upstreams_bytes_and_gets_the_symbols_back(pairs, cut):
    file = io.BytesIO()
    theirs, ours, data = ac.ArithmeticCoder(file), RangeEncoder(), b""
    symbols = [symbol % len(table) for table, symbol in pairs]
    for place, ((table, _), symbol) in enumerate(zip(pairs, symbols, strict=True)):
        theirs.push(symbol, table)
        ours.push(symbol, table.tolist())
        data += ours.take() if place % cut == 0 else b""
    theirs.flush()
    data += ours.flush()
    assert data == file.getvalue()
    assert ours.flush() == b""
    assert len(symbols) <= most_symbols(len(data), 2)
    decoder = RangeDecoder(iter(data).__next__)
    assert [decoder.pull(table.tolist()) for table, _ in pairs] == symbols


def test_the_likeliest_symbols_cost_what_the_bound_says():
    """Of 1024 with 1023 at their least: so many go into a byte at most, and nearly as many do."""
    table, coder, data = list(range(2, 2048, 2)), RangeEncoder(), b""
    table.append(2**24)
    for _ in range(200_000):
        coder.push(1023, table)
        data += coder.take()
    data += coder.flush()
    assert 200_000 <= most_symbols(len(data), 1024) < 400_000


def test_what_the_coder_has_no_room_for_is_refused():
    """A table that ends above 2**24, as rounded floats may."""
    with pytest.raises(CodesError, match="cannot be coded"):
        RangeEncoder().push(1, [2**23, 2**24 + 2])
    with pytest.raises(CodesError, match="damaged"):
        RangeDecoder(iter(b"\xff\xff\xff").__next__).pull([100, 2**23])


# -- the model ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["small", "published"])
def test_probabilities_are_upstreams_to_the_bit_and_the_state_is_a_value(size):
    past = 5
    lm = language_model(NAMES[0], past_context=past, **({} if size == "small" else {"dim": 200, "num_layers": 5}))
    ours = EncodecLM(lm.state_dict())
    before, state, theirs, offset = None, ours.start(), None, 0
    codes = torch.randint(0, 1024, (9, 4), generator=torch.Generator().manual_seed(1))
    for row in codes:
        given = torch.zeros(1, 4, 1, dtype=torch.int64) if before is None else 1 + before[None, :, None]
        with torch.no_grad():
            wanted, theirs, offset = lm(given, theirs, offset)
        kept = state
        found, state = ours.step(before, 4, past, kept)
        assert torch.equal(found, wanted[0, :, :, 0].T)
        again, _ = ours.step(before, 4, past, kept)  # what was remembered is as it was
        assert torch.equal(again, found)
        before = row
    assert state.frames == len(codes)
    assert [kept.shape[1] for kept in state.inputs] == [past] * len(ours.layers)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: {}, "no weights emb.0.weight"),
        (lambda tensors: {**tensors, "more": torch.zeros(1)}, "more"),
        (lambda tensors: {**tensors, "emb.0.weight": torch.zeros(1025, 9)}, "layers of 9"),
        (lambda tensors: {**tensors, "emb.1.weight": torch.zeros(1025, 24)}, "size mismatch"),
        (lambda tensors: {**tensors, "emb.1.weight": 3}, "no weights"),
        (lambda tensors: {"best_state": tensors}, "no weights"),
    ],
)
def test_weights_of_something_else_are_refused(change, message):
    tensors = language_model(NAMES[1]).state_dict()
    with pytest.raises(CheckpointError, match=message):
        EncodecLM(change(dict(tensors)))


# -- files ----------------------------------------------------------------------------------------------------------


@settings(max_examples=8)
@given(st.sampled_from(NAMES), st.integers(1, 9000), st.integers(1, 16), st.integers(0, 30), st.integers(1, 40))
def test_bytes_are_upstreams_and_are_read_back(tmp_path_factory, pairs, name, length, codebooks, cut, block):
    check(tmp_path_factory.mktemp("codes") / "c.ecdc", name, pairs[name][0], length, codebooks, cut, block)


@pytest.mark.parametrize(("name", "length"), [(NAMES[0], 266 * 320), (NAMES[1], 47_600)])
def test_longer_than_the_model_sees_and_in_several_segments(tmp_path, name, length):
    check(tmp_path / "c.ecdc", name, language_model(name, num_layers=1), length, 1, 100, 200)


@pytest.mark.parametrize("name", NAMES)
def test_of_the_published_size(tmp_path, name):
    check(tmp_path / "c.ecdc", name, published(name), 6 * 320, MODELS[name].config.num_codebooks)


def test_sure_probabilities_make_fewer_bytes(tmp_path):
    """Codes that the model expects: the likeliest of each frame."""
    model, ours = MODELS[NAMES[0]], EncodecLM(language_model(NAMES[0], sharpness=40.0).state_dict())
    rows, before, state = [], None, ours.start()
    for _ in range(20):
        shares, state = ours.step(before, 4, model.lm_past, state)
        before = shares.argmax(1)
        rows.append(before)
    codes = Codes(torch.stack(rows, 1)[None], None, 20 * 320)
    assert len(save(tmp_path / "c.ecdc", model, codes, ours)) - 64 < 20 * 4 * 10 / 8 / 2  # a header, and codes
    assert torch.equal(load_codes(tmp_path / "c.ecdc", lm=ours).data, codes.data)


def test_a_file_can_be_read_twice_at_once(tmp_path, pairs):
    model, (_, lm) = MODELS[NAMES[1]], pairs[NAMES[1]]
    codes = random_codes(model, 12 * 320, 2)
    save(tmp_path / "c.ecdc", model, codes, lm)
    with EcdcReader(tmp_path / "c.ecdc", lm) as reader:
        both = list(zip(reader.blocks(5), reader.blocks(5), strict=True))
    for side in zip(*both, strict=True):
        assert torch.equal(Codes.cat(side).data, codes.data)


def test_without_the_model_or_with_another_one_it_is_said(tmp_path, pairs):
    model, (_, lm) = MODELS[NAMES[0]], pairs[NAMES[0]]
    path = tmp_path / "c.ecdc"
    data = save(path, model, random_codes(model, 12 * 320, 4), lm)
    with pytest.raises(AudioError, match=r"give its checkpoint.*--lm"):
        EcdcReader(path)
    with pytest.raises(CodesError, match="another machine or version of torch"):
        load_codes(path, lm=EncodecLM(language_model(NAMES[0], seed=1).state_dict()))
    for size in [*range(0, len(data), 11), len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises((AudioError, CodesError), match=r"not an .ecdc|cut short|ends before its last frame"):
            load_codes(path, lm=lm)
    path.write_bytes(data + b"\0")
    with pytest.raises(CodesError, match="bytes are left"):
        load_codes(path, lm=lm)


def test_a_file_cannot_claim_more_than_its_bytes_can_hold(tmp_path, pairs):
    path = tmp_path / "c.ecdc"
    header = b'{"m": "encodec_24khz", "al": 281474976710656, "nc": 1, "lm": true}'
    path.write_bytes(b"ECDC\0" + len(header).to_bytes(4, "big") + header + bytes(10_000))
    with pytest.raises(AudioError, match=r"cut short: 10000 bytes cannot hold its"):
        EcdcReader(path, pairs[NAMES[0]][1])


def test_a_model_of_other_codebooks_is_refused(tmp_path, pairs):
    (_, small), (_, large) = pairs[NAMES[1]], pairs[NAMES[0]]
    assert (small.codebooks, large.codebooks) == (16, 32)
    model, path = MODELS[NAMES[0]], tmp_path / "c.ecdc"
    with pytest.raises(CodesError, match="language model is for 16 of 1024"), EcdcWriter(path, model, small) as writer:
        writer.append(random_codes(model, 320, 17))
    assert list(tmp_path.iterdir()) == []
    save(path, model, random_codes(model, 320, 17), large)
    with pytest.raises(CodesError, match="language model is for 16 of 1024"):
        EcdcReader(path, small)


@settings(max_examples=30)
@given(st.binary(min_size=1, max_size=4), st.integers(0, 1000))
def test_damage_anywhere_is_an_error_of_ours_or_other_codes(tmp_path_factory, pairs, noise, place):
    model, (_, lm) = MODELS[NAMES[1]], pairs[NAMES[1]]
    path = tmp_path_factory.mktemp("codes") / "c.ecdc"
    data = bytearray(save(path, model, random_codes(model, 1300, 2), lm))
    place %= len(data)
    data[place : place + len(noise)] = noise
    path.write_bytes(data)
    with contextlib.suppress(AudioError, CodesError):
        assert load_codes(path, lm=lm).data.max() < 1024


# -- the command ----------------------------------------------------------------------------------------------------


def test_the_command_reads_and_writes_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = package.EncodecModel.encodec_model_24khz(pretrained=False).eval()
    torch.save(model.state_dict(), "codec.th")
    lm = language_model(NAMES[0])
    torch.save(lm.state_dict(), "lm.th")
    wav = 0.2 * torch.randn(1, 3000)
    soundfile.write("in.wav", wav[0].numpy(), 24_000, subtype="FLOAT")
    options = ["--codec", "codec.th"]
    assert main(["encode", "in.wav", "c.ecdc", "--bandwidth", "3", "--lm", "lm.th", *options]) == 0
    assert main(["decode", "c.ecdc", "out.wav", "--lm", "lm.th", *options]) == 0
    codes = load_codes("c.ecdc", lm=EncodecLM.load("lm.th"))
    assert (tmp_path / "c.ecdc").read_bytes() == by_upstream(MODELS[NAMES[0]], codes, lm)
    assert soundfile.info("out.wav").frames == 3000
    capsys.readouterr()
    for words, message in (
        (["decode", "c.ecdc", "o.wav", *options], "give its checkpoint"),
        (["decode", "c.ecdc", "o.wav", "--lm", "codec.th", *options], "not a language model of EnCodec's"),
        (["decode", "c.ecdc", "o.wav", "--lm", "none.th", *options], "none.th"),
        (["encode", "in.wav", "c.safetensors", "--lm", "lm.th", *options], "--lm is for .ecdc files"),
        (["encode", "in.wav", "o.ecdc", "--lm", "codec.th", *options], "not a language model of EnCodec's"),
    ):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error
    assert not (tmp_path / "o.wav").exists()
    assert not (tmp_path / "o.ecdc").exists()
    assert np.isfinite(soundfile.read("out.wav")[0]).all()
