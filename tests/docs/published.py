"""Folders named as the published checkpoints are on the hub, with small random models of transformers.

transformers and streamcodec both take a folder for a name of the hub where there is one, so that a page's code runs as
it stands and without a network.
"""

import sys
from pathlib import Path

import soundfile
import soxr
import torch

sys.path.append(str(Path(__file__).parents[1] / "codecs"))

import dac_models
import xcodec_models

from streamcodec.cli.roundtrip import RECORDING


def furnish(folder: Path) -> None:
    """What docs/from_transformers.md needs: three models with their processors, and speech at two rates."""
    from transformers import DacFeatureExtractor, EncodecFeatureExtractor

    _encodec().save_pretrained(folder / "facebook" / "encodec_24khz")
    EncodecFeatureExtractor(sampling_rate=24_000).save_pretrained(folder / "facebook" / "encodec_24khz")
    dac = dac_models.transformers_model(**dac_models.PUBLISHED["16khz"])
    for name, model in {
        "descript/dac_16khz": dac,
        "hf-audio/xcodec-hubert-librispeech": xcodec_models.transformers_model("hubert"),
    }.items():
        model.save_pretrained(folder / name)
        DacFeatureExtractor(sampling_rate=16_000, hop_length=320).save_pretrained(folder / name)
    speech, rate = soundfile.read(RECORDING, dtype="float32", frames=50_000)
    soundfile.write(folder / "speech_24khz.wav", speech, rate)
    soundfile.write(folder / "speech_16khz.wav", soxr.resample(speech, rate, 16_000), 16_000)


def _encodec() -> torch.nn.Module:
    """Of the published form, narrow, with codebooks that the latents spread over."""
    from transformers import EncodecConfig, EncodecModel

    torch.manual_seed(0)
    model = EncodecModel(EncodecConfig(num_filters=4, hidden_size=16, codebook_dim=16)).eval()
    for layer in model.quantizer.layers:
        torch.nn.init.normal_(layer.codebook.embed, std=0.1)
    return model
