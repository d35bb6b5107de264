"""DAC: equal to transformers offline, streams equal to offline, and files that transformers reads."""

import math

import pytest
import torch
from dac_models import NARROW, PUBLISHED, bare, codec_of, noise, small_codec, transformers_model
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import cuts
from safetensors.torch import load_file

from streamcodec import Codes, codecs
from streamcodec.checkpoint import load, save
from streamcodec.codecs.dac import DacCodec, DacConfig
from streamcodec.errors import BandwidthError, CheckpointError, CodesError, ConfigError

FULL_SCALE = 1e-5
# Even and odd strides, first and last, alone and together: what is floored at the end depends on them.
RATIOS = [(2, 3), (3, 2), (5,), (2, 2, 3), (7, 5)]
small_codecs = st.sampled_from(RATIOS).map(small_codec)
sizes = st.lists(st.integers(0, 90) | st.integers(0, 7), max_size=12)


def lengths(codec: DacCodec) -> list[int]:
    """Samples around the edges of a frame, where upstream runs at all."""
    hop, short = codec.spec.hop_length, codec.spec.hop_length - codec.framing.decoder.output_length(1)
    return [2 * hop, 4 * hop - short - 1, 4 * hop - short, 4 * hop, 8 * hop + 1, 9 * hop - 1]


# -- offline -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_offline_equals_transformers(name):
    model = transformers_model(**PUBLISHED[name])
    single, double = bare(codec_of(model, torch.float32)), bare(codec_of(model))
    oracle64 = transformers_model(**PUBLISHED[name]).double()
    for samples in lengths(double):
        wav = noise(2, samples, samples)
        for bandwidth in (double.spec.bandwidths[0], double.spec.bandwidths[-1]):
            count = double.spec.codebooks(bandwidth)
            with torch.no_grad():
                expected = oracle64.encode(wav, n_quantizers=count).audio_codes
                decoded64 = oracle64.decode(audio_codes=expected).audio_values
                decoded = model.decode(audio_codes=expected).audio_values
            codes = double.encode(wav, bandwidth)
            assert torch.equal(codes.data, expected)
            assert codes.length == decoded.shape[1] <= samples
            assert decoded.std() > 0.05
            torch.testing.assert_close(double.decode(codes)[:, 0], decoded64, rtol=0, atol=1e-10)
            torch.testing.assert_close(single.decode(codes)[:, 0], decoded, rtol=0, atol=FULL_SCALE)
            torch.testing.assert_close(single.decode(expected)[:, 0], decoded, rtol=0, atol=FULL_SCALE)


def test_the_codebooks_are_in_use():
    """Else the comparisons of codes would compare little."""
    for name in ("16khz", "44khz 16kbps"):
        codec = codec_of(transformers_model(**PUBLISHED[name]))
        codes = codec.encode(noise(1, 60 * codec.spec.hop_length)).data
        assert all(len(stage.unique()) > 8 for stage in codes[0])


def test_frames_are_floored_as_upstreams_where_that_is_asked_for():
    codec = bare(codec_of(transformers_model(**PUBLISHED["16khz"])))
    for samples, frames in ((0, 0), (1, 0), (311, 0), (312, 1), (2561, 8), (2871, 8), (2872, 9), (2879, 9)):
        codes = codec.encode(noise(1, samples))
        assert codes.data.shape == (1, 12, frames)
        assert codes.length == max(0, 320 * frames - 8)
        assert codec.decode(codes).shape == (1, 1, codes.length)


@settings(max_examples=80)
@given(small_codecs, st.integers(0, 12) | st.integers(0, 150), st.integers(1, 2))
def test_a_recording_comes_back_whole(codec, samples, batch):
    """Its codes are the bare encoder's of the recording and zeros, in no more frames than it takes."""
    wav = noise(batch, samples, samples)
    codes = codec.encode(wav)
    hop, frames = codec.spec.hop_length, codes.data.shape[2]
    assert codes.length == samples
    assert codec.decode(codes).shape == (batch, 1, samples)
    if not samples:
        assert not frames
        return
    zeros = torch.nn.functional.pad(wav, (0, frames * hop - samples))
    assert torch.equal(codes.data, bare(codec).encode(zeros).data)
    assert min((frames - 1) * hop, codec.framing.decoder.output_length(frames - 1)) < samples


