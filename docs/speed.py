"""Measure what docs/speed.md has, and write its figures and docs/speed.png: `python docs/speed.py`, 15 minutes.

    python docs/speed.py                 # on a machine that does nothing else
    python docs/speed.py --device cuda   # the figures of a GPU
    python docs/speed.py --quick         # a fifth of a second of audio each, printed and not written: does it run?
    python docs/speed.py --only Mimi     # the parts whose titles have this; printed and not written
    python docs/speed.py --lyra DIR      # Lyra v2 too; DIR is lyra/model_coeffs of github.com/google/lyra

Each part is a command of streamcodec in a process of its own, and stands above its table. What cannot run here is said
on stderr and left out.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

DOCS = Path(__file__).resolve().parent
PAGE, PLOT = DOCS / "speed.md", DOCS / "speed.png"
NOT_RUN = "<!-- not run: takes a minute -->"
INSTRUCTION_SET = "STREAMCODEC_INSTRUCTION_SET"


class Part(NamedTuple):
    """A section of the page. command: of streamcodec, without `bench speed`; environment: beside that of this process;
    said: above the table."""

    title: str
    command: str
    environment: dict[str, str] = {}  # noqa: RUF012 (of a tuple, nobody changes it)
    said: str = ""


BOTH = "--backend torch,native"
SPLIT = "--precision float32,bfloat16x3"
PARTS = (
    Part("EnCodec 24 kHz", f"--codec encodec_24khz {BOTH} {SPLIT} --steps 1,6 --seconds 3 --repeats 5"),
    Part(
        "EnCodec 24 kHz on AVX2", "--codec encodec_24khz --backend native --steps 1 --seconds 3 --repeats 5",
        {INSTRUCTION_SET: "avx2"},
    ),
    Part(
        "EnCodec 24 kHz, decoding with weights in int8",
        "--codec encodec_24khz --backend native --precision float32,int8 --steps 1,6 --seconds 3 --repeats 5",
    ),
    Part(
        "The bundled codec", f"--codec streamcodec_24khz {BOTH} --steps 1,4 --seconds 4 --repeats 5",
        said="A step cannot be quicker than reading its weights, 6.2 MB to encode, codebooks included, and 4.9 to\n"
        "decode: 0.39 ms at 28 GB/s. Its offline call took 0.33 to 1.3 ms a frame in both directions, from\n"
        "one half hour to another on the same machine, its steps 0.6 to 1.0. So look at milliseconds here:\n"
        "the ratio moves with the offline call (1.7 to 2.2 in quiet minutes).",
    ),
    Part("DAC 44.1 kHz", f"--codec dac_44khz {BOTH} {SPLIT} --steps 7 --threads 2 --seconds 3 --repeats 2"),
    Part(
        "DAC 44.1 kHz in bfloat16",
        "--codec dac_44khz --backend native --precision float32,bfloat16 --only decode --steps 7 --seconds 3 "
        "--repeats 2",
    ),
    Part("X-Codec, decoding", f"--codec xcodec {BOTH} {SPLIT} --steps 1,4 --seconds 6 --repeats 3"),
    Part(
        "Mimi", f"--codec mimi {BOTH} --precision float32,bfloat16,bfloat16x3 --steps 1 --seconds 2 --repeats 3",
        said="The package moshi streams too; it is beside ours where it is installed.",
    ),
    Part(
        "Four conversations of Mimi on one core",
        "--codec mimi --backend native --precision float32,bfloat16 --steps 1 --batch 4 --seconds 1 --repeats 2",
        said="They are live as long as a step of both directions takes less than a frame lasts, 80 ms.",
    ),
    Part("Qwen3-TTS, 12.5 Hz", f"--codec qwen3_tts_12hz {BOTH} --steps 1 --seconds 2 --repeats 2"),
    Part("SNAC 24 kHz", f"--codec snac_24khz {BOTH} --steps 1 --seconds 2 --repeats 3"),
)  # fmt: skip
ALL = "--backend torch,triton --precision float32,tf32,bfloat16"
ON_GPU = (
    Part("EnCodec 24 kHz", f"--codec encodec_24khz {ALL} --steps 1,6 --seconds 3 --repeats 5"),
    Part(
        "32 conversations of EnCodec 24 kHz",
        f"--codec encodec_24khz {ALL} --steps 1 --batch 32 --seconds 3 --repeats 3",
    ),
    Part("The bundled codec", f"--codec streamcodec_24khz {ALL} --steps 1,4 --seconds 3 --repeats 5"),
    Part("DAC 44.1 kHz", f"--codec dac_44khz {ALL} --steps 1,7 --seconds 3 --repeats 3"),
    Part("Mimi", f"--codec mimi {ALL} --steps 1 --seconds 4 --repeats 3"),
)
LYRA = "--backend torch,native --steps 1,4 --seconds 4 --repeats 5"
OPUS_SECONDS, OPUS_KBPS = 110, 12
# Conversations of EnCodec 24 kHz, of each process, and processes: on one core, and on two; and in which precision.
IN = ("float32", "bfloat16x3", "int8")
CONVERSATIONS = tuple((10, processes, precision) for precision in IN for processes in (1, 2))
TUNED = ("streamcodec_24khz", "encodec_24khz")
STARTS = {
    "python -c 'import torch'": "-c 'import torch'",
    "python -c 'import streamcodec.client'": "-c 'import streamcodec.client'",
    "streamcodec --help": "-m streamcodec --help",
    "streamcodec roundtrip, one frame": "-m streamcodec roundtrip IN OUT --force --backend torch",
    "the same, --backend native": "-m streamcodec roundtrip IN OUT --force --backend native",
}
COMPILED_ANEW = "PYTHONDONTWRITEBYTECODE"  # with it every process compiles our sources; pip does that once
FOLDER = r"--codec \S*/\S*"  # of this machine: it is not shown
QUICK_SECONDS = "0.2"


# -- measuring -------------------------------------------------------------------------------------------------------


def called(arguments: Sequence[str], environment: dict[str, str] | None = None) -> str | None:
    """What Python prints, given these arguments; None where it fails, which is said on stderr."""
    command = [sys.executable, *arguments]
    surroundings = {name: value for name, value in os.environ.items() if name != COMPILED_ANEW}
    done = subprocess.run(command, env=surroundings | (environment or {}), capture_output=True, text=True, check=False)
    if done.returncode > 1:
        print(f"left out: {shlex.join(command)}\n{done.stderr[-1000:]}", file=sys.stderr)
        return None
    return done.stdout


def measured(part: Part, device: str, quick: bool) -> dict[str, Any] | None:
    """The result of a part, as `bench speed --json` has it."""
    options = shlex.split(part.command) + (["--device", device] if device != "cpu" else [])
    options += ["--seconds", QUICK_SECONDS, "--repeats", "1"] if quick else []
    printed = called(["-m", "streamcodec", "bench", "speed", *options, "--json"], part.environment)
    return None if printed is None else json.loads(printed)


def conversations(quick: bool) -> list[dict[str, Any]]:
    """What `bench live` finds, for each of `CONVERSATIONS`."""
    found = []
    for count, processes, precision in CONVERSATIONS:
        options = ["--conversations", str(count), "--processes", str(processes), "--backend", "native", "--json"]
        options += ["--precision", precision]
        options += ["--seconds", QUICK_SECONDS] if quick else []
        if printed := called(["-m", "streamcodec", "bench", "live", *options]):
            found.append(json.loads(printed))
    return found


def tuned(quick: bool) -> list[dict[str, Any]]:
    """What `streamcodec tune` finds, for each of `TUNED`."""
    options = ["--backend", "native", "--seconds", QUICK_SECONDS if quick else "8", "--json"]
    printed = [called(["-m", "streamcodec", "tune", "--codec", name, *options]) for name in TUNED]
    return [json.loads(each) for each in printed if each]


def starts(quick: bool) -> dict[str, float]:
    """Median seconds of each of `STARTS`, in turn; the first turn, which reads from the disk, does not count."""
    import numpy as np
    import soundfile

    times: dict[str, list[float]] = {name: [] for name in STARTS}
    with tempfile.TemporaryDirectory() as folder:
        places = {"IN": str(Path(folder, "in.wav")), "OUT": str(Path(folder, "out.wav"))}
        soundfile.write(places["IN"], np.zeros(480, np.float32), 24_000)
        for turn in range(1 if quick else 4):
            for name, command in STARTS.items():
                begun = time.perf_counter()
                if called([places.get(word, word) for word in shlex.split(command)]) is not None and (turn or quick):
                    times[name].append(time.perf_counter() - begun)
    return {name: statistics.median(each) for name, each in times.items() if each}


def opus() -> tuple[float, float] | None:
    """Seconds of speech that Opus's own programs encode, and decode, in a second; None where they are missing."""
    import numpy as np
    import soundfile

    import streamcodec

    if not (shutil.which("opusenc") and shutil.which("opusdec")):
        return None
    speech, rate = soundfile.read(Path(streamcodec.__path__[0], "bundled", "jfk.flac"))
    speed = []
    with tempfile.TemporaryDirectory() as folder:
        wav, packed, back = (str(Path(folder, name)) for name in ("in.wav", "out.opus", "back.wav"))
        soundfile.write(wav, np.resize(speech, OPUS_SECONDS * rate), rate)
        for command in (
            ["opusenc", "--quiet", "--bitrate", str(OPUS_KBPS), wav, packed],
            ["opusdec", "--quiet", packed, back],
        ):
            times = []
            for _ in range(3):
                begun = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                times.append(time.perf_counter() - begun)
            speed.append(OPUS_SECONDS / min(times))
    return speed[0], speed[1]


