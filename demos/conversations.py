"""Eight conversations of a language model at once: they begin, are interrupted and end when they like.

    python demos/conversations.py [OUT.wav [OUT.png]]        needs matplotlib: pip install '.[plots]'

The model is a stand-in: it says parts of the recording that comes with the package. What it gives is what a model
gives, a token for each codebook and conversation in each step, with a delay pattern, begin and end tokens, and padding
where nobody speaks. The conversations share one `Engine`. Where somebody interrupts, the audio falls to silence within
20 ms; elsewhere it equals the offline result. Writes the conversations as they would be heard, and a picture of them.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

import streamcodec
from streamcodec import tokens
from streamcodec.audio import AudioReader, AudioWriter
from streamcodec.engine import Engine, Session

RECORDING = Path(streamcodec.__file__).parent / "bundled" / "jfk.flac"
FADE = 0.02  # seconds
COLOURS = {"ends": "tab:blue", "is interrupted": "tab:red", "breaks off": "tab:orange"}


@dataclass
class Conversation:
    """begin: seconds from now; says: from which second to which of the recording; fate: how it is over, after so many
    seconds; audio: what was heard, from `heard_from` on.
    """

    begin: float
    says: tuple[float, float]
    fate: str = "ends"
    after: float = 1e9
    session: Session | None = None
    heard_from: float = 0.0
    audio: list[torch.Tensor] = field(default_factory=list)
    told: int = 0  # frames

    @property
    def wave(self) -> torch.Tensor:
        """[N]."""
        return torch.cat(self.audio, 2)[0, 0] if self.audio else torch.zeros(0)


def eight() -> list[Conversation]:
    """Who speaks when."""
    return [
        Conversation(0.0, (0.3, 2.2)),
        Conversation(0.2, (3.3, 6.5), "is interrupted", 1.5),
        Conversation(0.9, (0.3, 4.4), "is interrupted", 2.3),
        Conversation(1.0, (5.3, 7.6)),
        Conversation(1.6, (8.1, 10.5), "breaks off", 1.6),
        Conversation(2.2, (3.3, 4.4)),
        Conversation(2.4, (8.1, 10.9), "is interrupted", 1.2),
        Conversation(3.0, (5.3, 7.6)),
    ]


class StandIn:
    """What a language model's loop looks like from outside. rows: conversations."""

    def __init__(self, pattern: tokens.Pattern, rows: int):
        self.pattern, self.waiting = pattern, [np.zeros((pattern.codebooks, 0), np.int64)] * rows

    def say(self, row: int, codes: np.ndarray) -> None:
        """Begin to say the codes [K, T]."""
        writer = self.pattern.writer()
        self.waiting[row] = np.concatenate([*writer.push(codes[None]), *writer.finish()], 1)

    def stop(self, row: int) -> None:
        self.waiting[row] = self.waiting[row][:, :0]

    def step(self) -> np.ndarray:
        """One token a codebook of each conversation, [rows, K]."""
        nothing = np.full((self.pattern.codebooks, 1), self.pattern.padding)
        now = [waiting[:, :1] if waiting.shape[1] else nothing for waiting in self.waiting]
        self.waiting = [waiting[:, 1:] for waiting in self.waiting]
        return np.stack(now)[:, :, 0]


def converse(codec: streamcodec.Codec, people: list[Conversation]) -> np.ndarray:
    """Let them all speak; returns the codes that they say parts of, [K, T]."""
    spec = codec.spec
    with AudioReader(str(RECORDING), spec.sample_rate, spec.channels, 1 << 16) as reader:
        wav = torch.from_numpy(np.concatenate(list(reader), 1))[None]
    codes = codec.encode(wav, spec.bandwidths[-1]).data[0].numpy()
    size, fade = spec.codebook_size, round(FADE * spec.sample_rate)
    delays = tuple(range(codes.shape[0]))  # each codebook a step later than the one before
    pattern = tokens.Pattern(delays, size, begin=size, end=size + 1, padding=size + 2, lead=1)
    model, reading, engine = StandIn(pattern, len(people)), pattern.reader(len(people)), Engine(codec, slots=8)

    def frame(seconds: float) -> int:
        return round(seconds * spec.frame_rate)

    step = 0
    while step == 0 or any(one.session is None or not one.session.closed for one in people):
        for row, one in enumerate(people):
            if step == frame(one.begin):
                first, stop = map(frame, one.says)
                model.say(row, codes[:, first:stop])
                one.session = engine.open("decode")
            if one.session and not one.session.closed and step == frame(one.begin + one.after):
                model.stop(row)
                if one.fate == "is interrupted":
                    reading.reset(row)  # what it was about to say is of no use any more
                    engine.cut(one.session, fade)
                else:  # the model stops in mid-frame, as at its longest answer: what there is of each frame is heard
                    (rest,) = reading.flush(row)
                    for part in tokens.leading(rest):
                        engine.feed(one.session, part[None])
                    engine.flush(one.session)
        for row, (one, frames) in enumerate(zip(people, reading.push(model.step()), strict=True)):
            if frames.shape[1]:
                engine.feed(one.session, frames[None])
            if reading.ended[row]:
                engine.flush(one.session)
                reading.reset(row)
        while engine.ready:
            for delivery in engine.step():
                one = next(one for one in people if one.session is delivery.session)
                if delivery.audio is not None:
                    one.heard_from = one.heard_from or step / spec.frame_rate
                    one.audio.append(delivery.audio)
        step += 1
    return codes