@pytest.mark.parametrize("name", ["16khz", "44khz"])
def test_codes_are_those_of_transformers_with_its_processor(name):
    """But at 16 and 24 kHz, where the processor's whole frames can leave up to 8 samples: there a frame is added."""
    from transformers import DacFeatureExtractor

    model = transformers_model(**PUBLISHED[name])
    codec, oracle = codec_of(model), transformers_model(**PUBLISHED[name]).double()
    hop = codec.spec.hop_length
    short = hop - codec.framing.decoder.output_length(1)
    assert short == (8 if name == "16khz" else 0)
    processor = DacFeatureExtractor(sampling_rate=codec.spec.sample_rate, hop_length=hop)
    for samples in (1, 100, hop - short, 2 * hop + 1, 3 * hop - short - 1, 3 * hop - short + 1, 3 * hop, 4 * hop - 9):
        wav = noise(1, samples, samples).float()
        heard = processor(wav[0, 0].numpy(), sampling_rate=codec.spec.sample_rate, return_tensors="pt")
        with torch.no_grad():
            expected = oracle.encode(heard["input_values"].double()).audio_codes
        codes = codec.encode(wav.double())
        added = int(0 < -(-samples // hop) * hop - samples + 1 <= short)
        assert codes.data.shape[2] == expected.shape[2] + added
        assert added or torch.equal(codes.data, expected)
        assert codec.decode(codes).shape[2] == codes.length == samples


def test_a_length_cuts_and_never_stretches():
    codec = small_codec((2, 3))
    codes = codec.encode(noise(1, 100))
    frames, whole = codes.data.shape[2], codec.decode(codes.data)
    assert whole.shape[2] == codec.framing.decoder.output_length(frames) >= codes.length == 100
    for length in (0, 1, codes.length - 1):
        assert torch.equal(codec.decode(Codes(codes.data, None, length)), whole[:, :, :length])
    assert torch.equal(codec.decode(Codes(codes.data, None, frames * codec.spec.hop_length)), whole)
    with pytest.raises(CodesError, match="stand for"):
        codec.decode(Codes(codes.data, None, frames * codec.spec.hop_length + 1))


def test_float32_codes_are_those_of_float64_nearly_always():
    codec, single = small_codec((2, 3), 8), small_codec((2, 3), 8, torch.float32)
    wav = noise(1, 6000)
    differ = codec.encode(wav).data != single.encode(wav).data
    assert differ.any(1).double().mean() < 0.01


# -- the spec ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hop", "frame_rate", "encoder_delay", "decoder_delay", "kbps"),
    [
        ("16khz", 320, 50.0, 2493, 3141, 6.0),
        ("24khz", 320, 75.0, 2493, 3141, 24.0),
        ("44khz", 512, 86.1328125, 3733, 4757, 7.752),
        ("44khz 16kbps", 512, 86.1328125, 3733, 4757, 15.504),
    ],
)
def test_the_published_models(name, hop, frame_rate, encoder_delay, decoder_delay, kbps):
    """Delays known from NaN propagation through the published architectures."""
    spec = DacCodec(NARROW | PUBLISHED[name] | {"codebook_size": 1024}).spec
    assert (spec.hop_length, spec.frame_rate, spec.channels) == (hop, frame_rate, 1)
    assert (spec.encoder_delay, spec.decoder_delay, spec.prefill_frames) == (encoder_delay, decoder_delay, 0)
    assert spec.default_bandwidth == spec.bandwidths[-1] == kbps
    assert spec.num_codebooks == PUBLISHED[name]["n_codebooks"]


@given(
    stages=st.integers(1, 64),
    rate=st.integers(8_000, 96_000) | st.sampled_from([16_000, 22_050, 24_000, 44_100, 48_000]),
    bits=st.integers(1, 4),
)
def test_every_bandwidth_buys_the_codebooks_that_it_is_named_for(stages, rate, bits):
    spec = DacCodec(
        DacConfig(2, (2, 4, 8), 8, n_codebooks=stages, codebook_size=2**bits, codebook_dim=1, sampling_rate=rate)
    ).spec
    assert [spec.codebooks(kbps) for kbps in spec.bandwidths] == list(range(1, stages + 1))
    for count, kbps in enumerate(spec.bandwidths, 1):
        assert abs(kbps - count * bits * rate / 64_000) <= 0.0005 + 1e-9
        assert float(f"{kbps:.3f}") == kbps
        assert spec.codebooks(float(f"{kbps:.3f}")) == count
    with pytest.raises(BandwidthError):
        spec.codebooks(spec.bandwidths[-1] + 1)


def test_a_wrong_hop_length_in_a_configuration_is_not_believed():
    """Published configurations for 16 and 24 kHz have said 512."""
    config = NARROW | PUBLISHED["24khz"] | {"hop_length": 512, "upsampling_ratios": [8, 5, 4, 2], "model_type": "dac"}
    codec = codecs.build(config, DacCodec(config).to_huggingface()[1], name="wrong")
    assert codec.spec.hop_length == 320
    assert codec.config["hop_length"] == 320


# -- streams -------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    small_codecs, st.integers(0, 40) | st.integers(0, 400), st.integers(1, 2), st.integers(1, 3), sizes, st.booleans()
)
def test_an_encoder_equals_encode(codec, samples, batch, count, pieces, whole):
    codec = codec if whole else bare(codec)
    wav, bandwidth = noise(batch, samples, samples), codec.spec.bandwidths[count - 1]
    encoder = codec.open_encoder(bandwidth, batch)
    parts = [*(encoder.push(wav[:, :, start:stop]) for start, stop in cuts(samples, pieces)), encoder.flush()]
    expected = codec.encode(wav, bandwidth)
    assert all(part.length >= 0 for part in parts)
    assert torch.equal(Codes.cat(parts).data, expected.data)
    assert Codes.cat(parts).length == expected.length
    assert expected.length == samples or not codec.pad
    # A live session: the pieces as they come, lengths and all.
    decoder = codec.open_decoder(batch)
    pcm = torch.cat([*(decoder.push(part) for part in parts), decoder.flush()], 2)
    torch.testing.assert_close(pcm, codec.decode(expected), rtol=0, atol=1e-10)


