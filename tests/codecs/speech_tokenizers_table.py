"""Prints how the tokenizers of speech models compare at published sizes.

``PYTHONPATH=tests python tests/codecs/speech_tokenizers_table.py``

Random weights, the same on both sides, and noise of moving level. Qwen3-TTS against the package ``qwen-tts``, Pocket
TTS and Higgs Audio v2 against transformers; streams against the offline calls. All in float32, with the differences
over the largest value.
"""

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import higgs_models
import mimi_models
import pocket_tts_models
import qwen_tts_models
import torch
from oracles import compare_codes, cuts, signal
from torch import Tensor

from streamcodec import Codes
from streamcodec.bench.presets import PRESETS, make
from streamcodec.codecs.pocket_tts import PocketTtsCodec
from streamcodec.codecs.qwen_tts import QwenTtsCodec

SECONDS = 2


class Line(NamedTuple):
    """A difference is the largest over the largest value; codes: how many were compared, and how many differ."""

    what: str
    value: str


def apart(ours: Tensor, theirs: Tensor) -> str:
    return f"{float((ours - theirs).abs().max() / theirs.abs().max()):.1e}"


def streamed(stream: Any, given: Tensor, sizes: list[int]) -> list[Any]:
    pieces = cuts(given.shape[2], sizes * (given.shape[2] // sum(sizes)))
    return [*(stream.push(given[..., first:stop]) for first, stop in pieces), stream.flush()]


def qwen() -> Iterator[Line]:
    codec = make(PRESETS["qwen3_tts_12hz"])
    assert isinstance(codec, QwenTtsCodec)
    theirs, wav = qwen_tts_models.package_of(codec), 0.3 * signal(1, 1, SECONDS * 24_000)
    codes = theirs.encode(wav)
    ours = codec.encode(wav)
    counts = compare_codes(codec.encode_latents(wav).transpose(1, 2), codec.quantizer, ours.data, codes)
    yield Line("codes against transformers' Mimi", f"{counts}")
    audio = codec.decode(codes)
    yield Line("audio against qwen-tts", apart(audio, theirs.decoder(codes)))
    pushed = Codes.cat(streamed(codec.open_encoder(), wav, [1, 960, 4001])).data
    counts = compare_codes(codec.encode_latents(wav).transpose(1, 2), codec.quantizer, pushed, ours.data)
    yield Line("stream's codes against offline", f"{counts}")
    yield Line(
        "stream's audio against offline", apart(torch.cat(streamed(codec.open_decoder(), codes, [1, 5]), 2), audio)
    )


def pocket() -> Iterator[Line]:
    torch.manual_seed(0)
    codec = PocketTtsCodec({}).eval()
    mimi_models.settle_layers(codec)
    wav = 0.3 * signal(1, 1, SECONDS * 24_000)
    theirs = pocket_tts_models.transformers_model(codec)
    latents, frame = codec.encode_latents(wav), codec.spec.hop_length
    padded = torch.nn.functional.pad(wav, (0, -wav.shape[2] % frame))
    yield Line("latents against transformers", apart(latents, theirs.encode(padded).latents.transpose(1, 2)))
    audio = codec.decode_latents(latents)
    yield Line("audio against transformers", apart(audio, theirs.decode(latents.transpose(1, 2)).audio_values))
    pushed = torch.cat(streamed(codec.open_latent_encoder(), wav, [1, 960, 4001]), 2)
    yield Line("stream's latents against offline", apart(pushed, latents))
    heard = torch.cat(streamed(codec.open_latent_decoder(), latents, [1, 5]), 2)
    yield Line("stream's audio against offline", apart(heard, audio))


def higgs() -> Iterator[Line]:
    sizes = {"encoder_hidden_size": 64, "decoder_hidden_size": 1024, "hidden_size": 256}
    acoustic = higgs_models.SMALL["acoustic_model_config"] | sizes
    model = higgs_models.transformers_model(
        acoustic_model_config=acoustic, semantic_model_config={"model_type": "hubert"}, codebook_size=1024,
        codebook_dim=64, target_bandwidths=[0.5, 1, 1.5, 2],
    )  # fmt: skip
    codec, wav = higgs_models.codec_of(model, torch.float32), 0.3 * signal(1, 1, SECONDS * 24_000)
    codes = model.encode(wav).audio_codes
    ours = codec.encode(wav).data
    yield Line("codes against transformers", f"{int((ours != codes).sum())} of {codes.numel()} differ")
    audio = codec.decode(codes)
    yield Line("audio against transformers", apart(audio, model.decode(codes).audio_values[..., : audio.shape[2]]))
    heard = torch.cat(streamed(codec.open_decoder(), codes, [1, 5]), 2)
    yield Line("stream's audio against offline", apart(heard, audio))


ROWS: dict[str, Callable[[], Iterator[Line]]] = {"Qwen3-TTS": qwen, "Pocket TTS": pocket, "Higgs Audio v2": higgs}


def main(names: list[str]) -> None:
    os.environ.setdefault("TRITON_INTERPRET", "1")  # transformers imports Triton
    print("| tokenizer | compared | result |\n|---|---|--:|")
    with torch.no_grad():
        for name in names or ROWS:
            for line in ROWS[name]():
                print(f"| {name} | {line.what} | {line.value} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
