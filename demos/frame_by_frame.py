"""Encode a recording one frame at a time and decode each frame as it comes, with the bundled codec.

    python demos/frame_by_frame.py [IN.wav [OUT.wav]]

Prints when each of the first frames comes out, and at the end that the stream equals the offline run.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

import streamcodec
from streamcodec.audio import AudioReader, AudioWriter

DEFAULT = Path(streamcodec.__file__).parent / "bundled" / "jfk.flac"


def main(source: str = str(DEFAULT), target: str = "frames.wav") -> None:
    torch.set_num_threads(1)  # one frame is too little work to share
    codec = streamcodec.load()
    spec = codec.spec
    with AudioReader(source, spec.sample_rate, spec.channels, spec.hop_length) as reader:
        frames = [torch.from_numpy(block)[None] for block in reader]

    encoder, decoder = codec.open_encoder(), codec.open_decoder()
    codes, wav, spent = [], [], []
    for i, block in enumerate(frames):
        since = time.perf_counter()
        codes.append(encoder.push(block))
        wav.append(decoder.push(codes[-1]))
        spent.append(time.perf_counter() - since)
        if i < 5:
            print(f"frame {i}: codes {codes[-1].data[0, :, 0].tolist()}, {wav[-1].shape[-1]} samples back")
    codes.append(encoder.flush())
    wav += [decoder.push(codes[-1]), decoder.flush()]

    streamed, offline = streamcodec.Codes.cat(codes), codec.encode(torch.cat(frames, -1))
    result = torch.cat(wav, -1)
    with AudioWriter(target, spec.sample_rate, spec.channels) as writer:
        writer.write(result[0])
    frame_ms = 1000 / spec.frame_rate
    print(f"{len(spent)} frames of {frame_ms:.1f} ms, {1000 * np.median(spent):.2f} ms of computing each (median)")
    print(f"codes equal to the offline run: {(streamed.data == offline.data).double().mean():.4%}; wrote {target}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
