"""Write the clips of docs/listen.md beside this file: the bundled recording, and what the bundled codec makes of it.

python docs/audio/make.py
"""

from pathlib import Path

import soundfile

import streamcodec

FOLDER = Path(__file__).parent
RECORDING = Path(streamcodec.__file__).parent / "bundled" / "jfk.flac"
QUALITY = {"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": "CONSTANT", "compression_level": 0.2}


def main() -> None:
    codec = streamcodec.load()
    wav, rate = soundfile.read(RECORDING, dtype="float32")
    soundfile.write(FOLDER / "original.mp3", wav, rate, **QUALITY)
    for bandwidth in codec.spec.bandwidths:
        decoded = codec.decode(codec.encode(wav[None, None], bandwidth))[0, 0].numpy()
        soundfile.write(FOLDER / f"{bandwidth:g}kbps.mp3", decoded, rate, **QUALITY)


if __name__ == "__main__":
    main()
