"""The fused quantizer kernels against the plain reference: compiled on a GPU, in Triton's interpreter elsewhere."""

import pytest
import torch
from kernel_checks import (
    NAN,
    assert_near_ties_alone,
    assert_only_row_four_is_harmed,
    compile_without_a_gpu,
    gpu,
    island,
)
from streamcodec_kernels.rvq_reference import NEAR_TIE, excess_distance
from streamcodec_kernels.rvq_reference import random_problem as problem
from streamcodec_kernels.rvq_reference import rvq_decode as reference_decode
from streamcodec_kernels.rvq_reference import rvq_encode as reference_encode
from torch import Tensor


def assert_codes_agree(z: Tensor, codebooks: Tensor, codes: Tensor) -> None:
    """Codes equal the reference's, or the two nearest vectors nearly tie; from there on each is right by itself."""
    expected, excess = reference_encode(z, codebooks), excess_distance(z, codebooks, codes)
    assert_near_ties_alone(codes, expected, codebooks.shape[1], excess, NEAR_TIE)


SHAPES = [  # rows, stages, size, dimension
    (1, 1, 1, 8),
    (1, 4, 1024, 128),
    (5, 3, 3, 24),
    (5, 2, 100, 130),
    (37, 4, 100, 64),
    (37, 2, 1000, 128),
    (37, 1, 1024, 8),
    (5, 2, 1024, 256),
    (1, 1, 1000, 1024),
    (17, 3, 3, 1024),
]


@pytest.mark.parametrize(("rows", "stages", "size", "dimension"), SHAPES)
def test_codes_equal_the_reference(device, rows, stages, size, dimension):
    from streamcodec_kernels import rvq

    z, codebooks = problem(rows, stages, size, dimension, device)
    assert_codes_agree(z, codebooks, rvq.rvq_encode(z, codebooks))


@pytest.mark.parametrize(("rows", "stages", "size", "dimension"), SHAPES)
def test_decode_equals_the_reference_to_the_bit(device, rows, stages, size, dimension):
    from streamcodec_kernels import rvq

    _, codebooks = problem(rows, stages, size, dimension, device)
    codes = torch.randint(0, size, (rows, stages), generator=torch.Generator().manual_seed(1)).to(device)
    for used in range(1, stages + 1):
        z = rvq.rvq_decode(codes[:, :used], codebooks)
        assert torch.equal(z, reference_decode(codes[:, :used], codebooks))


@pytest.mark.parametrize("dimension", [16, 130])
def test_no_latents_make_no_codes(device, dimension):
    from streamcodec_kernels import rvq

    z, codebooks = problem(0, 3, 20, dimension, device)
    codes = rvq.rvq_encode(z, codebooks)
    assert codes.shape == (0, 3)
    assert codes.dtype == torch.int64
    assert rvq.rvq_decode(codes, codebooks).shape == (0, dimension)


@pytest.mark.parametrize("dimension", [16, 128, 130])
def test_exact_ties_go_to_the_lowest_index(device, dimension):
    """Small integers: float32 sums are exact in any order, so ties are ties, between copies and between strangers.

    Every vector occurs three times, in other columns of a tile and in other tiles.
    """
    from streamcodec_kernels import rvq

    generator = torch.Generator().manual_seed(2)
    z = torch.randint(-3, 4, (21, dimension), generator=generator).float().to(device)
    few = torch.randint(-1, 2, (2, 100, dimension), generator=generator).float()
    codebooks = torch.cat([few, few[:, torch.randperm(100, generator=generator)], few], 1).to(device)
    codes, residual = rvq.rvq_encode(z, codebooks), z.double()
    for stage in range(2):
        vectors = codebooks[stage].double()
        distance = (residual[:, None] - vectors).square().sum(2)
        is_nearest = distance == distance.amin(1, keepdim=True)
        assert (is_nearest.sum(1) >= 2).all()
        assert torch.equal(codes[:, stage], is_nearest.int().argmax(1))
        residual = residual - vectors[codes[:, stage]]


def test_all_vectors_equal_gives_index_zero(device, ordered_dot):
    from streamcodec_kernels import rvq

    z, codebooks = problem(5, 2, 1, 24, device)
    assert not rvq.rvq_encode(z, codebooks.expand(2, 300, 24)).any()


def sensitive_problem(rows: int, dimension: int, device: str):
    """Codebooks of near copies a few units in the last place apart: any change of rounding changes the codes."""
    z, codebooks = problem(rows, 3, 10, dimension, device)
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(3, 150, dimension, generator=generator).to(device)
    return z, codebooks.repeat(1, 15, 1) * (1 + 2**-23 * noise)


