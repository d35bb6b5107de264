"""Mimi: equal to transformers' and moshi's, streams equal to offline past the reach of attention, files, refusals."""

import json
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mimi_models import SMALL, codec_of, small_codec, transformers_model
from oracles import cuts, signal
from safetensors.torch import save_file
from torch import Tensor

from streamcodec import Codes
from streamcodec.checkpoint import load, save
from streamcodec.codecs.mimi import MimiCodec, MimiConfig
from streamcodec.codecs.mimi_original import for_moshi
from streamcodec.errors import CheckpointError, ConfigError, StateError
from streamcodec.nn.conv import ConvTranspose1d

VARIANTS: list[dict[str, Any]] = [
    {},
    {"sliding_window": 2},
    {"num_semantic_quantizers": 2, "num_residual_layers": 2, "use_conv_shortcut": True},
    {"upsampling_ratios": (4,), "head_dim": 4, "sliding_window": 300, "num_hidden_layers": 1},
]
small_codecs = st.sampled_from(VARIANTS).map(lambda variant: small_codec(**variant))
sizes = st.lists(st.integers(0, 90) | st.integers(0, 7), max_size=12)
samples_of_any_length = st.integers(0, 20) | st.integers(0, 500)


# -- offline ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("samples", [1, 11, 12, 13, 500])
def test_it_gives_what_transformers_gives(variant: dict[str, Any], samples: int) -> None:
    codec = small_codec(torch.float32, **variant)
    model, wav = transformers_model(codec), signal(2, 1, samples)
    with torch.no_grad():
        torch.testing.assert_close(codec.encode_latents(wav), model.encoder(wav).latents, rtol=0, atol=1e-5)
        codes = model.encode(wav).audio_codes
        assert torch.equal(codec.encode(wav).data, codes)
        theirs = model.decode(codes).audio_values
    torch.testing.assert_close(codec.decode(codes), theirs, rtol=0, atol=1e-5)
    assert samples < 500 or theirs.std() > 0.05


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_any_number_of_codebooks_is_that_of_transformers(count: int) -> None:
    codec = small_codec(torch.float32)
    model, wav = transformers_model(codec), signal(1, 1, 240)
    with torch.no_grad():
        codes = model.encode(wav, num_quantizers=count).audio_codes
        theirs = model.decode(codes).audio_values
    assert torch.equal(codec.encode(wav, num_codebooks=count).data, codes)
    torch.testing.assert_close(codec.decode(codes), theirs, rtol=0, atol=1e-5)


def test_a_folder_that_transformers_wrote_is_read() -> None:
    from transformers import MimiConfig as TheirConfig
    from transformers import MimiModel

    torch.manual_seed(0)
    config = {name: value for name, value in SMALL.items() if name != "model_type"} | {"upsampling_ratios": [3, 2]}
    model = MimiModel(TheirConfig(**config)).eval()
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith(("embed_sum", "cluster_usage")):
                buffer.copy_(torch.rand_like(buffer) + (0 if name.endswith("sum") else 0.5))
    codec, wav = codec_of(model), signal(1, 1, 240)
    with torch.no_grad():
        codes = model.encode(wav).audio_codes
        assert torch.equal(codec.encode(wav).data, codes)
        torch.testing.assert_close(codec.decode(codes), model.decode(codes).audio_values, rtol=0, atol=1e-6)