@settings(max_examples=60)
@given(
    small_codecs,
    st.integers(0, 40),
    st.integers(0, 34),
    st.booleans(),
    st.lists(st.integers(0, 9), max_size=9),
)
def test_a_decoder_equals_decode(codec, frames, short, bare, pieces):
    """Bare codes give all that upstream gives; a length cuts."""
    generator = torch.Generator().manual_seed(frames)
    data = torch.randint(16, (2, 3, frames), generator=generator)
    hop = codec.spec.hop_length
    length = None if bare else max(0, frames * hop - short % hop)
    decoder, parts = codec.open_decoder(2), []
    for start, stop in cuts(frames, pieces):
        before = codec.spec.samples(start)
        if length is None:
            parts.append(decoder.push(data[:, :, start:stop]))
        elif start == 0 or before < length:
            part = min(length, codec.spec.samples(stop)) - before
            parts.append(decoder.push(Codes(data[:, :, start:stop], None, part)))
    pcm = torch.cat([*parts, decoder.flush()], 2)
    expected = codec.decode(Codes(data, None, length))
    assert pcm.shape == expected.shape
    torch.testing.assert_close(pcm, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["16khz", "44khz"])
def test_the_published_strides_stream(name):
    codec = codec_of(transformers_model(**PUBLISHED[name]))
    hop = codec.spec.hop_length
    wav = noise(1, 21 * hop + 77)
    expected = codec.encode(wav)
    encoder, parts = codec.open_encoder(), []
    for start, stop in cuts(wav.shape[2], [1, 7, 10 * hop, hop - 3]):
        parts.append(encoder.push(wav[:, :, start:stop]))
    parts.append(encoder.flush())
    assert torch.equal(Codes.cat(parts).data, expected.data)
    decoder = codec.open_decoder()
    pcm = torch.cat([*(decoder.push(part) for part in parts), decoder.flush()], 2)
    torch.testing.assert_close(pcm, codec.decode(expected), rtol=0, atol=1e-10)