def mixed(people: list[Conversation], rate: int) -> torch.Tensor:
    """All of them as one would hear them in a row of chairs, from left to right: [2, N]."""
    stop = max(round(one.heard_from * rate) + len(one.wave) for one in people)
    out = torch.zeros(2, stop)
    for place, one in enumerate(people):
        first, angle = round(one.heard_from * rate), torch.pi / 2 * (place + 0.5) / len(people)
        out[:, first : first + len(one.wave)] += torch.tensor([np.cos(angle), np.sin(angle)])[:, None] * one.wave
    return out / max(1.0, float(out.abs().max()))


def draw(people: list[Conversation], rate: int, target: str) -> None:
    """Who is heard when; and the end of one that was interrupted, as it is and as it would be without a fade."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure = plt.figure(figsize=(12, 6.5), layout="constrained")
    stop = max(one.heard_from + len(one.wave) / rate for one in people) + 0.1
    wide, close = figure.subfigures(1, 2, width_ratios=[2.2, 1])
    for axis, one in zip(wide.subplots(len(people), 1, sharex=True), people, strict=True):
        axis.plot(one.heard_from + np.arange(len(one.wave)) / rate, one.wave, COLOURS[one.fate], linewidth=0.4)
        axis.axvline(one.begin, color="0.7", linewidth=0.8)
        axis.set(ylim=(-1, 1), yticks=[], xlim=(0, stop))
        axis.set_ylabel(one.fate.replace(" ", "\n"), rotation=0, ha="right", va="center", fontsize=8)
        axis.spines[["top", "right", "left"]].set_visible(False)
    axis.set_xlabel("seconds; grey: the model begins")
    wide.suptitle("eight conversations in one engine", fontsize=10)
    loudest = max((one for one in people if one.fate == "is interrupted"), key=lambda one: at_the_cut(one, rate))
    cut = len(loudest.wave) - round(FADE * rate)
    seen, now = slice(cut - rate // 33, None), loudest.wave.clone()
    after = torch.zeros(rate // 100)
    without = torch.cat([loudest.wave[:cut], torch.zeros(len(now) - cut)])
    axes = close.subplots(2, 1, sharex=True, sharey=True)
    for axis, wave, title in zip(
        axes, (without, now), ("cut off", f"cut with a fade of {FADE * 1000:g} ms"), strict=True
    ):
        wave = torch.cat([wave[seen], after])
        axis.plot((np.arange(len(wave)) - rate // 33) * 1000 / rate, wave, COLOURS["is interrupted"], linewidth=0.8)
        axis.axvline(0, color="0.7", linewidth=0.8)
        axis.set_title(title, fontsize=10)
    axes[1].set_xlabel("ms after the interruption")
    figure.savefig(target, dpi=80)


def at_the_cut(one: Conversation, rate: int) -> float:
    """The step that there would be without a fade."""
    return abs(float(one.wave[len(one.wave) - round(FADE * rate) - 1]))


def main(sound: str = "conversations.wav", picture: str = "conversations.png") -> None:
    torch.set_num_threads(1)
    codec, people = streamcodec.load(), eight()
    rate = codec.spec.sample_rate
    codes = converse(codec, people)
    for one in people:
        first, stop = (round(second * codec.spec.frame_rate) for second in one.says)
        text = (
            f"at {one.begin:.1f} s, heard from {one.heard_from:.2f} s on for {len(one.wave) / rate:.2f} s: {one.fate}"
        )
        if one.fate == "ends":
            difference = codec.decode(codes[None, :, first:stop])[0, 0] - one.wave
            text += f", and differs from the offline result by {float(difference.abs().max()):.1e} at most"
        elif one.fate == "is interrupted":
            text += f"; a step of {at_the_cut(one, rate):.3f} at the cut is a fall in {FADE * 1000:g} ms"
        print(text)
    with AudioWriter(sound, rate, 2) as writer:
        writer.write(mixed(people, rate))
    draw(people, rate, picture)
    print(f"wrote {sound} and {picture}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
