"""X-Codec: equal to transformers offline; its decoder streams exactly, its encoder as the declared window says."""

import dataclasses
import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import cuts
from safetensors.torch import load_file

pytest.importorskip("transformers", reason="X-Codec's speech model comes from transformers")

from xcodec_models import KINDS, SPEECH, codec_of, double, noise, small_codec, transformers_model

from streamcodec import Codes, codecs
from streamcodec.checkpoint import load, save
from streamcodec.codecs import SemanticWindow
from streamcodec.codecs.xcodec import XcodecCodec
from streamcodec.errors import CheckpointError, ConfigError, InputError, NonFiniteError, StateError
from streamcodec.install import how_to_install

FULL_SCALE = 1e-5
WINDOWS = [SemanticWindow(), SemanticWindow(3, 2, 2), SemanticWindow(0, 0, 1), SemanticWindow(5, 0, 4)]
HOP = 12  # samples a frame of `small_codec`
kinds = st.sampled_from(KINDS)
windows = st.sampled_from(WINDOWS)
lengths = st.integers(0, 40) | st.integers(0, 700)
sizes = st.lists(st.integers(0, 200) | st.integers(0, 15), max_size=12)


# -- offline -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_offline_equals_transformers_at_every_length(kind):
    """Every residue where the branches agree, disagree by a frame (80..311 beyond whole frames), and agree again."""
    model = transformers_model(kind)
    codec, single, oracle = codec_of(model), codec_of(model, torch.float32), double(transformers_model(kind))
    residues = [0, 1, 39, 79, 80, 81, 159, 160, 161, 240, 311, 312, 313, 319]
    for samples in [*(80 + 23 * i for i in range(11)), *(320 * 5 + residue for residue in residues)]:
        wav = noise(2, samples, samples)
        lost = 0 < samples % 320 < 80  # here upstream drops samples; by default a frame with zeros is added
        codec.pad = True
        assert codec.encode(wav).data.shape[2] == (samples + 240) // 320 + lost
        assert codec.encode(wav).length == samples
        codec.pad = not lost
        for bandwidth in (None, codec.spec.bandwidths[0]):
            with torch.no_grad():
                expected = oracle.encode(wav, bandwidth).audio_codes
                decoded = oracle.decode(expected).audio_values
            codes = codec.encode(wav, bandwidth)
            assert torch.equal(codes.data, expected), samples
            assert codes.length == min(samples, decoded.shape[2])
            torch.testing.assert_close(codec.decode(expected), decoded, rtol=0, atol=1e-10)
            torch.testing.assert_close(single.decode(expected).double(), decoded, rtol=0, atol=FULL_SCALE)
        with torch.no_grad():
            forward = oracle(wav)
        assert torch.equal(forward.audio_codes, codec.encode(wav).data)
        torch.testing.assert_close(forward.audio_values, codec.decode(codec.encode(wav)), rtol=0, atol=1e-10)


def test_signals_that_upstream_cannot_take_give_no_frame_where_they_are_not_padded():
    codec = codec_of(transformers_model("hubert"))
    for samples in (0, 1, 79):
        codes = codec.encode(noise(2, samples))
        assert (codes.data.shape, codes.length) == ((2, 4, int(samples > 0)), samples)
        assert torch.equal(
            codes.data, codec.encode(torch.nn.functional.pad(noise(2, samples), (0, -samples % 320))).data
        )
        assert codec.decode(codes).shape == (2, 1, samples)
    codec.pad = False
    for samples in (0, 1, 79):
        codes = codec.encode(noise(2, samples))
        assert (codes.data.shape, codes.length) == ((2, 4, 0), 0)
        assert codec.decode(codes).shape == (2, 1, 0)


def test_the_codebooks_are_in_use_and_float32_agrees():
    """Else the comparisons of codes would compare little."""
    for kind in KINDS:
        codes = small_codec(kind).encode(noise(1, 300 * HOP)).data
        assert all(len(stage.unique()) > 8 for stage in codes[0])
        differ = codes != small_codec(kind, torch.float32).encode(noise(1, 300 * HOP)).data
        assert differ.any(1).double().mean() < 0.02


