"""What holds of the streams of every family: rows of a batch, and a state that another process takes up."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import dac_models
import higgs_models
import mimi_models
import pocket_tts_models
import pytest
import qwen_tts_models
import snac_models
import spectral_models
import torch
from oracles import signal, small_codec
from safetensors.torch import load_file, save_file
from torch import Tensor

from streamcodec import Codec, Codes, save
from streamcodec.codecs.lyra import LyraCodec


def lyra() -> Codec:
    torch.manual_seed(3)
    return LyraCodec().double().eval()


FAMILIES: dict[str, Callable[[], Codec]] = {
    "dac": lambda: dac_models.small_codec((2, 3)),
    "encodec": small_codec,
    "higgs": higgs_models.small_codec,
    "lyra": lyra,
    "mimi": mimi_models.small_codec,
    "pocket tts": pocket_tts_models.small_codec,
    "qwen3-tts": qwen_tts_models.small_codec,
    "snac": snac_models.small_codec,
    "spectral": spectral_models.small_codec,
}


def made(name: str) -> Codec:
    if name == "higgs":
        pytest.importorskip("transformers", reason="the speech model comes from transformers")
    return FAMILIES[name]()


def pushed(encoder: Any, decoder: Any, pieces: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """The codes, or latents where there are none, and the audio of streams to their end."""
    parts = [*map(encoder.push, pieces), encoder.flush()]
    audio = torch.cat([*map(decoder.push, parts), decoder.flush()], 2)
    return Codes.cat(parts).data if isinstance(parts[0], Codes) else torch.cat(parts, 2), audio


def streams(codec: Codec, batch: int = 1) -> tuple[Any, Any]:
    if codec.spec.num_codebooks:
        return codec.open_encoder(batch=batch), codec.open_decoder(batch)
    return codec.open_latent_encoder(batch), codec.open_latent_decoder(batch)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_row_of_a_batch_gives_what_it_gives_alone(name: str) -> None:
    """transformers' issue 43377 is the fault to avoid."""
    codec = made(name)
    pieces = signal(3, codec.spec.channels, 9 * codec.spec.hop_length + 5).split(codec.spec.hop_length * 2 + 3, 2)
    between, audio = pushed(*streams(codec, 3), pieces)
    for row in range(3):
        alone = pushed(*streams(codec), [piece[row : row + 1] for piece in pieces])
        torch.testing.assert_close(between[row : row + 1], alone[0], rtol=0, atol=1e-10)
        torch.testing.assert_close(audio[row : row + 1], alone[1], rtol=0, atol=1e-10)


ELSEWHERE = """
    import sys, streamcodec, torch
    from pathlib import Path
    from safetensors.torch import load_file, save_file
    torch.set_num_threads(1)
    for folder in Path().iterdir():
        codec = streamcodec.load(folder / "codec")
        encode, decode = codec.open_encoder, codec.open_decoder
        if not codec.spec.num_codebooks:
            encode, decode = codec.open_latent_encoder, codec.open_latent_decoder
        encoder, decoder = (opened(state=(folder / opened.__name__).read_bytes()) for opened in (encode, decode))
        parts = [encoder.push(load_file(folder / "rest")["wav"]), encoder.flush()]
        audio = [*map(decoder.push, parts), decoder.flush()]
        between = torch.cat([getattr(part, "data", part) for part in parts], 2)
        save_file({"between": between.contiguous(), "audio": torch.cat(audio, 2)}, folder / "found")
"""


@pytest.mark.slow
def test_states_are_saved_by_one_process_and_taken_up_by_another(tmp_path: Path) -> None:
    expected = {}
    for name in FAMILIES:
        codec, folder = deepcopy(made(name)).float(), tmp_path / name  # others share it
        save(codec, folder / "codec")
        at = 4 * codec.spec.hop_length + 1
        wav = signal(1, codec.spec.channels, 2 * at).float()
        encoder, decoder = streams(codec)
        decoder.push(encoder.push(wav[..., :at]))
        way = "open_" if codec.spec.num_codebooks else "open_latent_"
        (folder / f"{way}encoder").write_bytes(encoder.save())
        (folder / f"{way}decoder").write_bytes(decoder.save())
        rest = wav[..., at:].contiguous()
        save_file({"wav": rest}, folder / "rest")
        expected[name] = pushed(encoder, decoder, [rest])
    command = [sys.executable, "-c", textwrap.dedent(ELSEWHERE)]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=240, env=dict(os.environ))
    for name, (between, audio) in expected.items():
        found = load_file(tmp_path / name / "found")
        assert torch.equal(found["between"], between), name
        assert torch.equal(found["audio"], audio), name