@settings(max_examples=30)
@given(small_codecs, st.integers(0, 300), st.integers(1, 40))
def test_codes_and_audio_come_as_soon_as_the_spec_says(codec, samples, piece):
    spec, wav = codec.spec, noise(1, samples)
    encoder, decoder, frames, given = codec.open_encoder(), codec.open_decoder(), 0, 0
    for start in range(0, samples, piece):
        codes = encoder.push(wav[:, :, start : start + piece])
        frames += codes.data.shape[2]
        given += decoder.push(codes).shape[2]
        assert frames == max(0, (min(samples, start + piece) - spec.encoder_delay) // spec.hop_length)
        assert given == max(0, frames * spec.hop_length - spec.decoder_delay)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(cut=st.integers(0, 200), pieces=st.lists(st.integers(0, 60), max_size=5))
def test_saved_streams_go_on_to_the_bit(dtype, cut, pieces):
    codec = small_codec((2, 3), 3, dtype)
    wav = noise(1, cut + 150)
    encoder, decoder = codec.open_encoder(), codec.open_decoder()
    first = encoder.push(wav[:, :, :cut])
    length = first.length or 0
    decoder.push(first)
    again, player = codec.open_encoder(state=encoder.save()), codec.open_decoder(state=decoder.save())
    ends = [(cut + start, cut + stop) for start, stop in cuts(150, pieces)]
    for codes, other in [(encoder.push(wav[:, :, a:b]), again.push(wav[:, :, a:b])) for a, b in ends] + [
        (encoder.flush(), again.flush())
    ]:
        assert torch.equal(codes.data, other.data)
        assert codes.length == other.length
        length += codes.length or 0
        assert torch.equal(decoder.push(codes), player.push(other))
    assert torch.equal(decoder.flush(), player.flush())
    assert length == cut + 150


def test_a_primed_start_is_an_exact_one():
    """Zero padding needs nothing of the signal, so there is nothing to wait for."""
    codec, wav = small_codec((5,)), noise(1, 200)
    encoder = codec.open_encoder(start="primed")
    codes = Codes.cat([encoder.push(wav), encoder.flush()])
    assert torch.equal(codes.data, codec.encode(wav).data)
    decoder = codec.open_decoder(start="primed")
    pcm = torch.cat([decoder.push(codes), decoder.flush()], 2)
    torch.testing.assert_close(pcm, codec.decode(codes), rtol=0, atol=1e-10)


def test_bandwidth_may_change_in_mid_stream():
    codec, wav = small_codec((2, 3)), noise(1, 600)
    full, encoder, frames = codec.encode(wav).data, codec.open_encoder(), 0
    for place, count in enumerate((1, 3, 2)):
        encoder.bandwidth = codec.spec.bandwidths[count - 1]
        codes = encoder.push(wav[:, :, 200 * place : 200 * (place + 1)]).data
        assert codes.shape[1] == count
        assert torch.equal(codes, full[:, :count, frames : frames + codes.shape[2]])
        frames += codes.shape[2]
    assert frames > 20


# -- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["24khz", "44khz 16kbps"])
@pytest.mark.parametrize("normed", [False, True])
def test_huggingface_directories_go_round(tmp_path, name, normed):
    from transformers import DacModel

    model = transformers_model(**PUBLISHED[name])
    wav = noise(1, 4000).float()
    with torch.no_grad():
        expected = model(wav)
    if normed:
        model.apply_weight_norm()
    model.save_pretrained(tmp_path / "first")
    assert any("original0" in key for key in load_file(tmp_path / "first" / "model.safetensors")) == normed
    codec = load(tmp_path / "first")
    assert isinstance(codec, DacCodec)
    assert codec.settings.latent_channels == model.config.hidden_size
    theirs, report = DacModel.from_pretrained(save(codec, tmp_path / "second"), output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    with torch.no_grad():
        actual = theirs.eval()(wav)
    assert (actual.audio_codes == expected.audio_codes).double().mean() > 0.99
    pcm = theirs.decode(audio_codes=expected.audio_codes).audio_values
    torch.testing.assert_close(codec.decode(expected.audio_codes)[:, 0], pcm, rtol=0, atol=FULL_SCALE)
    again = load(tmp_path / "second")
    assert again.config == codec.config
    for key, tensor in codec.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"downsampling_ratios": [2, 1]}, r"downsampling_ratios is \[2, 1\].*at least 2"),
        ({"downsampling_ratios": []}, "downsampling_ratios is .*at least one"),
        ({"downsampling_ratios": "24"}, "downsampling_ratios is '24'.*list"),
        ({"downsampling_ratios": [2, 2.5]}, r"2\.5.*whole numbers"),
        ({"upsampling_ratios": [2, 3]}, r"upsampling_ratios is \[2, 3\].*\[2, 3\], reversed"),
        ({"decoder_hidden_size": 6}, "decoder_hidden_size is 6.*multiple of 4"),
        ({"codebook_size": 20}, "codebook_size is 20.*power of 2"),
        ({"codebook_dim": 0}, "codebook_dim is 0.*positive"),
        ({"n_codebooks": 2.0}, r"n_codebooks is 2\.0.*whole number"),
        ({"n_codebooks": True}, "n_codebooks is True.*whole number"),
        ({"sampling_rate": None}, "sampling_rate is None"),
        ({"quantizer_dropout": "no"}, "quantizer_dropout is 'no'.*number"),
        ({"quantizer_dropout": math.nan}, "quantizer_dropout is nan"),
    ],
)
def test_configurations_that_cannot_be_run_are_refused(change, message):
    config, tensors = small_codec((2, 3)).to_huggingface()
    with pytest.raises(ConfigError, match=message):
        codecs.build(config | change, tensors, name="bad")


def test_weights_that_do_not_fit_are_named():
    config, tensors = small_codec((2, 3)).to_huggingface()
    names = {
        "encoder.conv1.weight": r"encoder\.conv1\.weight",
        "encoder.block.1.res_unit3.snake2.alpha": "snake2",
        "decoder.block.0.conv_t1.bias": "conv_t1",
        "quantizer.quantizers.2.out_proj.weight": "out_proj",
        "quantizer.quantizers.0.codebook.weight": "codebook",
    }
    for name, shown in names.items():
        rest = {key: tensor for key, tensor in tensors.items() if key != name}
        with pytest.raises(CheckpointError, match=f"missing .*{shown}.*; unexpected extra"):
            codecs.build(config, rest | {"extra": torch.zeros(1)}, name="bad")
        with pytest.raises(CheckpointError, match=f"{shown}.* has shape"):
            codecs.build(config, rest | {name: torch.zeros(5, 5, 5)}, name="bad")
