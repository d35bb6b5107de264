"""Updates centred on the means of channels."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from train_small import run_of

from streamcodec.codecs.encodec import EncodecCodec
from streamcodec.train.centring import Centring, constant_channel
from streamcodec.train.config import parse_settings
from streamcodec.train.transform import start_as_transform

SMALL = {"upsampling_ratios": [2, 3], "num_filters": 8, "hidden_size": 12, "target_bandwidths": [40.0]}


def made(**sizes: object) -> EncodecCodec:
    settings = parse_settings({"codec": {**SMALL, "default_bandwidth": 40.0, **sizes}})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        codec = EncodecCodec(settings.codec.to_huggingface()).double()
    start_as_transform(codec.encoder, codec.decoder, audio(0), 24_000)
    return codec


def audio(seed: int) -> Tensor:
    return torch.randn(2, 240, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def centred(codec: EncodecCodec) -> Centring:
    centring = Centring([codec.encoder, codec.decoder])
    with torch.no_grad(), centring.measuring():
        codec.decoder(codec.encoder(audio(0)[..., None]))
    return centring


def backward(codec: EncodecCodec) -> None:
    given = codec.decoder(codec.encoder(audio(1)[..., None]))[..., 0]
    (given - audio(1).roll(1, 1)).square().mean().backward()


def update(codec: EncodecCodec, centring: Centring, optimizer: torch.optim.Optimizer) -> None:
    backward(codec)
    centring.gradients()
    before = centring.before()
    optimizer.step()
    centring.after(before)
    optimizer.zero_grad()


def reparametrised(weight: Tensor, mean: Tensor, constant: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Free weights V, and the map to W with W x = V (x - mean) where x[constant] = 1; axis 1: inputs."""
    shape = (-1, *(1,) * (weight.ndim - 2))

    def to_weight(free: Tensor) -> Tensor:
        taken = (free * mean.view(shape)).sum(1, keepdim=True)
        return free.index_add(1, torch.tensor([constant]), -taken)

    free = weight.index_add(1, torch.tensor([constant]), (weight * mean.view(shape)).sum(1, keepdim=True))
    torch.testing.assert_close(to_weight(free), weight)
    return free, to_weight


@pytest.mark.parametrize("lstm_layers", [1, 2])
def test_an_update_is_one_of_weights_on_centred_inputs(lstm_layers: int) -> None:
    codec = made(num_lstm_layers=lstm_layers)
    centring = centred(codec)
    assert len(centring.readers) == 2 * (2 + 2 + 1) + 1 + 1  # strided, residual, LSTM; first of neither half
    assert all(mean.abs().max() > 1 for mean in centring.means)
    backward(codec)
    held = {id(parameter) for parameter, _, _ in centring.frozen}
    wanted = []
    for (_, weight, constant), mean in zip(centring.readers, centring.means, strict=True):
        free, to_weight = reparametrised(weight.detach(), mean, constant)
        free.requires_grad_()
        (gradient,) = torch.autograd.grad((to_weight(free) * weight.grad).sum(), free)
        wanted.append(to_weight(free.detach() - 0.1 * gradient))
    centring.gradients()
    before = centring.before()
    torch.optim.SGD(codec.parameters(), lr=0.1).step()
    centring.after(before)
    for (_, weight, _), expected in zip(centring.readers, wanted, strict=True):
        if id(weight) in held:  # all but what keeps constant channels
            same = (weight.detach() - expected).abs() < 1e-9
            assert same.double().mean() > 0.8
        else:
            torch.testing.assert_close(weight.detach(), expected, rtol=0, atol=1e-9)


def test_constant_channels_stay_constant() -> None:
    codec = made(num_lstm_layers=2, num_residual_layers=2, use_conv_shortcut=True)
    centring = centred(codec)
    optimizer = torch.optim.AdamW(codec.parameters(), lr=1e-3, weight_decay=0.1)
    seen: list[Tensor] = []
    for reader in centring.readers:
        reader.module.register_forward_pre_hook(lambda _, x, i=reader.constant: seen.append(x[0][..., i]))
    for _ in range(5):
        update(codec, centring, optimizer)
    assert len(seen) == 5 * len(centring.readers)
    for channel in seen:
        assert torch.equal(channel, torch.ones_like(channel))


def test_offsets_do_not_drown_what_channels_say() -> None:
    """Away from centred updates the mean output of a layer runs away with a step; with them it moves by its bias."""
    moved = []
    for centring in (None, centred):
        codec = made()
        first = codec.encoder.chain[2 + 1]  # the first strided convolution
        assert isinstance(first, nn.Module)
        mean = centred(codec).means[1].clone().double()
        mean[centred(codec).readers[1].constant] = 1
        old = torch.einsum("i,kio->o", mean, first.weight)
        optimizer = torch.optim.Adam(codec.parameters(), lr=1e-3)
        update(codec, centring(codec) if centring else Centring([]), optimizer)
        moved.append(float((torch.einsum("i,kio->o", mean, first.weight) - old).abs().max()))
    assert moved[0] > 5 * moved[1]


def test_networks_without_constant_channels_are_left_alone() -> None:
    settings = parse_settings({"codec": {**SMALL, "default_bandwidth": 40.0}})
    codec = EncodecCodec(settings.codec.to_huggingface())
    assert not any(constant_channel(module) is not None for module in codec.modules())
    centring = Centring([codec.encoder, codec.decoder])
    assert not centring.readers
    assert not centring.frozen


def test_a_resumed_run_is_centred_as_before(recordings: Path, tmp_path: Path) -> None:
    sections = {"codec": {"start": "transform"}, "loss": {"envelope": 1.0}}
    whole = run_of(recordings, tmp_path / "whole", **sections)
    wanted = [dict(figures) for figures in whole.updates()]
    part = run_of(recordings, tmp_path / "part", **sections)
    got = []
    for figures in part.updates():
        got.append(dict(figures))
        if len(got) == 4:
            part.stop()
    rest = run_of(recordings, tmp_path / "part", **sections)
    assert rest.trainer.centring.readers
    got += [dict(figures) for figures in rest.updates()]
    assert got == wanted
