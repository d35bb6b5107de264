"""Networks that begin as a transform codec."""

import copy

import pytest
import torch
from torch import Tensor

from streamcodec.codecs.encodec import EncodecCodec
from streamcodec.errors import ConfigError
from streamcodec.train import transform
from streamcodec.train.config import parse_settings
from streamcodec.train.transform import start_as_transform

# 240 kbps: frames of 6 samples cost 40 kbps a codebook.
SMALL = {"start": "transform", "target_bandwidths": [240.0], "default_bandwidth": 240.0}


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels so small that ELUs are straight."""
    monkeypatch.setattr(transform, "LOUDEST", 1e-8)


def started(audio: Tensor, **sizes: object) -> EncodecCodec:
    settings = parse_settings({"codec": {**SMALL, **sizes}})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        codec = EncodecCodec(settings.codec.to_huggingface())
    codec = codec.double()
    start_as_transform(codec.encoder, codec.decoder, audio, 24_000)
    return codec


def noise(seed: int, rows: int = 2, samples: int = 960) -> Tensor:
    """Noise that falls towards high frequencies, as audio does, at unit level."""
    white = torch.randn(rows, samples, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    brown = white.clone()
    for i in range(1, samples):
        brown[:, i] += 0.9 * brown[:, i - 1]
    return brown / brown.std()


@pytest.mark.usefixtures("quiet")
def test_all_coefficients_give_the_audio_itself() -> None:
    codec = started(noise(0), upsampling_ratios=[2, 3], num_filters=8, hidden_size=12)
    audio = noise(1)
    with torch.no_grad():
        given = codec.decoder(codec.encoder(audio[..., None]))[..., 0]
    torch.testing.assert_close(given, audio, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("shortcut", [True, False])
@pytest.mark.parametrize("lstm_layers", [1, 2])
def test_fewer_coefficients_give_the_low_frequencies_of_each_frame(shortcut: bool, lstm_layers: int) -> None:
    sizes = {"use_conv_shortcut": shortcut, "num_lstm_layers": lstm_layers, "num_residual_layers": 2}
    codec = started(noise(0), upsampling_ratios=[2, 3, 4], num_filters=8, hidden_size=20, **sizes)
    audio = noise(1)
    with torch.no_grad():
        latents = codec.encoder(audio[..., None])
        given = codec.decoder(latents)[..., 0].reshape(-1, 24)
    place = (torch.arange(24, dtype=torch.float64) + 0.5) * torch.pi / 24
    basis = torch.cos(torch.arange(10)[:, None] * place)
    basis /= basis.norm(dim=1, keepdim=True)
    frames = audio.reshape(-1, 24)
    torch.testing.assert_close(given, frames @ basis.T @ basis, rtol=0, atol=1e-6)
    # A latent is its coefficient times a number of its own.
    ratio = latents[..., :10].reshape(-1, 10) / (frames @ basis.T)
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-4, atol=0)


def test_at_the_levels_of_training_little_is_bent() -> None:
    codec = started(noise(0), upsampling_ratios=[2, 3], num_filters=8, hidden_size=12)
    for level, bent in ((0.1, 0.02), (1.0, 0.08), (5.0, 0.2)):
        audio = level * noise(1)
        with torch.no_grad():
            given = codec.decoder(codec.encoder(audio[..., None]))[..., 0]
        gain = (given * audio).sum() / audio.square().sum()
        assert 0.5 < gain < 1.5
        assert float((given - gain * audio).std() / audio.std()) < bent
        # Odd: the other sign is bent alike.
        with torch.no_grad():
            negative = codec.decoder(codec.encoder(-audio[..., None]))[..., 0]
        torch.testing.assert_close(negative, -given)


def test_rounding_is_that_of_the_signal() -> None:
    """A codec has to give the same codes however its sums are ordered; offsets would make them coarse."""
    codec = started(noise(0), upsampling_ratios=[2, 3, 4], num_filters=8, hidden_size=20)
    audio = noise(1)[..., None]
    with torch.no_grad():
        exact = codec.encoder(audio)
        rounded = copy.deepcopy(codec).float().encoder(audio.float())
    assert float((rounded - exact).std() / exact.std()) < 1e-6


def test_what_adds_nothing_yet_learns() -> None:
    codec = started(noise(0), upsampling_ratios=[2, 3], num_filters=8, hidden_size=12)
    before = {name: value.clone() for name, value in codec.named_parameters()}
    optimizer = torch.optim.SGD(codec.parameters(), lr=1e-6)
    losses = []
    # A branch that ends in zeros moves from the second update on.
    for _ in range(3):
        audio = noise(1)
        given = codec.decoder(codec.encoder(audio[..., None]))[..., 0]
        loss = (given - torch.roll(audio, 1, 1)).square().mean()
        losses.append(float(loss))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[2] < losses[0]
    for name, value in codec.named_parameters():
        if name.startswith(("encoder", "decoder")):
            assert not torch.equal(value, before[name]), name


def test_the_other_latents_follow_the_energies_of_bands() -> None:
    rng = torch.Generator().manual_seed(0)
    loud = torch.rand(16, 40, 1, generator=rng, dtype=torch.float64).expand(-1, -1, 24).reshape(16, 960)
    heard = 2 * loud * noise(2, 16)
    codec = started(heard, upsampling_ratios=[2, 3, 4], num_filters=8, hidden_size=20)
    with torch.no_grad():
        latents = codec.encoder(heard[..., None])
    energies = heard.reshape(16, -1, 24).square().mean(2).add(1e-6).log()
    found = torch.corrcoef(torch.stack([*latents[..., 10:].flatten(0, 1).T, energies.flatten()]))[-1, :-1]
    waves = torch.corrcoef(torch.stack([*latents[..., :10].flatten(0, 1).T, energies.flatten()]))[-1, :-1]
    assert found.min() > 0.2
    assert waves.abs().max() < 0.1
    power = latents.square().mean((0, 1))
    torch.testing.assert_close(power[10:].sum(), power[:10].sum(), rtol=1e-3, atol=0)


def test_one_channel_holds_no_pair() -> None:
    with pytest.raises(ConfigError, match="num_filters is 1"):
        parse_settings({"codec": {"start": "transform", "num_filters": 1}})
    audio = noise(1)
    codec = started(noise(0), upsampling_ratios=[2, 3], num_filters=2, hidden_size=3)
    with torch.no_grad():
        assert codec.decoder(codec.encoder(audio[..., None])).isfinite().all()


def test_what_has_no_transform_is_refused() -> None:
    for sizes in ({"use_causal_conv": False}, {"start": "cosine"}, {"pad_mode": "reflect"}):
        with pytest.raises(ConfigError, match=r"codec\.start"):
            parse_settings({"codec": {"start": "transform", **sizes}})
