"""SNAC: equal to the snac package's, streams equal to offline with noise and windows of attention, files, refusals."""

import copy
import json
from typing import Any

import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import cuts, signal
from snac_models import ATTENTION, SMALL, package_model, small_codec

from streamcodec import Codes, TokenDataset, load_codes, packet, tokens
from streamcodec.checkpoint import load, save
from streamcodec.cli import main
from streamcodec.codecs.snac import SnacCodec, SnacConfig
from streamcodec.corpus import tokenize
from streamcodec.errors import CheckpointError, ConfigError, InputError, ShapeError, StateError

VARIANTS: list[dict[str, Any]] = [
    {},
    ATTENTION,
    ATTENTION | {"vq_strides": [3, 1], "attn_window_size": 4},
    {"depthwise": False, "vq_strides": [2, 2, 1], "decoder_rates": [2, 3]},
    {"noise": False},
]
small_codecs = st.sampled_from(VARIANTS).map(lambda variant: small_codec(**variant))
sizes = st.lists(st.integers(0, 200) | st.integers(0, 7), max_size=12)
samples_of_any_length = st.integers(0, 20) | st.integers(0, 700)


# -- offline ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("samples", [1, 24, 25, 500])
def test_it_gives_what_the_snac_package_gives(variant: dict[str, Any], samples: int) -> None:
    codec = small_codec(torch.float32, **variant)
    model, wav = package_model(codec), signal(2, 1, samples)
    with torch.no_grad():
        codes = model.encode(wav)
        assert [level.tolist() for level in codec.encode(wav).levels(codec.spec.levels)] == [c.tolist() for c in codes]
        theirs = model.decode(codes)
    ours = codec.decode(Codes.of_levels(codes, codec.spec.levels))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    assert samples < 500 or theirs.std() > 0.05


def test_published_sizes_say_their_frames_and_rates() -> None:
    speech = SnacConfig()
    assert (speech.hop_length, speech.levels, speech.bandwidths) == (2048, (1, 2, 4), (0.141, 0.422, 0.984))
    music = SnacConfig(44_100, 64, (2, 3, 8, 8), 1536, (8, 8, 3, 2), attn_window_size=32, vq_strides=(8, 4, 2, 1))
    assert (music.hop_length, music.levels, music.bandwidths[-1]) == (32 * 384, (4, 8, 16, 32), 2.584)


# -- streams ---------------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(small_codecs, samples_of_any_length, st.integers(1, 2), st.data(), sizes, st.sampled_from(["exact", "primed"]))
def test_streams_equal_the_offline_calls(
    codec: SnacCodec, samples: int, batch: int, data: Any, pieces: list[int], start: Any
) -> None:
    wav, bandwidth = signal(batch, 1, samples, samples), data.draw(st.sampled_from(codec.spec.bandwidths))
    encoder = codec.open_encoder(bandwidth, batch, start=start)
    parts = [*(encoder.push(wav[:, :, first:stop]) for first, stop in cuts(samples, pieces)), encoder.flush()]
    codes, expected = Codes.cat(parts), codec.encode(wav, bandwidth)
    assert torch.equal(codes.data, expected.data)
    assert codes.length == expected.length == samples
    decoder = codec.open_decoder(batch, start=start)
    pcm = torch.cat([*(decoder.push(part) for part in parts), decoder.flush()], 2)
    assert pcm.shape == wav.shape
    torch.testing.assert_close(pcm, codec.decode(expected), rtol=0, atol=1e-10)


@settings(max_examples=10)
@given(small_codecs, st.integers(1, 400), st.integers(0, 399))
def test_copied_and_saved_streams_go_on_to_the_bit(codec: SnacCodec, samples: int, at: int) -> None:
    wav = signal(1, 1, samples, samples)
    encoder, decoder = codec.open_encoder(), codec.open_decoder()
    head = encoder.push(wav[..., :at])
    audio = decoder.push(head)
    again, heard = codec.open_encoder(state=encoder.save()), codec.open_decoder(state=decoder.save())
    tail = [encoder.push(wav[..., at:]), encoder.flush()]
    same = [again.push(wav[..., at:]), again.flush()]
    assert [part.data.tolist() for part in tail] == [part.data.tolist() for part in same]
    rest = [torch.cat([stream.push(tail[0]), stream.push(tail[1]), stream.flush()], 2) for stream in (decoder, heard)]
    assert torch.equal(*rest)
    whole = codec.decode(codec.encode(wav))
    torch.testing.assert_close(torch.cat([audio, rest[0]], 2), whole, rtol=0, atol=1e-10)


