"""Streams of every kind of operation by the library given on the command line; prints the instruction sets it ran on.

Run by test_native_library.py, in a process of its own with the sanitizers' runtime.
"""

import itertools
import sys
from pathlib import Path

import dac_models
import int8_layers
import mimi_models
import oracles
import pocket_tts_models
import qwen_tts_models
import snac_models
import spectral_models
import torch
from streamcodec_kernels.native import library

from streamcodec import Codec, native_executor, native_int8, native_weights
from streamcodec.bench.presets import Preset
from streamcodec.bench.random_weights import make
from streamcodec.codecs.dac import DacCodec
from streamcodec.codecs.lyra import LyraCodec
from streamcodec.engine import Engine
from streamcodec.nn.transducer import Transducer
from streamcodec.state import State

library.made = lambda: Path(sys.argv[1])

from sets import on  # noqa: E402 (it asks what the library has)

native_executor.SHARED_WORK = native_int8.FEWEST = 0
# On tiles products in float32 of weights that are packed for them, and with fewer rows a frame of such that are split.
native_weights.FEWEST_ROWS, native_weights.FEWEST_VALUES = 4, native_weights.WIDE
native_weights.FEWEST_TALL, native_weights.TALL = 1, native_weights.WIDE
# By none of transformers' models, whose import takes seconds here.
DAC = dac_models.NARROW | {"downsampling_ratios": [2, 3], "n_codebooks": 3, "sampling_rate": 1000}
FAMILIES: list[Codec] = [
    oracles.small_codec("24khz", torch.float32),
    oracles.small_codec("32khz", torch.float32, pad_mode="replicate"),
    make(Preset(DacCodec, DAC), frames=32),
    spectral_models.small_codec(torch.float32),
    mimi_models.small_codec(torch.float32),
    LyraCodec().eval(),
    snac_models.small_codec(torch.float32, **snac_models.ATTENTION),
    qwen_tts_models.small_codec(torch.float32),
    pocket_tts_models.small_codec(torch.float32),
]
for name in library.instruction_sets():
    with on(name):
        rounded = int8_layers.unrounded()
        rounded.use("native", "int8")
        for in_int8, size in itertools.product((int8_layers.network(), rounded), (1, 3, 20)):
            in_int8.step(torch.randn(1, size * in_int8.at.rate, in_int8.channels), State(in_int8.spec, 1))
        for codec in FAMILIES:
            native = codec.on("native")
            latents = torch.randn(1, 8, native.quantizer.dimension)
            if codec.spec.num_codebooks:
                native.quantizer.decode(native.quantizer.encode(latents, codec.spec.num_codebooks))
            if codec.spec.num_codebooks and codec.spec.channels == 1:
                encoder, decoder = native.open_encoder(), native.open_decoder()
                engine = Engine(native, slots=4, step_frames=(8,))
                sessions = [engine.open("roundtrip", int16=bool(i)) for i in range(3)]
                for _ in range(3):
                    decoder.push(encoder.push(torch.randn(1, 1, 8 * codec.spec.hop_length)))
                    for session in sessions:
                        engine.feed(session, torch.randn(1, 1, 8 * codec.spec.hop_length))
                    engine.step()
                for session in sessions:
                    engine.flush(session)
                while engine.ready:
                    engine.step()
            networks = native.framing.networks
            if library.chosen().tiles:
                networks = (*networks, codec.on("native", "bfloat16").framing.networks[1])
                networks = (*networks, *codec.on("native", "bfloat16x3").framing.networks)
            for network in networks:
                for frames, batch, threads in ((1, 1, 1), (3, 2, 1), (20, 1, 3)):
                    torch.set_num_threads(threads)
                    stream = Transducer(network, batch, torch.device("cpu"), torch.float32, frames)
                    # A first step and a whole one behind it; the end is in those of the flush.
                    stream.push(torch.randn(batch, (frames + 2) * network.at.rate + 1, network.channels))
                    stream.flush()
    print(name)
