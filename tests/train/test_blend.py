from pathlib import Path

import pytest
import torch
from train_small import small

from streamcodec import load
from streamcodec.cli import main
from streamcodec.codecs.encodec import EncodecCodec
from streamcodec.errors import ConfigError
from streamcodec.train.blend import blend
from streamcodec.train.build import write_small


def made(seed: int, **codec: object) -> EncodecCodec:
    torch.manual_seed(seed)
    return EncodecCodec(small(codec=codec).codec_config())


def weights(codec: EncodecCodec) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in codec.parameters()])


def test_a_blend_lies_between_two_codecs_and_searches_its_own_codebooks() -> None:
    one, other = made(1), made(2)
    wanted = torch.lerp(weights(one), weights(other), 0.25)
    entries = torch.lerp(one.quantizer.codebooks, other.quantizer.codebooks, 0.25)
    between = blend(one, other, 0.25)
    torch.testing.assert_close(weights(between), wanted)
    torch.testing.assert_close(between.quantizer.codebooks, entries)
    first = between.quantizer.codebooks[0]
    assert torch.equal(between.quantizer.encode(first[None], 1)[0, :, 0], torch.arange(len(first)))


def test_the_ends_of_a_blend_are_the_two_codecs() -> None:
    one, other = made(1), made(2)
    before, after = weights(one), weights(other)
    assert torch.equal(weights(blend(one, other, 0.0)), before)
    assert torch.equal(weights(blend(one, other, 1.0)), after)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_beyond_the_two_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="from 0"):
        blend(made(1), made(2), share)


def test_codecs_of_two_shapes_are_refused_by_what_differs() -> None:
    with pytest.raises(ConfigError, match=r"num_filters \(2 and 4\)"):
        blend(made(1), made(2, num_filters=4), 0.5)


def test_the_command_writes_a_codec_that_loads(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_small(made(seed), tmp_path / str(seed))
    assert main(["train", "blend", str(tmp_path / "1"), str(tmp_path / "2"), str(tmp_path / "new")]) == 0
    wanted = blend(load(tmp_path / "1"), load(tmp_path / "2"), 0.5)
    torch.testing.assert_close(weights(load(tmp_path / "new")), weights(wanted), rtol=1e-3, atol=1e-4)