@pytest.mark.parametrize("variant", VARIANTS[:2])
def test_rows_of_unequal_length_and_pieces_give_what_each_gives_alone(variant: dict[str, Any]) -> None:
    codec = small_codec(**variant)
    wavs = [signal(1, 1, samples, samples)[0].double() for samples in (300, 5, 0, 121)]
    alone = [codec.encode(wav[None]) for wav in wavs]
    for together in (codec.encode(wavs), codec.encode(wavs, chunk_seconds=0.1)):
        assert all(torch.equal(one.data, other.data) for one, other in zip(together, alone, strict=True))
    for pcm in (codec.decode(alone), codec.decode(alone, chunk_seconds=0.1)):
        for one, other in zip(pcm, alone, strict=True):
            torch.testing.assert_close(one, codec.decode(other), rtol=0, atol=1e-10)


@pytest.mark.parametrize("variant", VARIANTS[:2])
def test_a_frame_comes_out_as_soon_as_its_delay_says(variant: dict[str, Any]) -> None:
    codec = small_codec(**variant)
    spec, wav = codec.spec, signal(1, 1, 400)
    encoder, decoder = codec.open_encoder(), codec.open_decoder()
    heard = [encoder.push(wav[..., i : i + 1]).data.shape[2] for i in range(400)]
    assert heard.index(1) == spec.hop_length + spec.encoder_delay - 1
    audio = [decoder.push(codec.encode(wav).data[..., i : i + 1]).shape[2] for i in range(400 // spec.hop_length)]
    for frames in range(1, len(audio) + 1):
        assert sum(audio[:frames]) == max(0, frames * spec.hop_length - spec.decoder_delay)


@pytest.mark.parametrize("variant", VARIANTS[:2])
def test_without_zeros_at_the_end_whole_frames_are_coded(variant: dict[str, Any]) -> None:
    codec = copy.deepcopy(small_codec(**variant))
    codec.pad, hop = False, codec.spec.hop_length
    for samples in (0, 5, hop - 1, hop, 3 * hop + 7, 300):
        wav = signal(1, 1, samples)
        encoder, whole = codec.open_encoder(), codec.encode(wav)
        assert samples // hop <= whole.data.shape[2] <= -(-samples // hop)  # odd strides make up for a sample or two
        assert Codes.cat([encoder.push(wav), encoder.flush()]) == whole


# -- noise -----------------------------------------------------------------------------------------------------------


def test_noise_is_that_of_the_seed_and_can_be_off(tmp_path: Any) -> None:
    codec = small_codec(torch.float32)
    codes = codec.encode(signal(1, 1, 480))
    save(codec, tmp_path)
    heard = {noise: load(tmp_path, noise=noise).decode(codes) for noise in (0, 1, "off")}
    assert torch.equal(heard[0], codec.decode(codes))
    assert not torch.equal(heard[0], heard[1])
    for noisy in (heard[0], heard[1]):
        assert 0.01 < (noisy - heard["off"]).std() / heard["off"].std() < 2
    # Both rows of a batch have the noise of their places, which are the same.
    double = codec.decode(Codes(codes.data.expand(2, -1, -1)))
    torch.testing.assert_close(double[:1], double[1:], rtol=0, atol=1e-6)


def test_no_noise_is_what_the_package_gives_without_its_noise_blocks() -> None:
    codec = small_codec(torch.float32, streamcodec_noise="off")
    assert codec.noise == "off"
    model, codes = package_model(codec), codec.encode(signal(1, 1, 480))
    with torch.no_grad():
        theirs = model.decode(codes.levels(codec.spec.levels))
    torch.testing.assert_close(codec.decode(codes), theirs, rtol=0, atol=1e-5)


def test_the_seed_is_saved_and_a_state_of_another_is_refused(tmp_path: Any) -> None:
    save(small_codec(torch.float32), tmp_path / "a")
    save(load(tmp_path / "a", noise=5), tmp_path / "b")
    again = load(tmp_path / "b")
    assert again.noise == 5
    state = again.open_decoder().save()
    assert load(tmp_path / "a", noise=5).open_decoder(state=state).batch == 1
    with pytest.raises(StateError, match="has the noise of 5, this codec that of 0"):
        load(tmp_path / "a").open_decoder(state=state)
    assert load(tmp_path / "a").fingerprint == again.fingerprint  # so codes made with one are decoded with the other


@pytest.mark.parametrize("noise", [-1, 1 << 31, 0.5, "on", True])
def test_what_is_no_seed_is_refused(tmp_path: Any, noise: Any) -> None:
    save(small_codec(torch.float32), tmp_path)
    with pytest.raises(ConfigError, match=r"streamcodec_noise is .*; it must be 'off' or a seed from 0 to 2147483647"):
        load(tmp_path, noise=noise)


def test_a_codec_without_noise_takes_no_seed(tmp_path: Any) -> None:
    save(small_codec(torch.float32, noise=False), tmp_path)
    with pytest.raises(InputError, match="makes up no noise; leave noise out"):
        load(tmp_path, noise=0)


# -- codes of three rates --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS[:3])
def test_stages_add_up_and_gradients_pass_straight_through(variant: dict[str, Any]) -> None:
    codec = small_codec(**variant)
    latents = codec.encode_latents(signal(2, 1, 200)).transpose(1, 2).detach().requires_grad_()
    quantizer = codec.quantizer
    for count in range(1, codec.spec.num_codebooks + 1):
        made, codes = quantizer.straight_through(latents, count), quantizer.encode(latents, count)
        assert torch.equal(made.codes, codes)
        assert torch.equal(codes, quantizer.encode_reference(latents, count))
        torch.testing.assert_close(made.latents, quantizer.decode(codes))
        torch.testing.assert_close(quantizer.stages(codes).sum(2), quantizer.decode(codes))
        assert made.looked_up.shape == made.entries.shape == (*codes.shape, 4)
    made.latents.sum().backward()
    assert latents.grad is not None
    assert latents.grad.abs().sum() > 0


def test_entries_of_length_0_are_looked_up_in_upstreams_order() -> None:
    codec = SnacCodec(SMALL).eval()
    codec.quantizer.set_codebooks(codec.quantizer.codebooks * (torch.arange(16) > 3)[None, :, None])
    wav = signal(1, 1, 300)
    assert torch.equal(
        codec.encode(wav).data[0], codec.quantizer.encode_reference(codec.encode_latents(wav).transpose(1, 2), 7)[0].T
    )


def test_levels_are_taken_apart_and_put_together() -> None:
    codec = small_codec()
    codes, counts = codec.encode(signal(2, 1, 100)), codec.spec.levels
    levels = codes.levels(counts)
    assert [level.shape for level in levels] == [(2, 5), (2, 10), (2, 20)]
    assert Codes.of_levels(levels, counts, 100) == codes
    assert Codes.of_levels([level.numpy() for level in levels[:2]], counts).data.shape == (2, 3, 5)
    assert len(Codes(codes.data[:, :3]).levels(counts)) == 2
    for wrong in (codes.data[:, :2], torch.cat([codes.data, codes.data], 1)):
        with pytest.raises(ShapeError, match=r"levels of \[1, 2, 4\]"):
            Codes(wrong).levels(counts)
    for bad in ([], [levels[1], levels[0]], [levels[0][0]], [levels[0], levels[1][:, 1:]], [*levels, levels[2]]):
        with pytest.raises(ShapeError, match=r"they must be \[B, 1 T\], \[B, 2 T\], \[B, 4 T\]"):
            Codes.of_levels(bad, counts)


def test_orpheus_tokens_are_decoded_as_they_come() -> None:
    """One token after the other, seven a frame; a conversation that is cut off is heard to its last token."""
    codec = small_codec(codebook_size=4096)
    codes = codec.encode(signal(1, 1, 24 * 12))
    pattern = tokens.preset("orpheus")
    writer, reader, decoder = pattern.writer(), pattern.reader(), codec.open_decoder()
    ids = torch.cat([torch.as_tensor(part) for part in (*writer.push(codes.data), *writer.finish())], -1)
    # By hand, as those who serve Orpheus do it: 0, 1, 2, 2, 1, 2, 2 of the three levels, each with an offset.
    coarse, middle, fine = codes.levels(codec.spec.levels)
    order = [coarse[0, 0], middle[0, 0], fine[0, 0], fine[0, 1], middle[0, 1], fine[0, 2], fine[0, 3]]
    first = [int(code) + 128266 + 4096 * place for place, code in enumerate(order)]
    body = ids[ids >= 128266].tolist()
    assert body[:7] == first
    audio = []
    for token in body[:-3]:  # cut off in the last frame
        (frames,) = reader.push([[token]])
        audio.append(decoder.push(torch.as_tensor(frames)[None]))
    (rest,) = reader.flush()
    audio += [decoder.push(torch.as_tensor(part)[None]) for part in tokens.leading(rest)]
    heard = torch.cat([*audio, decoder.flush()], 2)
    sure = 24 * 11 - codec.spec.decoder_delay  # what no sample of the last frame is heard in
    torch.testing.assert_close(heard[..., :sure], codec.decode(codes)[..., :sure], rtol=0, atol=1e-10)
    assert heard.shape[2] == 24 * 12


def test_the_command_line_files_the_wire_and_corpora_take_its_frames(tmp_path: Any, capsys: Any) -> None:
    """None of them knows of rates: a frame has seven codes."""
    codec = small_codec(torch.float32, sampling_rate=8000)
    save(codec, tmp_path / "codec")
    wav = 0.3 * signal(1, 1, 2000)
    soundfile.write(tmp_path / "in.wav", wav[0, 0].numpy(), 8000, "FLOAT")
    chosen = ["--codec", str(tmp_path / "codec"), "-q"]
    codes_file, out = str(tmp_path / "codes.safetensors"), str(tmp_path / "out.wav")
    assert main(["encode", str(tmp_path / "in.wav"), codes_file, *chosen]) == 0
    expected = codec.encode(wav)
    assert load_codes(codes_file) == expected
    assert main(["decode", codes_file, out, *chosen]) == 0
    heard = torch.from_numpy(soundfile.read(out, dtype="float32")[0])
    torch.testing.assert_close(heard, codec.decode(expected)[0, 0], rtol=0, atol=1e-4)
    assert main(["info", chosen[1]]) == 0
    assert "7 of 16 entries, in levels of 1, 2, 4" in capsys.readouterr().out
    message = packet.CodesMessage(0, 0, expected.data[0].numpy().astype("uint16"), 4)
    sent = packet.unpack(packet.drop_codebooks(packet.pack(message), codec.spec.bandwidth_codebooks[1]))
    assert sent.codes.tolist() == expected.data[0, :3].tolist()
    tokenize(tmp_path / "in.wav", tmp_path / "tokens", str(tmp_path / "codec"), processes=0)
    (item,) = TokenDataset(tmp_path / "tokens", codec=codec)
    assert item.codes == expected


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS[:2])
def test_the_packages_folder_is_read_and_saved_again(tmp_path: Any, variant: dict[str, Any]) -> None:
    """pytorch_model.bin, weight norm and all, beside a config.json without a model_type."""
    snac = pytest.importorskip("snac", reason="pip install --no-deps snac")
    torch.manual_seed(3)
    arguments = {name: value for name, value in (SMALL | variant).items() if name != "model_type"}
    model = snac.SNAC(**arguments).eval()
    (tmp_path / "snac").mkdir()
    torch.save(model.state_dict(), tmp_path / "snac" / "pytorch_model.bin")
    (tmp_path / "snac" / "config.json").write_text(json.dumps(arguments))
    codec = load(tmp_path / "snac")
    assert isinstance(codec, SnacCodec)
    wav = signal(1, 1, 300)
    with torch.no_grad():
        theirs = model.encode(wav)
    assert [level.tolist() for level in codec.encode(wav).levels(codec.spec.levels)] == [c.tolist() for c in theirs]
    save(codec, tmp_path / "again")
    again = load(tmp_path / "again")
    assert (again.config, again.fingerprint) == (codec.config, codec.fingerprint)


def test_a_file_without_its_configuration_says_what_it_needs(tmp_path: Any) -> None:
    torch.save(small_codec(torch.float32).to_huggingface()[1], tmp_path / "snac.bin")
    with pytest.raises(
        CheckpointError, match="a SNAC file of the snac package, but without sampling_rate, encoder_rat"
    ):
        load(tmp_path / "snac.bin")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"encoder_rates": [2, 1]}, r"encoder_rates is \[2, 1\]"),
        ({"encoder_rates": [2, 4]}, "both must multiply to the samples of a latent"),
        ({"decoder_dim": 6}, "must be a multiple of 4"),
        ({"codebook_size": 12}, "codebook_size is 12; it must be a power of 2"),
        ({"vq_strides": [4, 3]}, r"vq_strides is \[4, 3\]; each must divide"),
        ({"vq_strides": []}, "one a level"),
        ({"vq_strides": [4, 0]}, "must be positive"),
        ({"attn_window_size": 0}, "attn_window_size is 0"),
        ({"attn_window_size": 8}, "cannot be attended to in heads of 64"),
        ({"latent_dim": 17}, "latent_dim is 17; with the other sizes of this SNAC it must be 16"),
        ({"depthwise": 1}, "depthwise is 1; it must be a bool"),
    ],
)
def test_what_no_snac_is_is_refused(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        SnacCodec(SMALL | change)
