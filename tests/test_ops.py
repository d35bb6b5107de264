"""The operation table: the torch references, and who serves when."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from streamcodec import ops
from streamcodec.errors import BackendError, DtypeError, InputError, ShapeError


def random_codebooks(stages: int, size: int, dimension: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(stages * size + dimension)
    return torch.randn(stages, size, dimension, generator=generator, dtype=dtype)


def greedy_search(z: Tensor, codebooks: Tensor) -> Tensor:
    """The definition: z [D] to codes [K], one distance at a time."""
    codes = []
    for vectors in codebooks:
        distances = [float((z - vector).square().sum()) for vector in vectors]
        codes.append(distances.index(min(distances)))
        z = z - vectors[codes[-1]]
    return torch.tensor(codes)


@settings(deadline=None, max_examples=30)
@given(
    lead=st.lists(st.integers(0, 3), max_size=3),
    stages=st.integers(1, 4),
    size=st.integers(1, 20),
    dimension=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_encode_is_the_greedy_search(lead, stages, size, dimension, seed):
    codebooks = random_codebooks(stages, size, dimension)
    z = torch.randn(*lead, dimension, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    codes = ops.rvq_encode(z, codebooks)
    assert codes.shape == (*lead, stages)
    assert codes.dtype == torch.int64
    for row, found in zip(z.reshape(-1, dimension), codes.reshape(-1, stages), strict=True):
        assert torch.equal(found, greedy_search(row, codebooks))
    assert torch.equal(ops.rvq_encode(z, codebooks, ops.rvq_half_norms(codebooks)), codes)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), size=st.integers(2, 300))
def test_exact_ties_go_to_the_lowest_index(seed, size):
    """Vectors of small integers: sums are exact in any order, so nearest vectors tie exactly, and often."""
    generator = torch.Generator().manual_seed(seed)
    codebooks = torch.randint(-1, 2, (1, size, 4), generator=generator).float()
    z = torch.randint(-2, 3, (25, 4), generator=generator).float()
    distance = (z[:, None] - codebooks[0]).square().sum(2).tolist()
    expected = [row.index(min(row)) for row in distance]
    assert ops.rvq_encode(z, codebooks)[:, 0].tolist() == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dimension", [1, 8, 24, 128, 130])
def test_decode_adds_stages_in_order_to_the_bit(dtype, dimension):
    codebooks = random_codebooks(6, 50, dimension, dtype) * 3 ** torch.arange(6).view(-1, 1, 1)
    codes = torch.randint(0, 50, (3, 7, 6), generator=torch.Generator().manual_seed(0))
    for used in range(1, 7):
        expected = torch.zeros(3, 7, dimension, dtype=dtype)
        for stage in range(used):
            expected = expected + codebooks[stage][codes[..., stage]]
        assert torch.equal(ops.rvq_decode(codes[..., :used], codebooks), expected)


def test_decode_starts_at_positive_zero():
    z = ops.rvq_decode(torch.zeros(1, 1, dtype=torch.int64), torch.full((1, 1, 3), -0.0))
    assert not torch.signbit(z).any()


def test_no_latents_make_no_codes():
    codebooks = random_codebooks(3, 5, 8)
    codes = ops.rvq_encode(torch.empty(2, 0, 8, dtype=torch.float64), codebooks)
    assert codes.shape == (2, 0, 3)
    assert ops.rvq_decode(codes, codebooks).shape == (2, 0, 8)


def test_strided_arguments():
    codebooks = random_codebooks(3, 20, 8)
    z = torch.randn(10, 8, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).mT
    codes = ops.rvq_encode(z.contiguous(), codebooks)
    columns_first = codebooks.mT.contiguous().mT
    assert torch.equal(ops.rvq_encode(z, columns_first), codes)
    codes_first = codes.mT.contiguous().mT
    assert torch.equal(ops.rvq_decode(codes_first, columns_first), ops.rvq_decode(codes, codebooks))


def test_gradients_flow_to_the_codebooks_alone():
    codebooks = random_codebooks(2, 5, 8).requires_grad_()
    z = torch.ones(4, 8, dtype=torch.float64, requires_grad=True)
    codes = ops.rvq_encode(z, codebooks)
    ops.rvq_decode(codes, codebooks).sum().backward()
    assert z.grad is None
    uses = torch.nn.functional.one_hot(codes, 5).sum(0).double()
    assert torch.equal(codebooks.grad, uses[:, :, None].expand(2, 5, 8))


@pytest.mark.parametrize(
    ("z", "codebooks", "half_norms", "error", "message"),
    [
        ((4, 7), (2, 5, 8), None, ShapeError, r"z is \[4, 7\]; its last dimension must be the codebooks' 8"),
        ((), (2, 5, 8), None, ShapeError, r"z is \[\]"),
        ((4, 8), (5, 8), None, ShapeError, r"codebooks are \[5, 8\]"),
        ((4, 8), (2, 0, 8), None, ShapeError, r"codebooks are \[2, 0, 8\]"),
        ((4, 8), (2, 5, 8), (2, 4), ShapeError, r"half_norms is \[2, 4\]; it must be \[2, 5\]"),
    ],
)
def test_encode_refuses_shapes_that_do_not_fit(z, codebooks, half_norms, error, message):
    with pytest.raises(error, match=message):
        ops.rvq_encode(torch.zeros(z), torch.zeros(codebooks), None if half_norms is None else torch.zeros(half_norms))


@pytest.mark.parametrize("shape", [(), (4, 0), (4, 3)])
def test_decode_refuses_shapes_that_do_not_fit(shape):
    with pytest.raises(ShapeError, match="1 to 2 codebooks"):
        ops.rvq_decode(torch.zeros(shape, dtype=torch.int64), torch.zeros(2, 5, 8))


def test_dtypes_that_do_not_fit_are_refused():
    z, codebooks = torch.zeros(4, 8), torch.zeros(2, 5, 8)
    with pytest.raises(DtypeError, match=r"z is torch\.float64 and the codebooks are torch\.float32"):
        ops.rvq_encode(z.double(), codebooks)
    with pytest.raises(DtypeError, match=r"half_norms is torch\.float64"):
        ops.rvq_encode(z, codebooks, torch.zeros(2, 5, dtype=torch.float64))
    with pytest.raises(DtypeError, match=r"codebooks are torch\.int64"):
        ops.rvq_encode(z.long(), codebooks.long())
    with pytest.raises(DtypeError, match=r"codes are torch\.int32"):
        ops.rvq_decode(torch.zeros(4, 2, dtype=torch.int32), codebooks)


def test_devices_that_do_not_fit_are_refused():
    z, codebooks = torch.zeros(4, 8), torch.zeros(2, 5, 8)
    with pytest.raises(InputError, match="z is on meta, the codebooks on cpu"):
        ops.rvq_encode(z.to("meta"), codebooks)
    with pytest.raises(InputError, match="half_norms is on meta"):
        ops.rvq_encode(z, codebooks, torch.zeros(2, 5, device="meta"))
    with pytest.raises(InputError, match="codes are on cpu, the codebooks on meta"):
        ops.rvq_decode(torch.zeros(4, 2, dtype=torch.int64), codebooks.to("meta"))


def factorised_arguments(dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Three stages of 10 entries in 4 dimensions, for latents of 6 channels."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"z": (2, 7, 6), "weight": (6, 12), "bias": (12,), "codebooks": (3, 10, 4), "cross": (3, 4, 12)}
    arguments = {name: torch.randn(shape, generator=generator, dtype=dtype) for name, shape in shapes.items()}
    for stage in range(3):
        arguments["cross"][stage, :, : 4 * stage + 4] = 0
    return arguments | {"scan": torch.nn.functional.normalize(arguments["codebooks"], dim=2).mT.contiguous()}


def test_factorised_encode_is_the_definition():
    """One row and one cosine at a time."""
    a = factorised_arguments()
    codes = ops.factorised_encode(**a)
    assert codes.shape == (2, 7, 3)
    assert codes.dtype == torch.int64
    for row, found in zip(a["z"].flatten(0, 1), codes.flatten(0, 1), strict=True):
        left = row @ a["weight"] + a["bias"]
        for stage, code in enumerate(found.tolist()):
            own = left[4 * stage : 4 * stage + 4]
            cosines = [float(torch.cosine_similarity(own, entry, dim=0)) for entry in a["codebooks"][stage]]
            assert code == cosines.index(max(cosines))
            left = left - a["codebooks"][stage, code] @ a["cross"][stage]


def test_factorised_encode_takes_its_rows_in_blocks(monkeypatch):
    a = factorised_arguments()
    whole = ops.factorised_encode(**a)
    for rows in (1, 5, 13, 14):
        monkeypatch.setattr(ops, "_FACTORISED_ROWS", rows)
        assert torch.equal(ops.factorised_encode(**a), whole)
    assert ops.factorised_encode(**(a | {"z": a["z"][:, :0]})).shape == (2, 0, 3)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("z", (4, 7), r"z is \[4, 7\] and weight is \[6, 12\]; they must be \[..., D\] and \[D, 12\]"),
        ("z", (), r"z is \[\]"),
        ("weight", (6, 11), r"weight is \[6, 11\]; with these codebooks it must be \[6, 12\]"),
        ("bias", (1,), r"bias is \[1\]; with these codebooks it must be \[12\]"),
        ("scan", (3, 10, 4), r"scan is \[3, 10, 4\]; with these codebooks it must be \[3, 4, 10\]"),
        ("cross", (3, 4, 8), r"cross is \[3, 4, 8\]; with these codebooks it must be \[3, 4, 12\]"),
        ("codebooks", (10, 4), r"codebooks are \[10, 4\]"),
    ],
)
def test_factorised_encode_refuses_shapes_that_do_not_fit(name, shape, message):
    with pytest.raises(ShapeError, match=message):
        ops.factorised_encode(**(factorised_arguments() | {name: torch.zeros(shape, dtype=torch.float64)}))


@pytest.mark.parametrize("name", ["z", "weight", "bias", "scan", "cross"])
def test_factorised_encode_refuses_mixed_dtypes_and_devices(name):
    a = factorised_arguments()
    with pytest.raises(DtypeError, match=rf"{name} is torch\.float32 and the codebooks are torch\.float64"):
        ops.factorised_encode(**(a | {name: a[name].float()}))
    with pytest.raises(InputError, match=f"{name} is on meta, the codebooks on cpu"):
        ops.factorised_encode(**(a | {name: a[name].to("meta")}))


@pytest.fixture
def table(monkeypatch):
    """An operation "double" whose kernels the test writes down: name to (run, auto)."""

    def install(**kernels):
        row = ops.Operation(lambda x: 2 * x, {name: ops.Kernel(*pair) for name, pair in kernels.items()})
        monkeypatch.setattr(ops, "_TABLE", {"double": row})
        monkeypatch.setattr(ops, "_failed", set())

    return install


def unable(x: Tensor) -> Tensor:
    raise BackendError("no such device")


def test_auto_takes_the_first_kernel_meant_for_the_arguments(table):
    table(small=(lambda x: x + 1, lambda x: x < 10), large=(lambda x: x + 2, lambda x: x > 20))
    assert [ops._dispatch("double", "auto", x) for x in (5, 15, 25)] == [6, 30, 27]


def test_auto_falls_back_once_and_says_so(table):
    calls = []

    def run(x):
        calls.append(x)
        return unable(x)

    table(fast=(run, lambda x: True))
    with pytest.warns(RuntimeWarning, match="double runs in torch from now on. no such device"):
        assert ops._dispatch("double", "auto", 3) == 6
    assert ops._dispatch("double", "auto", 4) == 8
    assert calls == [3]


def test_a_backend_asked_for_by_name_serves_or_raises(table):
    table(fast=(lambda x: x + 1, lambda x: False), broken=(unable, lambda x: True))
    assert ops._dispatch("double", "fast", 3) == 4
    assert ops._dispatch("double", "torch", 3) == 6
    with pytest.raises(BackendError, match="no such device"):
        ops._dispatch("double", "broken", 3)
    with pytest.raises(BackendError, match="no backend 'cuda'; use one of auto, torch, fast, broken"):
        ops._dispatch("double", "cuda", 3)


def run_python(code: str, **environment: str) -> str:
    """The output of a fresh interpreter that runs `code`."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | environment
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_everything_works_in_torch_without_triton():
    """As on macOS and Windows: any attempt to import triton fails."""
    run_python(
        """
        import importlib.abc, sys

        class NoTriton(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] == "triton":
                    raise ModuleNotFoundError("No module named 'triton'", name="triton")

        sys.meta_path.insert(0, NoTriton())
        import torch
        import streamcodec.ops as ops
        from streamcodec.errors import BackendError

        kernels = [name for name in sys.modules if name.split(".")[0] in ("triton", "streamcodec_kernels")]
        assert all(name.split(".")[1:2] in ([], ["native"]) for name in kernels) and "triton" not in kernels
        codebooks = torch.randn(2, 5, 8)
        codes = ops.rvq_encode(torch.randn(3, 8), codebooks)
        ops.rvq_decode(codes, codebooks)
        tables = torch.randn(8, 10), torch.zeros(10), torch.randn(2, 5, 5), torch.randn(2, 5, 5), torch.zeros(2, 5, 10)
        ops.factorised_encode(torch.randn(3, 8), *tables)
        for call in (lambda: ops.rvq_encode(torch.randn(3, 8), codebooks, backend="triton"),
                     lambda: ops.factorised_encode(torch.randn(3, 8), *tables, backend="triton"),
                     lambda: ops.rvq_decode(codes, codebooks, backend="triton")):
            try:
                call()
            except BackendError as error:
                assert "install Triton" in str(error) and "backend='auto'" in str(error), error
            else:
                raise AssertionError("a kernel ran without Triton")
        """
    )


