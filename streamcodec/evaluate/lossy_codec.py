"""A codec whose packets are lost, and what is done about it."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..codes import Codes
from ..errors import InputError
from ..packet import CodesMessage
from ..redundancy import Earlier, Part, frames_from
from .libopus import PACKET_SECONDS
from .loss import Loss, lost_packets
from .recording import Decoded, Recording, fitted

__all__ = ["LossyCodec"]

# What a decoder is given for frames that are missing: the stream, the codes before them, their number.
Fill = Callable[[Any, Tensor, int], Tensor]


class LossyCodec:
    """A codec at one bandwidth over links that lose packets of 20 ms (or of a frame, where that is longer).

    Each loss is answered in several ways: with silence; by the last frame again; by concealment; and with packets that
    carry the lower codebooks of earlier frames. redundancy: (frames, codebooks) of these, each a row of its own; what
    is still missing then is concealed.
    """

    def __init__(
        self, codec: Any, losses: Sequence[Loss], bandwidth: float | None, redundancy: Sequence[tuple[int, int]]
    ) -> None:
        if codec.framing.scaled:
            raise InputError(f"{codec.spec.name} works on segments, which packets of 20 ms cannot lose")
        self.codec, self.losses, self.redundancy = codec, tuple(losses), tuple(redundancy)
        self.bandwidth = codec.spec.resolve(bandwidth)
        self.frames = max(1, round(PACKET_SECONDS * codec.spec.frame_rate))  # of a packet

    def __call__(self, recording: Recording) -> Iterator[Decoded]:
        """Without loss, and then for each loss one for each answer."""
        spec = self.codec.spec
        wav = torch.from_numpy(recording.audio)[None, None].expand(1, spec.channels, -1)
        codes = self.codec.encode(wav, self.bandwidth)
        name = f"codec {self.bandwidth:g}"
        bits = self._bits(codes.data.shape[2], codes.data.shape[1])
        yield Decoded(name, self._audio([self.codec.decode(codes)], recording), bits)
        for loss in self.losses:
            for answer, extra, audio in self._answers(codes, loss, recording.name):
                yield Decoded(f"{name}, {loss.name}, {answer}", self._audio(audio, recording), bits + extra)

    def _answers(self, codes: Codes, loss: Loss, name: str) -> Iterator[tuple[str, int, list[Tensor]]]:
        """Of each: its name, the bits that it costs, and the audio."""
        packets = list(self._packets(codes, None))
        lost = lost_packets(len(packets), loss, name)
        fills = dict(_fills(self.codec, self.bandwidth))
        for answer, fill in fills.items():
            yield answer, 0, self._decoded(packets, lost, codes, fill)
        best = list(fills.values())[-1]
        for frames, codebooks in self.redundancy:
            carried = list(self._packets(codes, Earlier(frames, codebooks)))
            extra = sum(
                self._bits(*reversed(packet.earlier.codes.shape)) for packet in carried if packet.earlier is not None
            )
            yield f"with {frames} x {codebooks} again", extra, self._decoded(carried, lost, codes, best)

    def _packets(self, codes: Codes, earlier: Earlier | None) -> Iterator[CodesMessage]:
        data = codes.data[0].cpu().numpy().astype(np.uint16)
        scale = None if codes.scale is None else codes.scale[0].cpu().numpy()
        bits = (self.codec.spec.codebook_size - 1).bit_length()
        for number, begin in enumerate(range(0, data.shape[1], self.frames)):
            part = data[:, begin : begin + self.frames]
            scales = None if scale is None else scale[begin : begin + self.frames]
            again = None if earlier is None else earlier.last()
            yield CodesMessage(number, begin, part, bits, scale=scales, earlier=again)
            if earlier is not None:
                earlier.push(part, scales)

    def _decoded(self, packets: list[CodesMessage], lost: np.ndarray, codes: Codes, fill: Fill) -> list[Tensor]:
        """The audio of a stream of which some packets are lost."""
        stream = self.codec.open_decoder(start="exact")
        before, audio, expected = codes.data[:, :, :1], [], 0
        end = Part(codes.data.shape[2], 0)
        for packet, gone in zip([*packets, None], [*lost, False], strict=True):
            if gone:
                continue
            parts = [Part(expected, end.index - expected)] if packet is None else frames_from(packet, expected)
            for part in parts:
                expected = part.index + part.count
                if part.codes is None:
                    if part.count:
                        audio.append(fill(stream, before, part.count))
                    continue
                data = torch.from_numpy(part.codes.astype(np.int64))[None]
                scale = None if part.scale is None else torch.from_numpy(part.scale.copy())[None]
                audio.append(stream.push(Codes(data, scale)))
                before = data if part.again else data[:, :, -1:]
        return [*audio, stream.flush()]

    def _bits(self, frames: int, codebooks: int) -> int:
        return frames * codebooks * (self.codec.spec.codebook_size - 1).bit_length()

    def _audio(self, parts: list[Tensor], recording: Recording) -> np.ndarray:
        audio = torch.cat(parts, 2)[0].mean(0).cpu().numpy()
        return fitted(audio, len(recording.audio))


def _fills(codec: Any, bandwidth: float) -> Iterator[tuple[str, Fill]]:
    """What can be done where frames are missing, the best last."""

    def silence(stream: Any, before: Tensor, count: int) -> Tensor:
        audio: Tensor = stream.push(quiet.repeat(1, 1, count))
        return audio

    def repeat(stream: Any, before: Tensor, count: int) -> Tensor:
        audio: Tensor = stream.push(before[:, :, -1:].repeat(1, 1, count))
        return audio

    def conceal(stream: Any, before: Tensor, count: int) -> Tensor:
        audio: Tensor = stream.conceal(count)
        return audio

    quiet = codec.silent_frame().data[:, : codec.spec.codebooks(bandwidth)]
    yield "silence", silence
    yield "last frame again", repeat
    yield "concealed", conceal
