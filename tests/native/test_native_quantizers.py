"""The quantizers in C++ against the plain references, on every instruction set."""

import copy

import pytest
import torch
from kernel_checks import NAN, assert_near_ties_alone, assert_only_row_four_is_harmed, island
from sets import HERE, compiled, each_set, on
from streamcodec_kernels import factorised_reference, rvq_reference
from torch import Tensor

from streamcodec import native_support, ops
from streamcodec.errors import BackendError, ShapeError
from streamcodec.nn.factorised import FactorisedQuantizer
from streamcodec.nn.levels import LevelQuantizer
from streamcodec.nn.quantize import ResidualVectorQuantizer

# rows, stages, size, dimension
EUCLIDEAN = [(1, 1, 1, 8), (1, 4, 1024, 128), (5, 3, 3, 24), (37, 2, 100, 130), (13, 2, 1000, 7), (2, 2, 70, 1)]
FACTORISED = [(1, 1, 1, 8), (1, 9, 1024, 8), (5, 32, 16, 8), (123, 4, 20, 4), (5, 3, 1000, 5), (17, 2, 3, 1)]


def euclidean(z: Tensor, codebooks: Tensor) -> Tensor:
    return ops.rvq_encode(z, codebooks, backend="native")


def factorised(projected: Tensor, scan: Tensor, codebooks: Tensor, cross: Tensor) -> Tensor:
    """With a projection that leaves `projected` as it is."""
    width = projected.shape[1]
    return ops.factorised_encode(
        projected, torch.eye(width), torch.zeros(width), scan, codebooks, cross, backend="native"
    )


@each_set
@pytest.mark.parametrize("shape", EUCLIDEAN)
def test_euclidean_codes_equal_the_reference(name, shape):
    z, codebooks = rvq_reference.random_problem(*shape)
    before = z.clone()
    with on(name):
        codes = euclidean(z, codebooks)
    expected, excess = rvq_reference.rvq_encode(z, codebooks), rvq_reference.excess_distance(z, codebooks, codes)
    assert_near_ties_alone(codes, expected, shape[2], excess, rvq_reference.NEAR_TIE)
    assert torch.equal(z, before)


@each_set
@pytest.mark.parametrize("shape", EUCLIDEAN)
def test_sums_of_entries_have_the_references_bits_and_a_code_that_is_none_adds_nothing(name, shape):
    rows, stages, size, _ = shape
    _, codebooks = rvq_reference.random_problem(*shape)
    codes = torch.randint(size, (rows, stages), generator=torch.Generator().manual_seed(1))
    with on(name):
        assert torch.equal(ops.rvq_decode(codes, codebooks, backend="native"), ops.rvq_decode(codes, codebooks))
        assert torch.equal(
            ops.rvq_decode(codes[:, :1], codebooks, backend="native"), codebooks[0].index_select(0, codes[:, 0])
        )
        for outside in (-1, size, 2**40):
            given = torch.cat([codes, torch.full((rows, 1), outside)], 1)
            more = torch.cat([codebooks, codebooks[:1]])
            assert torch.equal(
                ops.rvq_decode(given, more, backend="native"), ops.rvq_decode(codes, codebooks, backend="native")
            )


@each_set
@pytest.mark.parametrize("shape", FACTORISED)
def test_factorised_codes_equal_the_reference(name, shape):
    tensors = factorised_reference.random_problem(*shape)
    with on(name):
        codes = factorised(*tensors)
    excess = factorised_reference.excess_direction(tensors[0], tensors[2], tensors[3], codes)
    expected = factorised_reference.factorised_encode(*tensors)
    assert_near_ties_alone(codes, expected, shape[2], excess, factorised_reference.NEAR_TIE)