def test_triton_by_name_on_the_cpu_raises_and_says_what_helps():
    pytest.importorskip("triton", reason="Triton is not installed")
    run_python(
        """
        import torch
        import streamcodec.ops as ops
        from streamcodec.errors import BackendError

        tables = torch.randn(8, 10), torch.zeros(10), torch.randn(2, 5, 5), torch.randn(2, 5, 5), torch.zeros(2, 5, 10)
        for operation, arguments in (("rvq_encode", (torch.randn(2, 5, 8),)), ("factorised_encode", tables)):
            try:
                getattr(ops, operation)(torch.randn(3, 8), *arguments, backend="triton")
            except BackendError as error:
                for word in (operation, "cpu", "need a GPU", "backend='auto'"):
                    assert word in str(error), error
            else:
                raise AssertionError("a compiled kernel took CPU tensors")
        """
    )


def test_triton_by_name_serves_in_the_interpreter_and_auto_never_picks_it_there():
    pytest.importorskip("triton", reason="Triton is not installed")
    run_python(
        """
        import sys
        import torch
        import streamcodec.ops as ops

        generator = torch.Generator().manual_seed(0)
        z, codebooks = torch.randn(2, 3, 24, generator=generator), torch.randn(2, 50, 24, generator=generator)
        codes = ops.rvq_encode(z, codebooks)
        decoded = ops.rvq_decode(codes, codebooks)
        assert "streamcodec_kernels.rvq" not in sys.modules
        assert torch.equal(ops.rvq_encode(z, codebooks, backend="triton"), codes)
        assert torch.equal(ops.rvq_decode(codes, codebooks, backend="triton"), decoded)
        assert "streamcodec_kernels.rvq" in sys.modules
        entries = torch.randn(3, 20, 8, generator=generator)
        scan = torch.nn.functional.normalize(entries, dim=2).mT.contiguous()
        cross = 0.1 * torch.randn(3, 8, 24, generator=generator)
        tables = torch.randn(24, 24, generator=generator), torch.zeros(24), scan, entries, cross
        codes = ops.factorised_encode(z, *tables)
        assert "streamcodec_kernels.factorised" not in sys.modules
        assert torch.equal(ops.factorised_encode(z, *tables, backend="triton"), codes)
        assert "streamcodec_kernels.factorised" in sys.modules
        """,
        TRITON_INTERPRET="1",
    )


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU; torch sees none")


