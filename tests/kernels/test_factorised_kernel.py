"""The projected quantizer kernel against the plain reference: compiled on a GPU, in Triton's interpreter elsewhere."""

import pytest
import torch
import torch.nn.functional as F
from kernel_checks import (
    NAN,
    assert_near_ties_alone,
    assert_only_row_four_is_harmed,
    compile_without_a_gpu,
    gpu,
    island,
)
from streamcodec_kernels.factorised_reference import NEAR_TIE, excess_direction
from streamcodec_kernels.factorised_reference import factorised_encode as reference
from streamcodec_kernels.factorised_reference import random_problem as problem
from torch import Tensor


def assert_codes_agree(tensors: tuple[Tensor, ...], codes: Tensor) -> None:
    """Codes equal the reference's, or the two nearest directions nearly tie; from there on each is right by itself."""
    projected, _, codebooks, cross = tensors
    excess = excess_direction(projected, codebooks, cross, codes)
    assert_near_ties_alone(codes, reference(*tensors), codebooks.shape[1], excess, NEAR_TIE)


SHAPES = [  # rows, stages, size, dimension
    (1, 1, 1, 8),
    (1, 9, 1024, 8),
    (5, 32, 16, 8),
    (63, 3, 100, 8),
    (123, 4, 20, 4),
    (5, 3, 1000, 5),
    (17, 2, 3, 1),
    (5, 6, 300, 17),
    (16, 2, 128, 32),
]


@pytest.mark.parametrize(("rows", "stages", "size", "dimension"), SHAPES)
def test_codes_equal_the_reference(device, rows, stages, size, dimension):
    from streamcodec_kernels import factorised

    tensors = problem(rows, stages, size, dimension, device)
    before = [tensor.clone() for tensor in tensors]
    assert_codes_agree(tensors, factorised.factorised_encode(*tensors))
    assert all(torch.equal(a, b) for a, b in zip(tensors, before, strict=True))


def test_no_latents_make_no_codes(device):
    from streamcodec_kernels import factorised

    codes = factorised.factorised_encode(*problem(0, 3, 20, 8, device))
    assert codes.shape == (0, 3)
    assert codes.dtype == torch.int64


def test_exact_ties_go_to_the_lowest_index(device):
    """Small integers: products are exact in any order, so equal directions tie, in a tile and across tiles."""
    from streamcodec_kernels import factorised

    generator = torch.Generator().manual_seed(2)
    projected = torch.randint(-3, 4, (21, 16), generator=generator).float().to(device)
    few = torch.randint(-1, 2, (2, 100, 8), generator=generator).float()
    scan = torch.cat([few, few[:, torch.randperm(100, generator=generator)], few], 1).mT.contiguous().to(device)
    codebooks = scan.mT.contiguous()
    cross = torch.randint(-1, 2, (2, 8, 16), generator=generator).float().to(device)
    codes, left = factorised.factorised_encode(projected, scan, codebooks, cross), projected.double()
    for stage in range(2):
        scores = left[:, 8 * stage : 8 * stage + 8] @ scan[stage].double()
        is_nearest = scores == scores.amax(1, keepdim=True)
        assert (is_nearest.sum(1) >= 2).all()
        assert torch.equal(codes[:, stage], is_nearest.int().argmax(1))
        left = left - codebooks[stage][codes[:, stage]].double() @ cross[stage].double()


def test_a_row_is_the_same_to_the_bit_in_any_batch(device, ordered_dot):
    """Directions of near copies a few units in the last place apart: any change of rounding changes the codes."""
    from streamcodec_kernels import factorised

    projected, scan, codebooks, cross = problem(21, 3, 10, 8, device)
    noise = torch.randn(3, 8, 150, generator=torch.Generator().manual_seed(3)).to(device)
    scan = scan.repeat(1, 1, 15) * (1 + 2**-23 * noise)
    rest = (scan, codebooks.repeat(1, 15, 1), cross)
    whole = factorised.factorised_encode(projected, *rest)
    for cuts in ([1, 1, 1, 18], [5, 16], [17, 4]):
        parts = [factorised.factorised_encode(part, *rest) for part in projected.split(cuts)]
        assert torch.equal(torch.cat(parts), whole)
    # The same sums in the other order give other codes, so the comparisons above see rounding.
    turned = (projected.view(21, 3, 8).flip(2).flatten(1), scan.flip(1), rest[1].flip(2))
    cross = cross.view(3, 8, 3, 8).flip(1, 3).flatten(2)
    assert not torch.equal(factorised.factorised_encode(*turned, cross), whole)


def test_nothing_beside_the_arguments_is_read(device, uninitialised_is_nan):
    """Arguments cut out of storage full of NaN, and scratch memory that starts as NaN, change no bit."""
    from streamcodec_kernels import factorised

    tensors = problem(5, 3, 100, 5, device)
    expected = factorised.factorised_encode(*tensors)
    codes = factorised.factorised_encode(*(island(tensor) for tensor in tensors))
    assert torch.equal(codes, expected)


@pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")  # the interpreter's NumPy
@pytest.mark.parametrize("poison", [NAN, float("inf"), float("-inf"), 3e38])
def test_a_poisoned_row_gets_valid_codes_and_harms_no_other(device, poison):
    from streamcodec_kernels import factorised

    projected, *rest = problem(9, 3, 100, 8, device)
    clean = factorised.factorised_encode(projected, *rest)
    projected[4] = poison
    assert_only_row_four_is_harmed(factorised.factorised_encode(projected, *rest), clean, 100)


def test_fewer_stages_are_a_prefix_and_strides_do_not_matter(device):
    from streamcodec_kernels import factorised

    projected, scan, codebooks, cross = problem(6, 4, 50, 8, device)
    whole = factorised.factorised_encode(projected, scan, codebooks, cross)
    for used in range(1, 5):
        views = (projected[:, : 8 * used], scan[:used], codebooks[:used], cross[:used, :, : 8 * used])
        assert torch.equal(factorised.factorised_encode(*views), whole[:, :used])
    turned = (projected.T.contiguous().T, scan.mT.contiguous().mT, codebooks.mT.contiguous().mT)
    assert torch.equal(factorised.factorised_encode(*turned, cross.mT.contiguous().mT), whole)


def test_refused_arguments_say_why(device):
    from streamcodec_kernels import factorised

    tensors = problem(5, 2, 50, 8, device)
    with pytest.raises(ValueError, match=r"projected must be torch\.float32, not torch\.float64"):
        factorised.factorised_encode(tensors[0].double(), *tensors[1:])
    with pytest.raises(ValueError, match="33 dimensions, and the kernel takes at most 32"):
        factorised.factorised_encode(*problem(5, 2, 50, 33, device))
    with pytest.raises(ValueError, match="one device"):
        factorised.factorised_encode(*tensors[:3], tensors[3].to("meta") if device == "cpu" else tensors[3].cpu())


def test_excess_direction_sees_a_wrong_code():
    projected, scan, codebooks, cross = problem(5, 3, 50, 8)
    codes = reference(projected, scan, codebooks, cross)
    assert excess_direction(projected, codebooks, cross, codes).max() < NEAR_TIE
    codes[2, 1] = (codes[2, 1] + 1) % 50
    excess = excess_direction(projected, codebooks, cross, codes)
    assert excess[2, 1] > 0.01
    assert excess[torch.arange(5) != 2].max() < NEAR_TIE


def test_a_near_tie_is_what_float32_cannot_tell():
    """Two directions whose scores differ by a known part of the projection's length."""
    projected = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    for part, tie in ((2.0**-21, True), (2.0**-19, False)):
        angle = torch.tensor(2 * part, dtype=torch.float64).sqrt()  # 1 - cos(angle) = part
        codebooks = torch.stack([torch.tensor([1.0, 0.0]).double(), torch.stack([angle.cos(), angle.sin()])])[None]
        cross = torch.zeros(1, 2, 2, dtype=torch.float64)
        excess = excess_direction(projected, codebooks, cross, torch.tensor([[1]]))
        assert abs(float(excess) / part - 1) < 1e-3
        assert bool(excess < NEAR_TIE) == tie


def test_the_kernel_compiles_for_gpus_that_are_not_here(tmp_path):
    """Triton compiles for a GPU by name: see that the kernel builds, fits and computes in float32."""
    assert "the kernel compiles" in compile_without_a_gpu("compile_factorised.py", tmp_path)


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize(
    ("rows", "stages", "size", "dimension"), [(1, 9, 1024, 8), (4099, 9, 1024, 8), (1031, 32, 1024, 8), (999, 5, 77, 3)]
)
def test_compiled_codes_equal_the_reference(rows, stages, size, dimension):
    from streamcodec_kernels import factorised

    tensors = problem(rows, stages, size, dimension, "cuda")
    assert not factorised.INTERPRETED
    codes = factorised.factorised_encode(*tensors)
    assert_codes_agree(tensors, codes)
    parts = [factorised.factorised_encode(part, *tensors[1:]) for part in tensors[0].split(333)]
    assert torch.equal(torch.cat(parts), codes)


@pytest.mark.gpu
@gpu
def test_the_compiled_kernel_replays_in_a_cuda_graph():
    from streamcodec_kernels import factorised

    projected, *rest = problem(64, 9, 1024, 8, "cuda")
    static = torch.zeros_like(projected)
    factorised.factorised_encode(static, *rest)  # compile before the capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        codes = factorised.factorised_encode(static, *rest)
    static.copy_(projected)
    graph.replay()
    assert torch.equal(codes, factorised.factorised_encode(projected, *rest))


@pytest.mark.gpu
@gpu
def test_auto_on_a_gpu_is_triton_for_float32_and_torch_for_the_rest(monkeypatch):
    from streamcodec import ops
    from streamcodec.nn.factorised import FactorisedQuantizer

    served = []
    run_triton = ops._run_triton
    monkeypatch.setattr(ops, "_run_triton", lambda *a: served.append(a[1]) or run_triton(*a))
    rvq = FactorisedQuantizer(4, 100, 8, 64).cuda()
    latents = F.normalize(torch.randn(2, 30, 64, device="cuda"), dim=2)
    codes = rvq.encode(latents, 3)
    assert served == ["factorised_encode"]
    expected = rvq.double().encode(latents.double(), 3)
    assert served == ["factorised_encode"]
    assert (codes != expected).any(2).float().mean() <= 0.05