@each_set
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 72, 1024), (20, 130, 37), (7, 5, 200)])
def test_projections_equal_torch_and_have_the_same_bits_in_any_batch(name, shape):
    rows, inputs, outputs = shape
    torch.manual_seed(0)
    x, weight, bias = torch.randn(rows, inputs), torch.randn(inputs, outputs), torch.randn(outputs)
    with on(name):
        y = ops.factorised_decode(x, weight, bias, backend="native")
        apart = [ops.factorised_decode(island(row), island(weight), bias, backend="native") for row in x.split(1)]
        z = ops.project(x, weight, backend="native")
        assert torch.equal(ops.factorised_decode(x, weight, torch.zeros(outputs), backend="native"), z)
    torch.testing.assert_close(y, x @ weight + bias, rtol=0, atol=1e-5 * inputs**0.5)
    torch.testing.assert_close(z, x @ weight, rtol=0, atol=1e-5 * inputs**0.5)
    assert torch.equal(torch.cat(apart), y)


@each_set
@pytest.mark.parametrize("shape", EUCLIDEAN)
def test_entries_in_strips_have_the_same_codes_as_in_any_other_arrangement(name, shape):
    """Those for another instruction set too, and those of some stages alone."""
    z, codebooks = rvq_reference.random_problem(*shape)
    half_norms = ops.rvq_half_norms(codebooks)
    expected = euclidean(z, codebooks)
    for other in HERE:
        with on(other):
            strips = ops.arranged("rvq_encode", "native", codebooks)
        with on(name):
            found = ops.rvq_encode(z, codebooks, half_norms, strips, backend="native")
            assert torch.equal(found, euclidean(z, codebooks))
            last = slice(shape[1] - 1, None)
            alone = ops.rvq_encode(z, codebooks[last], half_norms[last], strips[last], backend="native")
            assert torch.equal(alone, euclidean(z, codebooks[last]))
    excess = rvq_reference.excess_distance(z, codebooks, found)
    assert_near_ties_alone(found, expected, shape[2], excess, rvq_reference.NEAR_TIE)


