"""A program that uses every public name as it is meant: `mypy --strict` has nothing to say. It is never run."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import streamcodec
from streamcodec import (
    AudioLike,
    Codec,
    CodecSpec,
    Codes,
    CodesLike,
    DecoderStream,
    Delivery,
    Direction,
    EncoderStream,
    Engine,
    LatentDecoderStream,
    LatentEncoderStream,
    QuantizedLatents,
    SemanticWindow,
    Session,
    Start,
    StreamcodecError,
    TokenDataset,
    load,
    load_codes,
    save,
    save_codes,
)


def offline(codec: Codec, wav: AudioLike) -> Tensor:
    codes: Codes = codec.encode(wav, 6.0)
    codes = codec.encode(np.zeros((1, 1, 320), np.float32), np.float32(6))
    codes = codec.encode(np.zeros((1, 1, 320)), num_codebooks=np.int64(12))
    codes = codec.encode(torch.zeros(1, 1, 320), torch.tensor(6.0))
    each: list[Codes] = codec.encode([torch.zeros(1, 320), torch.zeros(1, 640)], chunk_seconds=10)
    each = codec.encode(wav, lengths=[320]) + codec.encode(wav, padding_mask=np.ones((1, 320)))
    listed: list[Tensor] = codec.decode(each) + codec.decode(codes.data, lengths=torch.tensor([1]))
    print(listed)
    shape: torch.Size = codes.shape
    bare: NDArray[np.int16] = codes.data.numpy().astype(np.int16)
    same: bool = codes == Codes(bare, length=np.int64(320))
    both: Codes = Codes.cat([codes, bare, codes.data]).to("cpu")
    found: QuantizedLatents = codec.straight_through(codec.encode_latents(wav), num_codebooks=12)
    audio: Tensor = codec.decode_latents(found.latents) + codec.dequantize(found.codes, per_stage=True).sum(1)
    print(audio)
    print(shape, same, both, codes.length, codes.scale)
    return codec.decode(bare) + codec.decode(codes) + codec.decode(codes.data)


def latents(codec: Codec, wav: AudioLike) -> Tensor:
    encoder: LatentEncoderStream = codec.open_latent_encoder(start="primed")
    decoder: LatentDecoderStream = codec.open_latent_decoder()
    heard: Tensor = encoder.push(wav)
    return torch.cat([decoder.push(heard), decoder.push(encoder.flush()), decoder.flush()], 2)


def corpus(codec: Codec, folder: Path) -> Tensor:
    tokens = TokenDataset(folder, codec=codec)
    codes: list[Codes] = [item.codes for item in tokens.shard(0, 2)]
    frames: int = sum(tokens.frames)
    print(len(tokens), codes, frames, tokens.keys, tokens[np.int64(0)].fields["text"])
    return tokens.collate([tokens[0], tokens[1]]).codes


def stream(codec: Codec, start: Start = "primed") -> bytes:
    encoder: EncoderStream = codec.open_encoder(6.0, batch=1, start=start, window=SemanticWindow(left=50))
    decoder: DecoderStream = codec.open_decoder(start="exact", num_codebooks=8)
    codec.warm_up()
    encoder.num_codebooks = 4
    encoder.bandwidth = 3.0
    audio: Tensor = decoder.push(encoder.push(torch.zeros(1, 1, 320)))
    audio = torch.cat([audio, decoder.push(encoder.flush()), decoder.flush()], 2)
    return encoder.save()


def engine(codec: Codec, direction: Direction = "roundtrip") -> None:
    many = Engine(codec, slots=2, batch_sizes=(1, 2))
    session: Session = many.open(direction, num_codebooks=8, start="primed")
    many.feed(session, torch.zeros(1, 1, 320))
    many.set_bandwidth(session, 3.0)
    many.flush(session)
    deliveries: list[Delivery] = many.step()
    for delivery in deliveries:
        if delivery.audio is not None:
            print(delivery.audio.shape, delivery.codes, delivery.session.bandwidth)
    print(many.figures().sessions, many.figures(session).decoded_frames)


def train(codec: Codec, wav: Tensor) -> Tensor:
    latents: Tensor = codec.encode_latents(wav)
    quantized: Tensor = codec.dequantize(codec.quantize(latents, num_codebooks=4))
    return codec.decode_latents(latents + (quantized - latents).detach(), length=wav.shape[-1])


def files(codec: Codec, codes: CodesLike, path: Path) -> Codes:
    save(codec, path)
    save_codes(path / "codes.safetensors", codes, codec, overwrite=True)
    return load_codes(path / "codes.safetensors")


def main() -> None:
    try:
        codec: Codec = load("encodec_24khz", device="cpu", dtype=torch.float32)
        spec: CodecSpec = codec.spec
        print(spec.codebooks(6.0), spec.bandwidth(8), spec.sample_rate, streamcodec.__version__)
    except StreamcodecError as error:
        print(error)


main()