def test_int16_input_is_scaled():
    codec = small_codec("hubert")
    pcm = torch.randint(-9000, 9000, (1, 1, 400), dtype=torch.int16)
    assert torch.equal(codec.encode(pcm).data, codec.encode(pcm.double() / 32768).data)


# -- the spec ------------------------------------------------------------------------------------------------------


def test_the_published_numbers():
    """Delays known from NaN propagation through the published acoustic architecture; they depend on no width."""
    acoustic = {"encoder_hidden_size": 1, "decoder_hidden_size": 16, "hidden_size": 2}
    spec = XcodecCodec({"acoustic_model_config": acoustic, "semantic_model_config": SPEECH}).spec
    assert (spec.sample_rate, spec.hop_length, spec.frame_rate, spec.channels) == (16_000, 320, 50.0, 1)
    assert (spec.encoder_delay, spec.decoder_delay, spec.prefill_frames) == (8734, 3141, 0)
    assert (spec.num_codebooks, spec.codebook_size) == (8, 1024)
    assert spec.bandwidths == (0.5, 1, 1.5, 2, 4)
    assert [spec.codebooks(kbps) for kbps in spec.bandwidths] == [1, 2, 3, 4, 8]
    assert spec.default_bandwidth == 4
    assert spec.semantic_window == SemanticWindow(100, 11, 10)


def test_the_default_window_is_the_largest_that_costs_no_delay():
    codec = codec_of(transformers_model("hubert"))
    window = codec.spec.semantic_window
    assert codec.windowed_delay() == codec.spec.encoder_delay == 8734
    assert codec.windowed_delay(dataclasses.replace(window, right=window.right + 1)) == 8960


@pytest.mark.slow
@pytest.mark.parametrize("window", [*WINDOWS, SemanticWindow(3, 40, 2)])
def test_codes_come_as_soon_as_the_delay_says(window):
    codec = small_codec("hubert")
    encoder, frames, latest = codec.open_encoder(window=window), 0, 0
    for sample in range(80 * HOP):
        new = encoder.push(noise(1, 1, sample)).data.shape[2]
        if new:
            latest = max(latest, sample + 1 - (frames + 1) * HOP)
        frames += new
    assert latest == codec.windowed_delay(window)


def test_memory_stays_within_what_the_spec_says():
    codec = small_codec("hubert")
    encoder = codec.open_encoder()
    for _ in range(60):
        encoder.push(noise(1, 100))
        tensors, _ = encoder._core.save()
        held = sum(tensor.untyped_storage().nbytes() for name, tensor in tensors.items())
        assert held <= codec.spec.encoder_bytes
    assert held > codec.spec.encoder_bytes / 2