# -- the page --------------------------------------------------------------------------------------------------------


def section(part: Part, result: dict[str, Any], device: str) -> Iterator[str]:
    from streamcodec.bench.speed import table

    before = "".join(f"{name}={value} " for name, value in part.environment.items())
    after = "" if device == "cpu" else f" --device {device}"
    yield from (
        f"### {part.title}",
        "",
        NOT_RUN,
        "```sh",
        *command_lines(f"{before}streamcodec bench speed {re.sub(FOLDER, '--codec DIR', part.command)}{after}"),
        "```",
    )
    if part.said:
        yield from ("", part.said)
    yield from ("", *table(result["rows"]), "")
    yield from (*wrapped(told(result)), "")
    if len(result["both"]) > 1:
        first, *others = result["both"].items()
        yield from (f"| both directions | over {first[0]} |", "|---|--:|")
        yield from (*(f"| {side} | {ratio:.2f} |" for side, ratio in others), "")


def summary(results: dict[str, dict[str, Any]], live: list[dict[str, Any]]) -> Iterator[str]:
    """The figures that matter most, of the parts that have run."""
    native, theirs = "streamcodec native, {}-frame steps", "transformers offline"
    wanted = (
        ("EnCodec 24 kHz", "both", native.format(1), f"EnCodec 24 kHz in one-frame steps, over {theirs}"),
        ("EnCodec 24 kHz", "both", native.format(6), f"EnCodec 24 kHz in six-frame steps, over {theirs}"),
        (
            "EnCodec 24 kHz, decoding with weights in int8",
            "both",
            "streamcodec native int8, 1-frame steps",
            "in one-frame steps, decoding with weights in int8, likewise",
        ),
        ("EnCodec 24 kHz on AVX2", "both", "streamcodec, 1-frame steps", "in one-frame steps on AVX2, likewise"),
        ("The bundled codec", "both", native.format(1), "the bundled codec in one-frame steps, over its offline call"),
        ("DAC 44.1 kHz", "encode", native.format(7), f"DAC 44.1 kHz, 2 threads, encoding 7-frame steps, over {theirs}"),
        ("DAC 44.1 kHz", "decode", native.format(7), f"DAC 44.1 kHz, 2 threads, decoding 7-frame steps, over {theirs}"),
        ("X-Codec, decoding", "decode", native.format(4), f"X-Codec, decoding in four-frame steps, over {theirs}"),
    )
    yield from ("| one thread, one stream, where nothing else is said | |", "|---|--:|")
    for title, which, side, said in wanted:
        if result := results.get(title):
            ratios = result["both"] if which == "both" else {row["side"]: row["ratio"] for row in of(result, which)}
            split = side.replace("native,", "native bfloat16x3,")
            for name, precision in ((side, "float32"), (split, "bfloat16x3"))[: 1 if split == side else 2]:
                if name in ratios:
                    yield f"| {said}{in_precision(precision)} | {ratios[name]:.2f} |"
    for each in live:
        said = f"{each['conversations']} conversations of EnCodec 24 kHz on {each['processes']} core(s)"
        said += "" if each["precision"] == "float32" else f", in {each['precision']}"
        what = "a one-frame step" + (" of both directions" if each["processes"] == 1 else ", one direction a core")
        said += f", {what}, p99, in ms ({each['lasts_ms']:.2f} are there)"
        yield f"| {said} | {each['p99_ms']:.1f} |"
    for row in of(results.get("DAC 44.1 kHz in bfloat16"), "decode"):
        if "bfloat16" in row["side"]:
            yield f"| DAC 44.1 kHz, decoding in bfloat16, times real time | {row['times_real_time']:.1f} |"
    both = results.get("Mimi", {}).get("both", {})
    if "moshi, 1-frame steps" in both and native.format(1) in both:
        yield f"| Mimi, over moshi's streaming | {both[native.format(1)] / both['moshi, 1-frame steps']:.2f} |"
    yield ""


