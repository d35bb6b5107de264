"""Small random codecs of our own spectral family."""

from functools import cache
from typing import Any

import torch
from oracles import fitted_codebooks, signal

from streamcodec.codecs.spectral import SpectralCodec

# 100 frames of 6 samples a second; each codebook of 16 entries is 0.4 kbps.
SMALL: dict[str, Any] = {
    "sampling_rate": 600,
    "hop_length": 6,
    "encoder_width": 6,
    "encoder_blocks": 2,
    "decoder_width": 5,
    "decoder_blocks": 2,
    "expansion": 2,
    "kernel_size": 3,
    "hidden_size": 6,
    "bands": 2,
    "codebook_size": 16,
    "target_bandwidths": (0.4, 0.8, 1.6),
    "default_bandwidth": 0.8,
}


@cache
def small_codec(dtype: torch.dtype = torch.float64, **config: Any) -> SpectralCodec:
    """`config` overrides sizes. Every tap of a kernel counts, all entries are in use, and the output is at -12 dBFS."""
    torch.manual_seed(7)
    codec = SpectralCodec(SMALL | config, name="small spectral")
    hop = codec.spec.hop_length
    with torch.no_grad():
        for name, parameter in codec.named_parameters():
            if parameter.dim() == 3 and parameter.shape[1] == 1:
                torch.nn.init.normal_(parameter, std=parameter.shape[0] ** -0.5)
            elif name.endswith("scale") or "norm" in name:
                parameter.copy_(1 + 0.3 * torch.randn_like(parameter))
        codec.quantizer.set_codebooks(fitted_codebooks(codec, *codec.quantizer.codebooks.shape[:2]))
        level = codec.decode(codec.encode(signal(1, 1, 300 * hop), codec.spec.bandwidths[-1])).std()
        spectrum = codec.decoder.chain[-3]
        for name in ("weight", "bias"):
            spectrum.get_parameter(name)[..., :hop] *= 0.25 / level
    return codec.to(dtype).eval()