@pytest.mark.parametrize("dimension", [24, 128, 130])
def test_a_row_is_the_same_to_the_bit_in_any_batch(device, dimension, ordered_dot):
    from streamcodec_kernels import rvq

    z, codebooks = sensitive_problem(21, dimension, device)
    whole = rvq.rvq_encode(z, codebooks)
    for cuts in ([1, 1, 1, 18], [5, 16], [17, 4]):
        parts = [rvq.rvq_encode(part, codebooks) for part in z.split(cuts)]
        assert torch.equal(torch.cat(parts), whole)
    order = torch.randperm(21, generator=torch.Generator().manual_seed(4)).to(device)
    assert torch.equal(rvq.rvq_encode(z[order], codebooks), whole[order])


def test_the_sensitive_problem_sees_rounding():
    """The test above means something only if its codes change when the same sums are added in another order."""
    z, codebooks = sensitive_problem(21, 128, "cpu")
    order = torch.randperm(128, generator=torch.Generator().manual_seed(5))
    assert not torch.equal(reference_encode(z, codebooks), reference_encode(z[:, order], codebooks[:, :, order]))


@pytest.mark.parametrize("dimension", [24, 128, 130])
def test_nothing_beside_the_arguments_is_read(device, dimension, uninitialised_is_nan):
    """Arguments cut out of storage full of NaN, and scratch memory that starts as NaN, change no bit."""
    from streamcodec_kernels import rvq

    z, codebooks = problem(5, 2, 100, dimension, device)
    half_norms = codebooks.square().sum(-1) * 0.5
    expected = rvq.rvq_encode(z, codebooks, half_norms)
    assert_codes_agree(z, codebooks, expected)
    codes = rvq.rvq_encode(island(z), island(codebooks), island(half_norms))
    assert torch.equal(codes, expected)
    decoded = rvq.rvq_decode(island(codes, 2**62), island(codebooks))
    assert torch.equal(decoded, reference_decode(expected, codebooks))


@pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")  # the interpreter's NumPy
@pytest.mark.parametrize("dimension", [24, 130])
@pytest.mark.parametrize("poison", [NAN, float("inf"), float("-inf"), 3e38])
def test_a_poisoned_row_gets_valid_codes_and_harms_no_other(device, dimension, poison):
    from streamcodec_kernels import rvq

    z, codebooks = problem(9, 3, 100, dimension, device)
    clean = rvq.rvq_encode(z, codebooks)
    z[4] = poison
    assert_only_row_four_is_harmed(rvq.rvq_encode(z, codebooks), clean, 100)


@pytest.mark.parametrize("dimension", [24, 130])
def test_strided_arguments(device, dimension):
    from streamcodec_kernels import rvq

    z, codebooks = problem(6, 3, 50, dimension, device)
    expected = rvq.rvq_encode(z[::2].contiguous(), codebooks)
    columns_first = codebooks.mT.contiguous().mT
    assert torch.equal(rvq.rvq_encode(z[::2], columns_first), expected)
    assert torch.equal(rvq.rvq_decode(expected[:, :2], columns_first), reference_decode(expected[:, :2], codebooks))


def test_fewer_stages_are_a_prefix(device):
    from streamcodec_kernels import rvq

    z, codebooks = problem(5, 4, 50, 32, device)
    whole = rvq.rvq_encode(z, codebooks)
    for used in range(1, 5):
        assert torch.equal(rvq.rvq_encode(z, codebooks[:used]), whole[:, :used])


def test_a_code_outside_the_codebook_adds_nothing(device):
    from streamcodec_kernels import rvq

    _, codebooks = problem(1, 2, 50, 32, device)
    codes = torch.tensor([[7, 50], [-1, 3], [2**40, -(2**40)]], device=device)
    z = rvq.rvq_decode(codes, codebooks)
    assert torch.equal(z, torch.stack([codebooks[0, 7], codebooks[1, 3], torch.zeros(32, device=device)]))


def test_refused_arguments_say_why(device):
    from streamcodec_kernels import rvq

    z, codebooks = problem(5, 2, 50, 32, device)
    with pytest.raises(ValueError, match=r"z must be torch\.float32, not torch\.float64"):
        rvq.rvq_encode(z.double(), codebooks)
    with pytest.raises(ValueError, match=r"codes must be torch\.int64, not torch\.int32"):
        rvq.rvq_decode(torch.zeros(5, 2, dtype=torch.int32, device=device), codebooks)
    with pytest.raises(ValueError, match="no gradient"):
        rvq.rvq_decode(torch.zeros(5, 2, dtype=torch.int64, device=device), codebooks.clone().requires_grad_())
    with pytest.raises(ValueError, match="one device"):
        rvq.rvq_encode(z, codebooks.to("meta") if device == "cpu" else codebooks.cpu())


