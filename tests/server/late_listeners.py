"""What a decoder lacks that begins in mid-stream after some history.

    python tests/server/late_listeners.py CODEC AUDIO...        CODEC: what `streamcodec.load` takes

Prints the table of docs/server.md: at random places in each file, the difference of the next second to the audio of a
decoder that heard all, root mean square, as a part of the audio's own. The first file, of which the table has a column
of its own, is the recording in the package.
"""

import sys
from pathlib import Path

import numpy as np
import torch

import streamcodec
from streamcodec.audio import AudioReader

SPEECH = Path(streamcodec.__file__).parent / "bundled" / "jfk.flac"
HISTORIES = (0, 1, 2, 4, 6, 8, 10, 12)  # seconds
PLACES = 6  # in a file
SECONDS = 24  # of a file, repeated where it is shorter


def codes_of(codec: streamcodec.Codec, path: Path) -> torch.Tensor:
    rate = codec.spec.sample_rate
    with AudioReader(path, rate, 1, rate) as reader:
        pcm = torch.cat([torch.as_tensor(block) for block in reader], 1)
    pcm = pcm.repeat(1, -(-SECONDS * rate // pcm.shape[1]))[:, : SECONDS * rate]
    return codec.encode(pcm[None]).data


def differences(codec: streamcodec.Codec, data: torch.Tensor, rng: np.random.Generator) -> list[list[float]]:
    """For each place, one number for each history."""
    second, hop, delay = round(codec.spec.frame_rate), codec.spec.hop_length, codec.spec.decoder_delay
    whole = codec.open_decoder(start="primed").push(data)[0, 0]
    found = []
    for place in rng.integers(HISTORIES[-1] * second, data.shape[2] - second, PLACES):
        wanted = whole[place * hop : (place + second) * hop - delay]
        row = []
        for history in HISTORIES:
            begin = place - history * second
            heard = codec.open_decoder(start="primed").push(data[:, :, begin : place + second])[0, 0]
            row.append(float((heard[-len(wanted) :] - wanted).norm() / wanted.norm().clamp_min(1e-6)))
        found.append(row)
    return found


if __name__ == "__main__":
    codec, rng = streamcodec.load(sys.argv[1]), np.random.default_rng(0)
    speech, everything = np.array(differences(codec, codes_of(codec, SPEECH), rng)), []
    for name in sys.argv[2:]:
        everything += differences(codec, codes_of(codec, Path(name)), rng)
    everything = np.array([*speech, *everything])
    print(f"{len(everything)} places in {len(sys.argv) - 1} files\n")
    print("| history | speech, at worst | all, half | all, at worst |")
    print("|--:|--:|--:|--:|")
    for i, history in enumerate(HISTORIES):
        worst = (speech[:, i].max(), np.median(everything[:, i]), everything[:, i].max())
        print(f"| {history} s | " + " | ".join(f"{value:.0e}" for value in worst) + " |")
