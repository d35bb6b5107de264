"""Prints the tables of docs/kernels.md on DAC's quantizer: ``python tests/kernels/factorised_table.py [AUDIO]``.

Times: upstream's order against the projected space, in torch and, where there is an NVIDIA GPU, in Triton (all
columns then run there); medians in milliseconds, the columns in turn. Agreement: codes in float32 against those of
float64, for the published sizes of DAC 44.1 kHz with random weights and entries fitted to latents, on 8 s of AUDIO (a
file that soundfile reads). Exits with 1 where the codes of the two forms differ in float64, or in over 1% of frames in
float32.
"""

import copy
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import soundfile
import soxr
import torch
from torch import Tensor

from streamcodec import ops
from streamcodec.codecs.dac import DacCodec
from streamcodec.nn.factorised import FactorisedQuantizer
from streamcodec.nn.snake import Snake

ROWS = (1, 7, 64, 1000)  # frames; DAC 44.1 kHz has 86 a second
STAGES = {9: "44.1 kHz", 32: "24 kHz"}
SECONDS = 1.0  # of timing for each column of a row


@torch.no_grad()
def fit(rvq: FactorisedQuantizer, latents: Tensor) -> None:
    """Entries that are projected residuals of latents [T, D], moved a little; ways up that undo the ways down."""
    rvq.out_weight.copy_(0.8 * torch.linalg.pinv(rvq.in_weight))
    codebooks, residual = rvq.codebooks.clone(), latents
    for stage in range(len(codebooks)):
        projected = residual @ rvq.in_weight[stage] + rvq.in_bias[stage]
        chosen = projected[torch.randint(len(projected), codebooks.shape[1:2])]
        codebooks[stage] = chosen + 0.1 * projected.std() * torch.randn_like(chosen)
        rvq.set_codebooks(codebooks)
        entries = codebooks[stage][rvq._nearest(projected, rvq.directions[stage])]
        residual = residual - entries @ rvq.out_weight[stage] - rvq.out_bias[stage]


def check(rvq: FactorisedQuantizer, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes of `latents` [B, T, D]: in upstream's order, projected, and in float64. Exits where they are wrong."""
    exact, stages = copy.deepcopy(rvq).double(), len(rvq.codebooks)
    reference, projected = rvq.encode_reference(latents, stages), rvq.encode(latents, stages)
    oracle = exact.encode_reference(latents.double(), stages)
    if not torch.equal(exact.encode(latents.double(), stages), oracle):
        sys.exit("the projected form's codes differ from the reference's in float64: nothing is reported")
    if (projected != reference).any(2).double().mean() > 0.01:
        sys.exit("the projected form's codes differ from the reference's in over 1% of frames: nothing is reported")
    return reference, projected, oracle


def timed(calls: dict[str, Callable[[], Tensor]], on_gpu: bool) -> list[str]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + SECONDS * len(calls)
    while time.perf_counter() < end:
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if on_gpu:
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    return [f"{1000 * statistics.median(taken):.3f}" for taken in times.values()]


def quantizer(stages: int, device: str) -> FactorisedQuantizer:
    """A checked quantizer of the published size."""
    torch.manual_seed(0)
    rvq = FactorisedQuantizer(stages, 1024, 8, 1024)
    fit(rvq, torch.randn(3000, 1024))
    rvq = rvq.to(device)
    check(rvq, torch.randn(1, 200, 1024).to(device))
    return rvq


def row(rvq: FactorisedQuantizer, rows: int, device: str) -> dict[str, str]:
    """One line of the table of times, by column."""
    stages, latents = len(rvq.codebooks), torch.randn(1, rows, 1024).to(device)
    tables = (latents, *rvq._tables.get(rvq._sources(), rvq._make_tables).first(stages))
    calls = {
        "upstream's order": partial(rvq.encode_reference, latents, stages),
        "projected": partial(rvq.encode, latents, stages),
    }
    if device == "cuda":
        calls["projected"] = partial(ops.factorised_encode, *tables, backend="torch")
        calls["projected, Triton"] = partial(ops.factorised_encode, *tables, backend="triton")
    cells = timed(calls, device == "cuda")
    return {"codec": STAGES[stages], "codebooks": str(stages), "frames": f"{rows:,}"} | dict(
        zip(calls, cells, strict=True)
    )


@torch.no_grad()
def agreement(path: str) -> None:
    torch.manual_seed(0)
    codec = DacCodec({"sampling_rate": 44_100, "downsampling_ratios": [2, 4, 8, 8], "n_codebooks": 9})
    for layer in codec.encoder.modules():
        if isinstance(layer, Snake):
            layer.alpha.copy_(0.3 + 1.5 * torch.rand_like(layer.alpha))
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    wav = torch.from_numpy(soxr.resample(samples[:, 0], rate, 44_100))[None, None, : 8 * 44_100]
    latents = codec.encoder(codec.as_rows(wav))
    latents = latents / latents.std()
    fit(codec.quantizer, latents[0])
    reference, projected, oracle = check(codec.quantizer, latents)
    used = min(len(stage.unique()) for stage in reference.unbind(2))
    print(f"\n{latents.shape[1]} frames x 9 stages, at least {used} entries of a stage in use; codes that are equal:\n")
    pairs = {
        "float32 projected, float32 upstream's order": (projected, reference),
        "float32 projected, float64": (projected, oracle),
        "float32 upstream's order, float64": (reference, oracle),
    }
    for name, (one, other) in pairs.items():
        print(f"| {name} | {100 * (one == other).double().mean():.4f}% |")


def main() -> None:
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.inference_mode():
        lines = [row(rvq, rows, device) for rvq in (quantizer(n, device) for n in STAGES) for rows in ROWS]
    print(f"{device}, torch {torch.__version__}, one thread; median ms a call\n")
    print(f"| {' | '.join(lines[0])} |")
    print("|---" * len(lines[0]) + "|")
    print("\n".join(f"| {' | '.join(line.values())} |" for line in lines))
    if len(sys.argv) > 1:
        agreement(sys.argv[1])


if __name__ == "__main__":
    main()