def in_precision(name: str) -> str:
    return "" if name == "float32" else f", in {name}"


def of(result: dict[str, Any] | None, direction: str) -> list[dict[str, Any]]:
    """The rows of a result in that direction."""
    return [row for row in (result or {"rows": []})["rows"] if row["direction"] == direction]


def told(result: dict[str, Any]) -> str:
    """What the table does not have."""
    names = {"float32_gemm_gflops": "a large product in float32 {} GFLOP/s", "bfloat16_gemm_gflops": "in bfloat16 {}"}
    names |= {"bfloat16x3_gemm_gflops": "in three of bfloat16 {}"}
    names |= {"tf32_gemm_gflops": "in TF32 {}"}  # int8 is of weights alone: its peak is float32's
    names |= {f"{way}_bandwidth_gb": f"reading the weights to {way} {{}} GB/s" for way in ("encode", "decode")}
    limits = ", ".join(text.format(f"{result[name]:g}") for name, text in names.items() if name in result)
    said = f"Limits: {limits}. " if limits else ""
    sizes = [f"{result[f'{side}_bytes_per_stream'] / 1000:,.0f}" for side in ("encoder", "decoder")]
    said += f"State of a stream: {sizes[0]} kB to encode, {sizes[1]} kB to decode. "
    return (said + "".join(changed(result))).strip()


