"""DAC's architecture in training: it learns in seconds, and transformers reads what is exported."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from train_small import run_of, small
from transformers import DacModel

from streamcodec import Codes
from streamcodec.checkpoint import load
from streamcodec.codecs.dac import DacCodec
from streamcodec.errors import ConfigError
from streamcodec.nn.factorised import FactorisedQuantizer
from streamcodec.train.build import export_run
from streamcodec.train.factorised import FactorisedLearner
from streamcodec.train.loop import Run
from streamcodec.train.model import Networks, install

SIZES = {
    "encoder_hidden_size": 4,
    "decoder_hidden_size": 32,
    "downsampling_ratios": [4, 5, 8],
    "n_codebooks": 4,
    "codebook_dim": 4,
}
CODEC = {"architecture": "dac", "codebook_size": 64}
BANDS = [0.0, 0.1, 0.25, 0.5, 0.75, 1.0]  # DAC's


def dac_run(source: Path, folder: Path, **sections: dict[str, Any]) -> Run:
    return run_of(source, folder, codec=CODEC, dac=SIZES, **sections)


@pytest.fixture(scope="module")
def run(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished training, with discriminators as DAC has them; `heard` are its figures."""
    judges = {"windows": [256], "filters": 2, "alone": 2, "chance": 0.5, "bands": BANDS}
    judges |= {"periods": [2, 5], "period_filters": 1}
    learning = {"run": {"steps": 40}, "optimizer": {"learning_rate": 4e-3}, "discriminator": judges}
    made = dac_run(recordings, tmp_path_factory.mktemp("dac"), loss={"mel": 6.0}, **learning)
    made.heard = list(made.updates())
    return made


def test_it_learns_in_seconds(run: Run) -> None:
    assert isinstance(run.trainer.networks.codec, DacCodec)
    assert run.trainer.quantised
    mel = [figures["mel"] for figures in run.heard]
    assert sum(mel[-10:]) / 10 < 0.6 * mel[0], (mel[0], mel[-10:])
    assert all(math.isfinite(value) for figures in run.heard for value in figures.values())
    assert any("adversarial" in figures for figures in run.heard)


def test_the_projections_learn_and_every_codebook_is_used(run: Run) -> None:
    fresh = DacCodec(run.trainer.networks.codec.config).quantizer
    assert {name for name in run.trainer.parameters if name.startswith("quantizer.")} == {
        f"quantizer.{name}" for name, _ in fresh.named_parameters()
    }
    audio = run.trainer.crops.batch(0, 0, range(8))
    with torch.no_grad():
        codes = run.trainer.learner(run.trainer.networks.encode(audio).values, torch.full((8,), 4)).codes
    assert min(len(stage.unique()) for stage in codes) > 3, [len(stage.unique()) for stage in codes]
    weights = run.trainer.parameters  # which began as the same directions, down and up again
    assert not torch.allclose(weights["quantizer.in_weight"], weights["quantizer.out_weight"].mT, atol=1e-3)


def test_the_export_gives_the_same_codes_here_and_in_transformers(run: Run, tmp_path: Path) -> None:
    folder = export_run(run.folder, tmp_path / "codec")
    ours, theirs = load(folder, pad=False), DacModel.from_pretrained(folder).eval()
    wav = 0.1 * torch.randn(1, 1, 6400, generator=torch.Generator().manual_seed(0))
    codes = ours.encode(wav, num_codebooks=4)
    with torch.no_grad():
        expected = theirs.encode(wav).audio_codes
        audio = theirs.decode(audio_codes=expected).audio_values
    assert (codes.data == expected).float().mean() > 0.98  # near ties, in float32
    decoded = ours.decode(Codes(expected, None, codes.length))
    torch.testing.assert_close(decoded[:, 0], audio[:, : codes.length], rtol=1e-4, atol=1e-5)


def test_training_goes_on_from_it_and_resumes(run: Run, recordings: Path, tmp_path: Path) -> None:
    folder = export_run(run.folder, tmp_path / "codec")
    more = run_of(recordings, tmp_path / "more", codec={"init_from": str(folder)}, run={"steps": 2})
    assert more.trainer.quantised
    assert torch.equal(more.trainer.learner.codebooks, load(folder).quantizer.codebooks)
    assert len(list(more.updates(1e-9))) == 1
    again = run_of(recordings, tmp_path / "more", codec={"init_from": str(folder)}, run={"steps": 2})
    assert again.trainer.step_count == 1
    assert len(list(again.updates())) == 1


