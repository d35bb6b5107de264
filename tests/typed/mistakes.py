"""A program with a mistake on every line that ends in a comment, which names mypy's error. It is never run."""

import numpy as np
import torch

import streamcodec
from streamcodec import Codes, Engine, load, load_codes, save_codes

codec = load()
wav = torch.zeros(1, 1, 320)
codes = codec.encode(wav)
encoder, decoder = codec.open_encoder(), codec.open_decoder()
engine = Engine(codec)
session = engine.open("decode")

codec.encode("a.wav")  # arg-type
codec.encode([0.0, 0.1])  # list-item
codec.encode(np.zeros((1, 1, 320), np.int32))  # arg-type
codec.encode(wav, "6")  # call-overload
codec.encode(wav, num_codebooks=2.5)  # call-overload
codec.encode(wav, bandwith=6.0)  # call-overload
codec.encode(wav, sample_rate=16_000)  # call-overload
codec.decode("a.safetensors")  # arg-type
codec.encode(wav, lengths=3)  # call-overload
codec.encode([wav, wav], chunk_seconds="1")  # call-overload
lengthless: list[Codes] = codec.encode(wav)  # assignment
codec.decode([[[1, 2]]])  # list-item
codec.decode(np.zeros((1, 8, 2)))  # arg-type
codec.open_encoder(start="prime")  # arg-type
codec.open_encoder(batch=1.5)  # arg-type
codec.open_encoder("6 kbps")  # arg-type
codec.open_decoder(start=True)  # arg-type
codec.open_decoder(state="state")  # arg-type
codec.quantize(codes)  # arg-type
codec.dequantize(1.0)  # arg-type
codec.decode_latents(codes)  # arg-type
codec.encode_latent(wav)  # operator
encoder.push("a.wav")  # arg-type
encoder.bandwidth = "6"  # assignment
encoder.flush(wav)  # call-arg
decoder.push(None)  # arg-type
text: str = decoder.push(codes)  # assignment
codes.length = 3  # misc
print(codes.frames)  # attr-defined
Codes([[[1]]])  # arg-type
engine.open("encoder")  # arg-type
engine.open("encode", start="now")  # arg-type
engine.feed(codes, session)  # arg-type
engine.feed(session, "a.wav")  # arg-type
Engine(codec, slots="32")  # arg-type
print(engine.figures().decoded_frames)  # attr-defined
load(device="cpu", dtype="float32")  # arg-type
load_codes(3)  # arg-type
save_codes("a.safetensors", codec, codes)  # arg-type
streamcodec.lod()  # attr-defined