def changed(result: dict[str, Any]) -> Iterator[str]:
    """What lower precisions and other kernels change."""
    for key, value in result.items():
        if found := re.fullmatch(r"(\w+)_(\w+)_(db|codes)_(\d+)_frames", key):
            backend, precision, kind, frames = found.groups()
            if kind == "db":
                yield f"Float32 is {value:g} dB above what {precision} changes ({backend}, {frames}-frame steps). "
            else:
                yield f"Encoding by {backend} in {precision} keeps {value:.2%} of the codes ({frames}-frame steps). "


def command_lines(text: str) -> list[str]:
    """A command, over as many lines as it needs."""
    import textwrap

    lines = textwrap.wrap(text, 98, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]


def wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, 100, break_long_words=False, break_on_hyphens=False)


def conversations_section(found: list[dict[str, Any]]) -> Iterator[str]:
    yield from ("### Conversations of EnCodec 24 kHz", "", NOT_RUN, "```sh")
    for count, processes, precision in CONVERSATIONS:
        command = f"streamcodec bench live --conversations {count} --processes {processes} --backend native"
        yield from command_lines(command + ("" if precision == "float32" else f" --precision {precision}"))
    yield from ("```", "")
    yield from wrapped(
        "They are live as long as a step takes less than a frame lasts. One process encodes and decodes all "
        "conversations in each step; of two one encodes all and the other decodes all, as a server's engines do, and "
        "the slower one counts. Steps follow each other, as those of a server do. The last columns are of a loop "
        "between them that always does the same: what takes longer there was the machine's doing."
    )
    yield ""
    heads = ("conversations", "processes", "precision", "a frame lasts, ms", "steps", "median, ms", "p99", "late")
    yield f"| {' | '.join(heads)} | a loop, median | p99 of it |"
    yield "|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|"
    names = ("lasts", "median", "p99", "loop_median", "loop_p99")
    for each in found:
        lasts, median, p99, loop, loop_p99 = (f"{each[f'{name}_ms']:.2f}" for name in names)
        cells = (each["conversations"], each["processes"], each["precision"], lasts, each["steps"], median, p99)
        yield "| " + " | ".join(map(str, (*cells, f"{each['late_percent']:.2f}%", loop, loop_p99))) + " |"
    yield ""


def tuned_section(found: list[dict[str, Any]]) -> Iterator[str]:
    yield from ("### The fewest frames that keep up", "", NOT_RUN, "```sh")
    yield from ("streamcodec tune --backend native --seconds 8", "```", "")
    yield from (
        "| | frames a step | total delay, ms | the codec's | other frames | computing, p99 |",
        "|---|--:|--:|--:|--:|--:|",
    )
    for each in found:
        best = each["found"]
        cells = [each["codec"], *["none"] * 5]
        if best:
            times = (best[f"{name}_ms"] for name in ("delay", "codec", "waiting", "computing"))
            cells = [each["codec"], str(best["frames"]), *(f"{value:.1f}" for value in times)]
        yield "| " + " | ".join(cells) + " |"
    yield ""