# -- streams -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=40)
@given(kinds, windows, lengths, st.integers(1, 2), st.integers(0, 2), sizes)
def test_an_encoder_equals_encode_windowed(kind, window, samples, batch, place, pieces):
    codec = small_codec(kind)
    wav, bandwidth = noise(batch, samples, samples), codec.spec.bandwidths[place]
    encoder = codec.open_encoder(bandwidth, batch, window=window)
    parts = [*(encoder.push(wav[:, :, start:stop]) for start, stop in cuts(samples, pieces)), encoder.flush()]
    expected = codec.encode_windowed(wav, bandwidth, window)
    assert torch.equal(Codes.cat(parts).data, expected.data)
    assert all(part.length >= 0 for part in parts)
    assert sum(part.length for part in parts) == expected.length == samples
    assert expected.data.shape == (batch, codec.spec.codebooks(bandwidth), -(-samples // HOP))


@given(kinds, st.integers(0, 60), st.sampled_from([1, 7, 60]))
def test_a_window_over_the_whole_signal_is_the_offline_run(kind, frames, hop):
    codec, wav = small_codec(kind), noise(2, frames * HOP, frames)
    codes = codec.encode_windowed(wav, window=SemanticWindow(60, 60, hop))
    assert torch.equal(codes.data, codec.encode(wav).data)


@given(kinds, windows, st.integers(1, 40))
def test_the_windows_are_what_they_are_said_to_be(kind, window, frames):
    """The features of each hop: those of the offline speech model on that slice of samples and no other."""
    codec, wav = small_codec(kind), noise(1, frames * HOP, frames)
    features = []
    for start in range(0, frames, window.hop):
        begin, end = max(0, start - window.left), min(frames, start + window.hop + window.right)
        heard = codec.features(wav[:, :, begin * HOP : end * HOP].transpose(1, 2))
        assert heard.shape[1] == end - begin
        features.append(heard[:, start - begin :][:, : window.hop])
    with torch.no_grad():
        semantic = codec.encoder_semantic(torch.cat(features, 1))
        latents = codec.fc(torch.cat([codec.encoder(wav.transpose(1, 2)), semantic], 2))
        codes = codec.quantizer.encode(latents, 4).transpose(1, 2)
    assert torch.equal(codec.encode_windowed(wav, window=window).data, codes)


def test_another_window_gives_other_codes():
    """Else equality between window and stream would say little."""
    codec, wav = small_codec("hubert"), noise(1, 200 * HOP)
    full, short = (codec.encode_windowed(wav, window=window).data for window in (SemanticWindow(200, 200), WINDOWS[1]))
    assert 0.05 < (full != short).double().mean() < 0.95


@given(kinds, st.integers(0, 60), st.integers(1, 2), st.integers(1, 4), sizes, st.integers(0, 11))
def test_a_decoder_equals_decode(kind, frames, batch, count, pieces, short):
    codec = small_codec(kind)
    data = torch.randint(0, 16, (batch, count, frames), generator=torch.Generator().manual_seed(frames))
    length = max(0, frames * HOP - short)
    decoder, given_so_far, parts = codec.open_decoder(batch), 0, []
    for start, stop in cuts(frames, pieces):
        here = min(length, stop * HOP) - given_so_far
        given_so_far += max(0, here)
        parts.append(decoder.push(Codes(data[:, :, start:stop], None, max(0, here))))
    parts.append(decoder.flush())
    expected = codec.decode(Codes(data, None, length))
    assert expected.shape[2] == length
    torch.testing.assert_close(torch.cat(parts, 2), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=12)
@given(kind=kinds, window=windows, cut=st.integers(0, 600), pieces=sizes)
def test_saved_streams_go_on_to_the_bit(dtype, kind, window, cut, pieces):
    codec = small_codec(kind, dtype)
    wav = noise(2, cut + 300, cut)
    encoder = codec.open_encoder(codec.spec.bandwidths[1], 2, window=window)
    encoder.push(wav[:, :, :cut])
    again = codec.open_encoder(state=encoder.save())
    assert (again.window, again.bandwidth, again.batch) == (window, codec.spec.bandwidths[1], 2)
    for start, stop in cuts(300, pieces):
        mine, theirs = (stream.push(wav[:, :, cut + start : cut + stop]) for stream in (encoder, again))
        assert torch.equal(mine.data, theirs.data)
        assert mine.length == theirs.length
    assert torch.equal(encoder.flush().data, again.flush().data)


def test_a_primed_start_is_an_exact_one():
    codec, wav = small_codec("wavlm"), noise(1, 500)
    encoder = codec.open_encoder(start="primed")
    assert torch.equal(Codes.cat([encoder.push(wav), encoder.flush()]).data, codec.encode_windowed(wav).data)


def test_bandwidth_may_change_in_mid_stream():
    codec, wav = small_codec("hubert"), noise(1, 1200)
    full, encoder, frames = codec.encode_windowed(wav).data, codec.open_encoder(), 0
    for place, bandwidth in enumerate((0, 2, 1)):
        encoder.bandwidth = codec.spec.bandwidths[bandwidth]
        codes = encoder.push(wav[:, :, 400 * place : 400 * (place + 1)]).data
        assert codes.shape[1] == codec.spec.codebooks(encoder.bandwidth)
        assert torch.equal(codes, full[:, : codes.shape[1], frames : frames + codes.shape[2]])
        frames += codes.shape[2]
    assert frames > 60


def test_a_refused_push_leaves_the_stream_usable():
    codec, wav = small_codec("hubert"), noise(1, 700)
    encoder = codec.open_encoder()
    parts = [encoder.push(wav[:, :, :333])]
    bad = wav[:, :, :100].clone()
    bad[0, 0, 50] = math.nan
    with pytest.raises(NonFiniteError):
        encoder.push(bad)
    parts += [encoder.push(wav[:, :, 333:]), encoder.flush()]
    assert torch.equal(Codes.cat(parts).data, codec.encode_windowed(wav).data)


@pytest.mark.parametrize("value", [{"left": -1}, {"right": 1.5}, {"hop": 0}, {"hop": True}, {"left": 6000}])
def test_windows_that_cannot_be_are_refused(value):
    with pytest.raises(InputError, match="window"):
        SemanticWindow(**value)


def test_states_of_other_windows_and_damaged_ones_are_refused():
    codec = small_codec("hubert")
    encoder = codec.open_encoder(window=WINDOWS[1])
    encoder.push(noise(1, 500))
    state = encoder.save()
    with pytest.raises(StateError, match=r"window=.*cannot go on"):
        codec.open_encoder(state=state, window=WINDOWS[2])
    with pytest.raises(StateError, match="other weights"):
        small_codec("wavlm").open_encoder(state=state)
    tensors, numbers = encoder._core.save()
    core = codec.encoder_core(1, "exact", WINDOWS[1])
    before = core.save()
    for change in ({"start": numbers["start"] + 1}, {"start": numbers["start"] + 8}, {"received": 10**9}):
        with pytest.raises(StateError):
            core.load(tensors, numbers | change)
    for name in ("pcm", "waiting.1", "acoustic.pending", "semantic.state.0.history"):
        for wrong in (torch.zeros(1, 999, 1), None):
            changed = {key: tensor for key, tensor in tensors.items() if key != name}
            with pytest.raises(StateError):
                core.load(changed if wrong is None else changed | {name: wrong}, numbers)
    with pytest.raises(StateError):
        core.load(tensors | {"more": torch.zeros(1)}, numbers)
    after = core.save()
    assert after[1] == before[1]
    assert all(torch.equal(after[0][name], tensor) for name, tensor in before[0].items())


def test_other_codecs_have_no_window():
    from oracles import small_codec as encodec

    with pytest.raises(InputError, match="no speech model"):
        encodec().open_encoder(window=SemanticWindow())


# -- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_huggingface_directories_go_round(tmp_path, kind):
    from transformers import XcodecModel

    model = transformers_model(kind)
    wav = noise(1, 9_600).float()
    with torch.no_grad():
        expected = model(wav)
    model.save_pretrained(tmp_path / "first")
    assert any("original0" in key for key in load_file(tmp_path / "first" / "model.safetensors"))
    codec = load(tmp_path / "first")
    assert isinstance(codec, XcodecCodec)
    assert (codec.encode(wav).data == expected.audio_codes).double().mean() > 0.98
    theirs, report = XcodecModel.from_pretrained(save(codec, tmp_path / "second"), output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    with torch.no_grad():
        actual = theirs.eval()(wav)
    assert (actual.audio_codes == expected.audio_codes).double().mean() > 0.98
    pcm = theirs.decode(expected.audio_codes).audio_values
    torch.testing.assert_close(codec.decode(expected.audio_codes), pcm, rtol=0, atol=FULL_SCALE)
    again = load(tmp_path / "second")
    assert again.config == codec.config
    assert again.fingerprint == codec.fingerprint


@pytest.mark.parametrize("spelling", ["plain", "old"])
def test_weight_norm_is_read_in_every_spelling(spelling):
    codec = small_codec("hubert", torch.float32)
    config, tensors = codec.to_huggingface()
    from streamcodec.checkpoint import weights

    prefix = "semantic_model.encoder.pos_conv_embed.conv"
    g, v = (tensors.pop(f"{prefix}.parametrizations.weight.original{i}") for i in (0, 1))
    if spelling == "plain":
        tensors[f"{prefix}.weight"] = torch._weight_norm(v, g, 2)
    else:
        tensors |= {f"{prefix}.weight_g": g, f"{prefix}.weight_v": v}
    again = codecs.build(config, weights.plain(tensors, "test"), name="again")
    assert again.fingerprint == codec.fingerprint


def test_the_mask_embedding_may_be_there_or_not():
    config, tensors = small_codec("hubert").to_huggingface()
    plain = {name: tensor for name, tensor in tensors.items() if "parametrizations" not in name}
    prefix = "semantic_model.encoder.pos_conv_embed.conv"
    g, v = (tensors[f"{prefix}.parametrizations.weight.original{i}"] for i in (0, 1))
    plain[f"{prefix}.weight"] = torch._weight_norm(v, g, 2)
    del plain["semantic_model.masked_spec_embed"]
    codecs.build(config, plain, name="without")
    config["semantic_model_config"] |= {"mask_time_prob": 0.0}
    codecs.build(config, plain | {"semantic_model.masked_spec_embed": torch.zeros(16)}, name="with one more")


@pytest.mark.parametrize(
    "name", ["acoustic_encoder.conv1.weight", "encoder_semantic.conv_blocks.1.res_units.0.conv2.weight", "fc1.bias"]
)
def test_weights_that_do_not_fit_are_named(name):
    config, tensors = small_codec("hubert").to_huggingface()
    rest = {key: tensor for key, tensor in tensors.items() if key != name}
    with pytest.raises(CheckpointError, match=f"missing .*{name}.*unexpected extra"):
        codecs.build(config, rest | {"extra": torch.zeros(1)}, name="bad")
    with pytest.raises(CheckpointError, match=f"{name} has shape"):
        codecs.build(config, rest | {name: torch.zeros(5, 5, 5)}, name="bad")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_bandwidths": []}, "target_bandwidths is .*list of numbers"),
        ({"target_bandwidths": [2, 1]}, "must ascend"),
        ({"target_bandwidths": [0.001]}, "pays for no codebook"),
        ({"codebook_size": "16"}, "codebook_size is '16'.*whole number"),
        ({"codebook_dim": 5}, "codebook_dim is 5"),
        ({"channel_ratios": [1, 2]}, r"channel_ratios end at 2"),
        ({"kernel_size": 4}, "kernel_size is 4.*even"),
        ({"strides": [1]}, "one of each per block"),
        ({"strides": [1, 2]}, "stride"),
        ({"block_dilations": "11"}, "block_dilations is '11'"),
        ({"acoustic_model_config": 3}, "acoustic_model_config is 3"),
        ({"acoustic_model_config": {"upsampling_ratios": [4, 4]}}, "must multiply to"),
        (
            {"acoustic_model_config": {"downsampling_ratios": [4, 5], "upsampling_ratios": [4, 5]}},
            "speech model's stride",
        ),
        ({"semantic_model_config": {"model_type": "bert"}}, "model_type is 'bert'; supported are"),
        ({"semantic_model_config": {"model_type": "hubert", "hidden_size": 7}}, "cannot be run|cannot be read"),
        ({"semantic_model_config": {"model_type": "hubert", "hidden_size": "x"}}, "cannot be read|cannot be run"),
        ({"semantic_model_config": {"model_type": ["hubert"]}}, "model_type is"),
    ],
)
def test_configurations_that_cannot_be_run_are_refused(change, message):
    config = small_codec("hubert").to_huggingface()[0]
    merged = {key: config[key] | value if isinstance(value, dict) else value for key, value in change.items()}
    with pytest.raises(ConfigError, match=message):
        XcodecCodec(config | merged)


def test_a_configuration_cannot_choose_code_to_run():
    """Of the speech model's configuration only the model's own fields are taken."""
    config = small_codec("hubert").to_huggingface()[0]
    hostile = {
        "auto_map": {"AutoModel": "x--y.Z"},
        "attn_implementation": "someone/kernels",
        "_attn_implementation": "x",
    }
    config["semantic_model_config"] |= hostile
    codec = XcodecCodec(config)
    assert not hostile.keys() & codec.config["semantic_model_config"].keys()
    assert codec.speech.model.config._attn_implementation != "someone/kernels"


def test_without_transformers_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ConfigError, match=re.escape(how_to_install("xcodec"))):
        XcodecCodec({})


# -- the published sizes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_published_models_have_our_shapes(kind):
    """Names and shapes of the five published checkpoints: XcodecConfig's defaults with either base speech model."""
    from transformers import XcodecConfig as Theirs
    from transformers import XcodecModel

    with torch.device("meta"):
        theirs = XcodecModel(Theirs(semantic_model_config={"model_type": kind})).state_dict()
        ours = XcodecCodec({"semantic_model_config": {"model_type": kind}}).to_huggingface()[1]
    wanted = {name: tuple(tensor.shape) for name, tensor in theirs.items()}
    assert {name: tuple(tensor.shape) for name, tensor in ours.items()} == wanted
