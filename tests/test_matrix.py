"""Products and convolutions by every way against plain torch in double precision."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from streamcodec import matrix
from streamcodec.matrix import CONVOLVED_FROM_ROWS, Matrix


@pytest.fixture(params=[True, False], ids=["packed", "not packed"])
def packs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """As on a processor on which packed products are the faster ones, and as on another."""
    monkeypatch.setattr(matrix, "_packs", lambda weight: request.param)
    return request.param


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("inputs", "outputs"), [(7, 3), (224, 32), (900, 512)])
@pytest.mark.parametrize("rows", [1, 2, 100])
def test_a_product_is_the_matrix_product(packs, rows, inputs, outputs, bias):
    weight, offset, x = random(inputs, outputs), random(outputs) if bias else None, random(rows, inputs)
    out = torch.empty(rows, outputs)
    with torch.inference_mode():
        Matrix(weight, offset).product(x, out)()
    expected = x.double() @ weight.double() + (0 if offset is None else offset.double())
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=1e-5 * inputs**0.5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("channels", "outputs", "rows"), [(64, 64, CONVOLVED_FROM_ROWS), (64, 1, 2000), (8, 8, CONVOLVED_FROM_ROWS)]
)
@pytest.mark.parametrize("dilation", [1, 9])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_convolution_is_torchs(packs, batch, channels, outputs, rows, dilation, bias):
    taps = 7
    z = random(batch, rows + (taps - 1) * dilation, channels)
    weight, offset = random(taps * channels, outputs), random(outputs) if bias else None
    out = torch.empty(batch, rows, outputs)
    with torch.inference_mode():
        call = Matrix(weight, offset).convolution(z, taps, dilation, out)
        if channels == 8:
            assert call is None, "too narrow: the product of windows is the way"
            return
        assert call is not None
        call()
    kernel = weight.view(taps, channels, outputs).permute(2, 1, 0).double()
    expected = F.conv1d(z.transpose(1, 2).double(), kernel, None if offset is None else offset.double(), 1, 0, dilation)
    torch.testing.assert_close(out.double(), expected.transpose(1, 2), rtol=0, atol=1e-3)


@pytest.mark.parametrize("rows", [1, 2, 5, 30])
@pytest.mark.parametrize(("inputs", "outputs"), [(224, 32), (896, 256), (1024, 512)])
def test_torchs_public_way_to_packed_products_gives_the_same_bits(rows, inputs, outputs, monkeypatch):
    """So results do not depend on whether a release of torch has the private one."""
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this torch has the public way alone")
    monkeypatch.setattr(matrix, "_packs", lambda weight: True)
    weight, offset, x = random(inputs, outputs), random(outputs), random(rows, inputs)
    results = []
    for ops in (torch.ops.mkldnn, object()):
        with monkeypatch.context() as patch:
            patch.setattr(torch.ops, "mkldnn", ops)
            made: Any = Matrix(weight, offset)
            made._packed_from = 1
            out = torch.empty(rows, outputs)
            call = made.product(x, out)
        with torch.inference_mode():
            call()
        results.append(out)
    assert torch.equal(*results)