def test_excess_distance_sees_a_wrong_code():
    z, codebooks = problem(5, 3, 50, 16)
    codes = reference_encode(z, codebooks)
    assert excess_distance(z, codebooks, codes).max() < NEAR_TIE
    codes[2, 1] = (codes[2, 1] + 1) % 50
    excess = excess_distance(z, codebooks, codes)
    assert excess[2, 1] > 0.01
    assert excess[torch.arange(5) != 2].max() < NEAR_TIE


@pytest.mark.slow
def test_kernels_compile_for_gpus_that_are_not_here(tmp_path):
    """Triton compiles for a GPU by name: see that each kernel builds, fits and computes in float32."""
    assert "all kernels compile" in compile_without_a_gpu("compile_rvq.py", tmp_path)


def run_benchmark(monkeypatch, encode, has_gpu: bool) -> int:
    """bench_rvq on one tiny problem on the CPU, with `encode` for its only column."""
    from streamcodec_kernels import bench_rvq

    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "the device")
    monkeypatch.setattr("triton.testing.do_bench", lambda call, return_mode: 1.25)
    monkeypatch.setattr(bench_rvq, "random_problem", lambda *arguments: problem(*arguments[:4]))
    monkeypatch.setattr(bench_rvq, "implementations", lambda: {"candidate": encode})
    monkeypatch.setattr(bench_rvq, "ROWS", (7,))
    monkeypatch.setattr(bench_rvq, "CODEBOOKS", ((3, 20, 8),))
    return bench_rvq.main()


def test_the_benchmark_reports_right_codes_and_refuses_wrong_ones(device, monkeypatch, capsys):
    assert run_benchmark(monkeypatch, reference_encode, has_gpu=True) == 0
    assert "| 7 | 3 | 20 | 8 | 1.250 |" in capsys.readouterr().out

    def one_wrong_code(*arguments: Tensor) -> Tensor:
        codes = reference_encode(*arguments)
        codes[3, 1] = (codes[3, 1] + 1) % 20
        return codes

    assert run_benchmark(monkeypatch, one_wrong_code, has_gpu=True) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert "codes are wrong" in output.err


def test_the_benchmark_says_that_it_needs_a_gpu(device, monkeypatch, capsys):
    assert run_benchmark(monkeypatch, reference_encode, has_gpu=False) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "no NVIDIA GPU" in output.err


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("input_precision", ["ieee", "tf32x3"])
@pytest.mark.parametrize(
    ("rows", "stages", "size", "dimension"),
    [(4099, 8, 1024, 128), (4099, 32, 1024, 128), (1031, 4, 1000, 1024), (1031, 9, 1024, 8)],
)
def test_compiled_codes_equal_the_reference(rows, stages, size, dimension, input_precision):
    from streamcodec_kernels import rvq

    z, codebooks = problem(rows, stages, size, dimension, "cuda")
    assert not rvq.INTERPRETED
    codes = rvq.rvq_encode(z, codebooks, input_precision=input_precision)
    assert_codes_agree(z, codebooks, codes)
    assert torch.equal(rvq.rvq_decode(codes, codebooks), reference_decode(codes, codebooks))


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("dimension", [128, 1024])
def test_compiled_rows_are_the_same_to_the_bit_in_any_batch(dimension):
    from streamcodec_kernels import rvq

    z, codebooks = sensitive_problem(5000, dimension, "cuda")
    whole = rvq.rvq_encode(z, codebooks)
    assert torch.equal(torch.cat([rvq.rvq_encode(part, codebooks) for part in z.split(333)]), whole)
    assert torch.equal(rvq.rvq_encode(z, codebooks), whole)


@pytest.mark.gpu
@gpu
def test_compiled_kernels_replay_in_a_cuda_graph():
    from streamcodec_kernels import rvq

    z, codebooks = problem(64, 8, 1024, 128, "cuda")
    half_norms = codebooks.square().sum(-1) * 0.5
    static = torch.zeros_like(z)
    rvq.rvq_decode(rvq.rvq_encode(static, codebooks, half_norms), codebooks)  # compile before the capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        codes = rvq.rvq_encode(static, codebooks, half_norms)
        decoded = rvq.rvq_decode(codes, codebooks)
    static.copy_(z)
    graph.replay()
    assert torch.equal(codes, rvq.rvq_encode(z, codebooks, half_norms))
    assert torch.equal(decoded, reference_decode(codes, codebooks))