@each_set
@pytest.mark.parametrize("shape", EUCLIDEAN)
def test_entries_that_float16_holds_take_half_the_bytes_and_have_the_same_codes(name, shape):
    """Near copies of few entries, some of them subnormal in float16: a bit of difference would change the codes."""
    z, codebooks = rvq_reference.random_problem(*shape)
    size = shape[2]
    few = codebooks[:, : max(1, size // 10)].repeat(1, 10, 1)[:, :size].contiguous()
    few[:, -1] *= 2.0**-20
    halves = (few * (1 + 2**-10 * torch.randn(few.shape, generator=torch.Generator().manual_seed(5)))).half().float()
    half_norms, others = ops.rvq_half_norms(halves), halves.clone()
    others[-1, -1, -1] = 1 / 3  # one number that float16 has not
    for latents in (z, z[:1], 2.0**-20 * z):
        with on(name):
            strips = ops.arranged("rvq_encode", "native", halves)
            assert (strips.dtype == torch.float16) == native_support.instruction_set().halves
            assert ops.arranged("rvq_encode", "native", others).dtype == torch.float32
            expected = ops.rvq_encode(latents, halves, half_norms, backend="native")
            found = ops.rvq_encode(latents, halves, half_norms, strips, backend="native")
        assert torch.equal(found, expected)
    for other in HERE:
        with on(other):
            elsewhere = ops.rvq_encode(z, halves, half_norms, strips, backend="native")
            assert torch.equal(elsewhere, ops.rvq_encode(z, halves, half_norms, backend="native"))


@compiled
@pytest.mark.parametrize("kind", ["euclidean", "factorised", "levels"])
def test_entries_that_change_are_looked_through_from_then_on(kind):
    make = {
        "euclidean": lambda: ResidualVectorQuantizer(3, 70, 24),
        "factorised": lambda: FactorisedQuantizer(3, 70, 8, 24),
        "levels": lambda: LevelQuantizer((1, 2), 70, 8, 2, 12),
    }[kind]
    torch.manual_seed(0)
    quantizer, latents = make(), torch.randn(2, 9, 24)
    in_torch, native = copy.copy(quantizer), copy.copy(quantizer)
    in_torch.backend, native.backend = "torch", "native"
    for change in (
        lambda: None,
        lambda: native.set_codebooks(torch.randn_like(native.codebooks)),
        lambda: in_torch.load_state_dict(make().state_dict()),
        lambda: native.load_state_dict(make().state_dict()),
    ):
        change()
        assert torch.equal(native.encode(latents, 3), in_torch.encode(latents, 3))


@compiled
def test_an_arrangement_that_is_not_the_backends_is_refused():
    z, codebooks = rvq_reference.random_problem(6, 4, 50, 24)
    strips = ops.arranged("rvq_encode", "native", codebooks)
    for backend, scan in (("torch", strips), ("native", strips[:2]), ("native", strips[:, :0]), ("native", strips.mT)):
        with pytest.raises(ShapeError, match=rf"must be \[4, 24, 50\], or what arranged\('rvq_encode', '{backend}'"):
            ops.rvq_encode(z, codebooks, None, scan, backend=backend)


@each_set
def test_exact_ties_go_to_the_lowest_index(name):
    """Small integers: sums are exact in any order, so every entry, which is there three times, ties with its copies."""
    generator = torch.Generator().manual_seed(2)
    z = torch.randint(-3, 4, (21, 16), generator=generator).float()
    few = torch.randint(-1, 2, (1, 100, 16), generator=generator).float()
    codebooks = torch.cat([few, few[:, torch.randperm(100, generator=generator)], few], 1)
    with on(name):
        codes = euclidean(z, codebooks)
    distance = (z[:, None] - codebooks[0]).square().sum(2)
    nearest = distance == distance.amin(1, keepdim=True)
    assert (nearest.sum(1) >= 2).all()
    assert torch.equal(codes[:, 0], nearest.int().argmax(1))


@each_set
def test_a_row_has_the_same_codes_in_any_batch(name):
    """Entries of near copies a few units in the last place apart: any change of rounding changes the codes."""
    z, codebooks = rvq_reference.random_problem(21, 3, 10, 24)
    noise = torch.randn(3, 150, 24, generator=torch.Generator().manual_seed(3))
    codebooks = codebooks.repeat(1, 15, 1) * (1 + 2**-23 * noise)
    order = torch.randperm(21, generator=torch.Generator().manual_seed(4))
    with on(name):
        whole = euclidean(z, codebooks)
        for cuts in ([1, 1, 1, 18], [5, 16], [17, 4]):
            assert torch.equal(torch.cat([euclidean(part, codebooks) for part in z.split(cuts)]), whole)
        assert torch.equal(euclidean(z[order], codebooks), whole[order])
        turned = euclidean(z.flip(1), codebooks.flip(2))
    assert not torch.equal(turned, whole)  # the comparisons above see rounding


@each_set
@pytest.mark.parametrize("poison", [NAN, float("inf"), float("-inf"), 3e38])
def test_a_poisoned_row_gets_valid_codes_and_harms_no_other(name, poison):
    z, codebooks = rvq_reference.random_problem(9, 3, 100, 24)
    projected, *rest = factorised_reference.random_problem(9, 3, 100, 8)
    with on(name):
        clean, clean_factorised = euclidean(z, codebooks), factorised(projected, *rest)
        z[4] = projected[4] = poison
        assert_only_row_four_is_harmed(euclidean(z, codebooks), clean, 100)
        poisoned = ops.factorised_encode(
            island(projected), torch.eye(24), torch.zeros(24), *map(island, rest), backend="native"
        )
        assert_only_row_four_is_harmed(poisoned, clean_factorised, 100)


@compiled
def test_no_latents_make_no_codes_and_fewer_stages_are_a_prefix():
    z, codebooks = rvq_reference.random_problem(6, 4, 50, 24)
    assert euclidean(z[:0], codebooks).shape == (0, 4)
    whole = euclidean(z, codebooks)
    for used in range(1, 5):
        assert torch.equal(euclidean(z, codebooks[:used]), whole[:, :used])
    turned = (z.T.contiguous().T, codebooks.mT.contiguous().mT)
    assert torch.equal(euclidean(*turned), whole)


@compiled
def test_another_type_is_refused_by_name():
    z, codebooks = rvq_reference.random_problem(6, 4, 50, 24)
    with pytest.raises(BackendError, match=r"in float32 on a CPU; these are torch.float64.*'auto' or 'torch'"):
        euclidean(z.double(), codebooks.double())