@pytest.mark.gpu
@gpu
def test_auto_on_a_gpu_is_triton_for_float32_and_torch_for_the_rest(monkeypatch):
    pytest.importorskip("triton", reason="Triton is not installed")
    served = []
    run_triton = ops._run_triton
    monkeypatch.setattr(ops, "_run_triton", lambda *a: served.append(a[1]) or run_triton(*a))
    codebooks = random_codebooks(2, 50, 24).cuda()
    z = codebooks[0, :3] + 0.1
    codes = ops.rvq_encode(z, codebooks)
    assert served == []
    assert torch.equal(ops.rvq_encode(z.float(), codebooks.float()), codes)
    ops.rvq_decode(codes, codebooks.float())
    assert served == ["rvq_encode", "rvq_decode"]
    ops.rvq_decode(codes, codebooks.float().requires_grad_()).sum().backward()
    assert served == ["rvq_encode", "rvq_decode"]


@pytest.mark.gpu
@gpu
def test_decode_gives_the_same_bits_in_torch_and_triton_on_a_gpu():
    pytest.importorskip("triton", reason="Triton is not installed")
    codebooks = random_codebooks(8, 100, 130, torch.float32).cuda()
    codes = torch.randint(0, 100, (77, 8), device="cuda")
    triton = ops.rvq_decode(codes, codebooks, backend="triton")
    assert torch.equal(triton, ops.rvq_decode(codes, codebooks, backend="torch"))
    assert torch.equal(triton.cpu(), ops.rvq_decode(codes.cpu(), codebooks.cpu()))
