"""Codecs with a semantic branch in training: the seam of `Networks`, and a whole run with a tiny speech model."""

from pathlib import Path

import pytest
import torch
from train_small import run_of, small

from streamcodec.checkpoint import load, save
from streamcodec.codecs.encodec import EncodecCodec
from streamcodec.codecs.semantic_codec import SemanticCodec
from streamcodec.codecs.semantic_model import SpeechModel
from streamcodec.train.build import export_run
from streamcodec.train.model import Networks


def _semantic() -> SemanticCodec:
    transformers = pytest.importorskip("transformers", reason="the semantic branch runs a speech model of transformers")
    torch.manual_seed(0)
    config = transformers.HubertConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(4, 4, 4, 4, 4, 4, 4),
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    acoustic = EncodecCodec(small().codec.to_huggingface())
    return SemanticCodec(acoustic, SpeechModel(transformers.HubertModel(config)), num_codebooks=4, codebook_size=16)


def _audio() -> torch.Tensor:
    return 0.1 * torch.randn(2, 3200, generator=torch.Generator().manual_seed(1))


def test_training_sees_what_the_codec_computes() -> None:
    codec, trained = _semantic(), Networks(_semantic(), torch.device("cpu"), bfloat16=False)
    with torch.no_grad():
        heard = trained.encode(_audio())
        output = codec(_audio()[:, None])
        torch.testing.assert_close(heard.values, output.latents, rtol=1e-4, atol=1e-5)
        quantised = codec.quantizer.decode(output.codes.transpose(1, 2))
        error = trained.decode(quantised) - output.audio[:, 0]
        assert error.norm() < 1e-5 * output.audio.norm()
        loss = trained.semantic(quantised, heard)
    assert loss is not None
    torch.testing.assert_close(loss, output.semantic_loss, rtol=1e-4, atol=1e-6)


def test_a_codec_without_a_speech_model_has_no_semantic_loss() -> None:
    networks = Networks(EncodecCodec(small().codec.to_huggingface()), torch.device("cpu"), bfloat16=False)
    heard = networks.encode(_audio())
    assert networks.semantic(heard.values, heard) is None


def test_the_speech_model_stays_as_it_is_and_the_rest_learns() -> None:
    networks = Networks(_semantic(), torch.device("cpu"), bfloat16=False)
    assert not [name for name in networks.parameters if "speech" in name]
    heard = networks.encode(_audio())
    loss = networks.semantic(heard.values, heard)
    assert loss is not None
    loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for n, p in networks.parameters.items() if "fc1" in n)
    codec = networks.codec
    assert isinstance(codec, SemanticCodec)
    assert all(parameter.grad is None for parameter in codec.speech.parameters())


@pytest.mark.slow
def test_a_semantic_codec_is_trained_resumed_and_exported(recordings: Path, tmp_path: Path) -> None:
    save(_semantic(), tmp_path / "start")
    sections = {"codec": {"init_from": str(tmp_path / "start")}, "quantizer": {"books": [2, 4]}}
    run = run_of(recordings, tmp_path / "run", **sections, run={"steps": 3})
    figures = []
    for update in run.updates():
        figures.append(update)
        if len(figures) == 2:
            run.stop()
    figures += run_of(recordings, tmp_path / "run", **sections, run={"steps": 3}).updates()
    assert len(figures) == 3
    assert all(row["semantic"] > 0 for row in figures)
    before, after = load(tmp_path / "start"), load(export_run(tmp_path / "run", tmp_path / "codec"))
    assert isinstance(after, SemanticCodec)
    assert not torch.equal(after.fc.weight, before.fc.weight)
    codes = after.encode(_audio()[:, None])
    assert after.decode(codes).shape == (2, 1, 3200)