def opus_section(speed: tuple[float, float] | None) -> Iterator[str]:
    if speed is not None:
        yield from ("### Opus, to compare", "")
        yield from wrapped(
            f"`opusenc` and `opusdec` with speech at {OPUS_KBPS} kbps, files and start included: {speed[0]:.0f} times "
            f"real time to encode, {speed[1]:.0f} times to decode."
        )
        yield ""


def starts_section(seconds: dict[str, float]) -> Iterator[str]:
    yield from ("### To the first frame", "", "| | s | over `import torch` |", "|---|--:|--:|")
    base = seconds.get("python -c 'import torch'")
    for name, value in seconds.items():
        yield f"| `{name}` | {value:.2f} | {f'{value - base:+.2f}' if base else ''} |"
    yield ""


def written(text: str, name: str, lines: Sequence[str]) -> str:
    """`text` with `lines` between the marks of that name."""
    begin, end = f"<!-- {name}: by docs/speed.py -->", f"<!-- end of {name} -->"
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{PAGE}: the marks {begin} and {end} are not there")
    return "\n".join([f"{before}{begin}", "", *lines]) + f"{end}{after}"


def _kind(name: str, alone: tuple[str, ...]) -> str:
    """What ran a bar of the plot. alone: the parts that only the native executor runs."""
    if "moshi" in name:
        return "moshi"
    return "native" if " native" in name or name.startswith(alone) else "torch"


def plot(results: dict[str, dict[str, Any]]) -> None:
    """Time over the offline run of the other implementation, for each part of one stream."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    bars = []
    for title, result in results.items():
        if result["batch"] > 1:
            continue
        ratios = result["both"] or {row["side"]: row["ratio"] for row in result["rows"]}
        bars += [(f"{title}: {side}", ratio) for side, ratio in list(ratios.items())[1:] if "offline" not in side]
    alone = tuple(part.title for part in PARTS if "--backend native" in part.command)  # its sides do not say so
    figure, axes = pyplot.subplots(figsize=(11, 0.28 * len(bars) + 1))
    for kind, colour in (("torch", "tab:orange"), ("native", "tab:blue"), ("moshi", "tab:gray")):
        those = [(-i, ratio) for i, (name, ratio) in enumerate(bars) if _kind(name, alone) == kind]
        if those:
            axes.barh(*zip(*those, strict=True), color=colour, label=kind)
    axes.set_yticks([-i for i in range(len(bars))], [name for name, _ in bars])
    axes.legend(loc="lower right")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("time over the offline run")
    figure.tight_layout()
    figure.savefig(PLOT, dpi=100)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--device", default="cpu", help="cpu (default), or cuda")
    parser.add_argument("--quick", action="store_true", help="see that it runs: write nothing")
    parser.add_argument("--only", default="", metavar="TEXT", help="the parts whose titles have TEXT: write nothing")
    parser.add_argument("--lyra", metavar="DIR", help="measure Lyra v2 too, of this folder")
    args = parser.parse_args(arguments)
    parts = (*PARTS, *([Part("Lyra v2", f"--codec {args.lyra} {LYRA}")] if args.lyra else []))
    begun, cpu = time.perf_counter(), args.device == "cpu"
    results = {}
    for part in (part for part in (parts if cpu else ON_GPU) if args.only in part.title):
        if result := measured(part, args.device, args.quick):
            results[part.title] = (part, result)
        print(f"{time.perf_counter() - begun:5.0f} s  {part.title}", file=sys.stderr)
    if not results:
        return 2
    first = next(iter(results.values()))[1]
    today = datetime.now(timezone.utc).date()
    lines = [
        *wrapped(f"Measured on {today}: {first['processor']}, {os.cpu_count()} cores, torch {first['torch']}."),
        "",
    ]
    if cpu and not args.only:
        live = conversations(args.quick)
        lines += summary({title: result for title, (_, result) in results.items()}, live)
        lines += ["![time over the offline run](speed.png)", ""]
    for part, result in results.values():
        lines += section(part, result, args.device)
    if cpu and not args.only:
        lines += [
            *conversations_section(live),
            *opus_section(opus()),
            *tuned_section(tuned(args.quick)),
            *starts_section(starts(args.quick)),
        ]
    if args.quick or args.only:
        print("\n".join(lines))
    else:
        PAGE.write_text(written(PAGE.read_text("utf-8"), "figures" if cpu else "figures of a GPU", lines), "utf-8")
        if cpu:
            plot({title: result for title, (_, result) in results.items()})
    print(f"{time.perf_counter() - begun:5.0f} s in all", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