def test_training_sees_what_the_codec_computes() -> None:
    torch.manual_seed(0)
    codec, same = (DacCodec(small(codec=CODEC, dac=SIZES).codec_config()) for _ in range(2))
    same.load_state_dict(codec.state_dict())
    trained = Networks(same, torch.device("cpu"), bfloat16=False)
    audio = 0.3 * torch.randn(2, 3200, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        latents = codec.encoder(audio[..., None])
        torch.testing.assert_close(trained.encode(audio).values, latents, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(trained.decode(latents), codec.decoder(latents)[..., 0], rtol=1e-4, atol=1e-5)
    install(same, trained.parameters, codec.quantizer.codebooks)
    torch.testing.assert_close(same.decoder(latents), codec.decoder(latents), rtol=1e-4, atol=1e-5)


def _learner(generator: torch.Generator) -> tuple[FactorisedLearner, FactorisedQuantizer, torch.Tensor]:
    torch.manual_seed(2)
    quantizer = FactorisedQuantizer(3, 16, 2, 6)
    z = torch.randn(2, 100, 6, generator=generator) * torch.tensor([3.0, 2.0, 1.0, 0.5, 0.2, 0.1]) + 1
    learner = FactorisedLearner(quantizer)
    learner.start(z.flatten(0, 1), generator)
    quantizer.set_codebooks(learner.codebooks)
    return learner, quantizer, z


def test_what_is_learnt_is_what_the_quantizer_computes_and_the_start_is_good() -> None:
    learner, quantizer, z = _learner(torch.Generator().manual_seed(3))
    learnt, theirs = learner(z, torch.tensor([3, 3])), quantizer.straight_through(z, 3)
    assert torch.equal(learnt.codes.view(3, 2, 100).permute(1, 2, 0), theirs.codes)
    torch.testing.assert_close(learnt.latents, theirs.latents, rtol=1e-4, atol=1e-5)
    errors = [(learner(z, torch.full((2,), n)).latents - z).square().mean() for n in (1, 2, 3)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[0] < 0.4 * z.var()
    mixed = learner(z, torch.tensor([1, 3])).latents
    assert torch.equal(mixed[1], learnt.latents[1])
    assert torch.equal(mixed[0], learner(z, torch.tensor([1, 1])).latents[0])


def test_gradients_are_those_of_the_quantizers_straight_through() -> None:
    learner, quantizer, z = _learner(torch.Generator().manual_seed(4))
    z.requires_grad_()
    back = torch.randn(z.shape, generator=torch.Generator().manual_seed(5))
    wanted = torch.autograd.grad(quantizer.straight_through(z, 3).latents, [z, *quantizer.parameters()], back)
    given = torch.autograd.grad(learner(z, torch.tensor([3, 3])).latents, [z, *quantizer.parameters()], back)
    for one, other in zip(given, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_commitment_pulls_what_is_looked_up_to_the_entry_at_any_scale() -> None:
    learner, quantizer, z = _learner(torch.Generator().manual_seed(6))
    z.requires_grad_()
    result = learner(z, torch.tensor([3, 3]))
    (pull,) = torch.autograd.grad(result.commitment, z)
    with torch.no_grad():
        assert learner(z - 0.05 * pull / pull.abs().max(), torch.tensor([3, 3])).commitment < result.commitment
        for parameter in (quantizer.in_weight, quantizer.in_bias):
            parameter.mul_(8)
        quantizer.out_weight.div_(8)
        learner.begin(8 * learner.codebooks, z.flatten(0, 1))
        torch.testing.assert_close(learner(z, torch.tensor([3, 3])).commitment, result.commitment)


def test_mistakes_are_told() -> None:
    for sections, message in (
        ({"codec": CODEC | {"audio_channels": 2}}, "with the architecture dac; it must be 1"),
        ({"codec": CODEC | {"start": "transform"}}, "is for a mono encodec"),
        ({"discriminator": {"bands": [0.0, 0.5]}}, "must rise from 0 to 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            small(**sections)