# -- streams ---------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(small_codecs, samples_of_any_length, st.integers(1, 2), st.data(), sizes, st.sampled_from(["exact", "primed"]))
def test_streams_equal_the_offline_calls(
    codec: MimiCodec, samples: int, batch: int, data: Any, pieces: list[int], start: Any
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


@given(small_codecs, st.integers(1, 300), st.integers(0, 299))
def test_copied_and_saved_streams_go_on_to_the_bit(codec: MimiCodec, samples: int, at: int) -> None:
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


def test_tokens_of_a_frame_depend_on_no_sample_after_its_end() -> None:
    codec = small_codec()
    wav = signal(1, 1, 240)
    changed = wav.clone()
    changed[..., 120:] = signal(1, 1, 120, seed=9)
    assert torch.equal(codec.encode(wav).data[..., :10], codec.encode(changed).data[..., :10])
    assert codec.spec.encoder_delay == codec.spec.decoder_delay == codec.spec.prefill_frames == 0
    stream = codec.open_encoder()
    assert [stream.push(wav[..., i : i + 1]).data.shape[2] for i in range(24)] == ([0] * 11 + [1]) * 2


def test_a_push_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and values are written in place, but as the last act of a step."""
    codec = small_codec()
    wav = signal(1, 1, 360)
    stream, twin = codec.open_encoder(), codec.open_encoder()
    for one in (stream, twin):
        one.push(wav[..., :180])
    before = stream._core.transducer.state.bytes.clone()
    with monkeypatch.context() as patched:
        patched.setattr(torch, "matmul", lambda *_: (_ for _ in ()).throw(RuntimeError("no memory")))
        with pytest.raises(RuntimeError, match="no memory"):
            stream.push(wav[..., 180:])
    assert torch.equal(stream._core.transducer.state.bytes, before)
    assert stream.push(wav[..., 180:]) == twin.push(wav[..., 180:])


def test_published_sizes_say_their_delay_and_memory() -> None:
    settings_ = MimiConfig()
    assert (settings_.hop_length, settings_.head_size) == (1920, 64)
    assert settings_.bandwidth(8) == 1.1
    # Two rings of 249 rows of 512 values in each of eight layers, and the rows of convolutions.
    small = small_codec(torch.float32)
    rings = 2 * 2 * 5 * 16 * 4
    assert rings < small.spec.encoder_bytes < 4 * rings


# -- files -----------------------------------------------------------------------------------------------------------


def moshis_names(codec: MimiCodec, older: bool) -> dict[str, Tensor]:
    """The weights under the names of the moshi package, rotary pairs side by side as it has them."""
    heads, named = codec.settings.num_attention_heads, {}
    tensors, seanet = codec.to_huggingface()[1], codec.decoder.layers[2].layers
    parts = {"self_attn_layer_scale": "layer_scale_1", "mlp_layer_scale": "layer_scale_2", "mlp.fc1": "linear1"}
    parts |= {"mlp.fc2": "linear2", "input_layernorm": "norm1", "post_attention_layernorm": "norm2"}
    for name, tensor in tensors.items():
        half, *_ = name.split(".")
        if "_proj.weight" in name and "self_attn" in name:
            continue
        if half in ("encoder", "decoder"):
            place = name.split(".layers.")[1].removesuffix(name[name.rindex(".conv.") :])
            transposed = half == "decoder" and isinstance(seanet[int(place.split(".")[0])], ConvTranspose1d)
            middle = "convtr.convtr" if transposed else "conv.conv"
            named[f"{half}.model.{place}.{middle}.{name.rsplit('.', 1)[1]}"] = tensor
        elif half == "downsample":
            named["downsample.conv.conv.conv.weight"] = tensor
        elif half == "upsample":
            named["upsample.convtr.convtr.convtr.weight"] = tensor
        elif half == "quantizer":
            new = name.replace("semantic_residual_vector_quantizer", "rvq_first")
            new = new.replace("acoustic_residual_vector_quantizer", "rvq_rest").replace(".layers.", ".vq.layers.")
            for ours, theirs in (("embed_sum", "embedding_sum"), ("initialized", "_initialized")):
                new = new.replace(f"codebook.{ours}", f"codebook.{theirs}")
            named[new.replace(".codebook.", "._codebook.")] = tensor
        else:
            new = name.replace("_transformer.layers", "_transformer.transformer.layers")
            for ours, theirs in parts.items():
                new = new.replace(f".{ours}.", f".{theirs}.")
            named[new] = tensor
    for half in ("encoder", "decoder"):
        for layer in range(codec.settings.num_hidden_layers):
            path = f"{half}_transformer.layers.{layer}.self_attn"
            query, key = (
                tensors[f"{path}.{part}_proj.weight"].unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)
                for part in "qk"
            )
            joined = torch.cat([query, key, tensors[f"{path}.v_proj.weight"]])
            path = path.replace(".layers", ".transformer.layers")
            named[f"{path}.{'in_proj_weight' if older else 'in_projs.0.weight'}"] = joined
            out = tensors[f"{half}_transformer.layers.{layer}.self_attn.o_proj.weight"]
            named[f"{path}.{'out_proj' if older else 'out_projs.0'}.weight"] = out
    return {name: tensor.contiguous() for name, tensor in named.items()}


@pytest.mark.parametrize("older", [False, True], ids=["now", "older"])
def test_a_file_in_moshis_names_is_the_same_codec(tmp_path: Any, older: bool) -> None:
    codec, wav = small_codec(torch.float32), signal(1, 1, 300)
    save_file(moshis_names(codec, older), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    again = load(tmp_path)
    named = moshis_names(codec, older)
    back = for_moshi(named, codec.to_huggingface()[1], codec.settings.num_attention_heads)
    assert all(torch.equal(back[name], tensor) for name, tensor in named.items())
    assert torch.equal(again.encode(wav).data, codec.encode(wav).data)
    torch.testing.assert_close(again.decode(again.encode(wav)), codec.decode(codec.encode(wav)), rtol=0, atol=1e-6)
    (tmp_path / "config.json").unlink()
    (tmp_path / "model.safetensors").rename(tmp_path / "tokenizer.safetensors")
    with pytest.raises(CheckpointError, match="not the published model: it has hidden_size 16, num_filters 4"):
        load(tmp_path / "tokenizer.safetensors")


def test_an_unknown_entry_of_a_moshi_file_is_named(tmp_path: Any) -> None:
    named = moshis_names(small_codec(torch.float32), False) | {"quantizer.rvq_first.more": torch.zeros(1)}
    save_file(named, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    with pytest.raises(CheckpointError, match=r"unknown entry 'quantizer\.rvq_first\.more'"):
        load(tmp_path)


@pytest.mark.slow
def test_the_moshi_package_gives_the_same_at_published_size(tmp_path: Any) -> None:
    pytest.importorskip("moshi", reason="pip install --no-deps moshi sentencepiece")
    from moshi.models import loaders

    torch.manual_seed(0)
    model = loaders.get_mimi(None, num_codebooks=8)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("scale"):
                tensor.copy_(0.1 * torch.randn_like(tensor))
            elif name.endswith("cluster_usage"):
                tensor.copy_(0.5 + torch.rand_like(tensor))
            elif name.endswith("embedding_sum"):
                tensor.copy_(torch.randn_like(tensor))
            elif tensor.ndim > 1:
                tensor.copy_(torch.randn_like(tensor) * (1.4 / tensor[0].numel()) ** 0.5)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, tmp_path / "t.safetensors")
    codec, wav = load(tmp_path / "t.safetensors"), 0.3 * signal(1, 1, 1920 * 140)  # 280 rows: past the window
    assert codec.spec.codebooks(codec.spec.default_bandwidth) == 8
    with torch.no_grad():
        codes = model.encode(wav)
        assert (codec.encode(wav).data == codes).double().mean() > 0.99
        theirs = model.decode(codes)
    scale = float(theirs.abs().max())
    torch.testing.assert_close(codec.decode(codes), theirs, rtol=0, atol=1e-5 * max(1.0, scale))


def test_what_is_saved_comes_back_to_the_bit(tmp_path: Any) -> None:
    codec = small_codec(torch.float32)
    save(codec, tmp_path)
    again = load(tmp_path)
    assert isinstance(again, MimiCodec)
    assert (again.config, again.fingerprint) == (codec.config, codec.fingerprint)


def test_anothers_state_is_refused() -> None:
    saved = small_codec().open_encoder().save()
    with pytest.raises(StateError):
        small_codec(sliding_window=2).open_encoder(state=saved)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"use_causal_conv": False}, "use_causal_conv is False"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"num_key_value_heads": 1}, "num_key_value_heads is 1; with the other sizes of this Mimi it must be 2"),
        ({"frame_rate": 25.0}, "frame_rate is 25.0"),
        ({"num_semantic_quantizers": 4}, "num_semantic_quantizers is 4"),
        ({"rope_parameters": {"rope_type": "linear"}}, "rope_type is 'linear'"),
        ({"num_attention_heads": 3}, "3 heads must divide it"),
        ({"sliding_window": "6"}, "sliding_window is '6'; it must be a whole number"),
        ({"sliding_window": 1}, "2 are the least"),
        ({"streamcodec_default_codebooks": 9}, "there are 4"),
    ],
)
def test_what_no_mimi_is_is_refused(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        MimiCodec(SMALL | change)


# -- what every quantizer and codec does -------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3])
def test_stages_add_up_and_gradients_pass_straight_through(count: int) -> None:
    codec = small_codec(num_semantic_quantizers=2)
    latents = codec.encode_latents(signal(2, 1, 120)).transpose(1, 2).detach().requires_grad_()
    quantizer = codec.quantizer
    made = quantizer.straight_through(latents, count)
    codes = quantizer.encode(latents, count)
    assert torch.equal(made.codes, codes)
    torch.testing.assert_close(made.latents, quantizer.decode(codes))
    torch.testing.assert_close(quantizer.stages(codes).sum(2), quantizer.decode(codes))
    made.latents.sum().backward()
    assert torch.equal(latents.grad, torch.ones_like(latents))
    nearest = torch.cdist(made.looked_up.transpose(1, 2), quantizer.codebooks[None, :count]).argmin(3)
    assert torch.equal(nearest.transpose(1, 2), codes)


def test_rows_of_unequal_length_and_pieces_give_what_each_gives_alone() -> None:
    codec = small_codec()
    wavs = [signal(1, 1, samples, samples)[0].double() for samples in (300, 5, 0, 121)]
    alone = [codec.encode(wav[None]) for wav in wavs]
    for together in (codec.encode(wavs), codec.encode(wavs, chunk_seconds=0.1)):
        assert all(torch.equal(one.data, other.data) for one, other in zip(together, alone, strict=True))
    pcm = codec.decode(alone)
    for one, other in zip(pcm, alone, strict=True):
        torch.testing.assert_close(one, codec.decode(other), rtol=0, atol=1e-10)
