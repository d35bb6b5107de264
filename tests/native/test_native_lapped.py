"""Lapped transforms in C++, by Fourier transforms, against the products with their matrices."""

import copy

import pytest
import torch
from sets import each_set, on
from torch import Tensor

from streamcodec.nn.lapped import LappedTransform, OverlapAdd
from streamcodec.nn.transducer import Network
from streamcodec.state import State

LAYERS = {"forth": LappedTransform, "back": OverlapAdd}


def network_of(way: str, hop: int, backend: str) -> Network:
    if way == "forth":
        return Network(LappedTransform(hop), 1, 2 * hop, hop, backend=backend)
    return Network(OverlapAdd(hop), hop, 1, 1, look_ahead=0, backend=backend)


def in_steps(network: Network, x: Tensor, *frames: int) -> Tensor:
    state = State(network.spec, len(x))
    return torch.cat([network.step(part, state) for part in x.split([n * network.at.rate for n in frames], 1)], 1)


@each_set
@pytest.mark.parametrize("way", list(LAYERS))
@pytest.mark.parametrize("hop", [1, 2, 7, 30, 320, 331, 480])
def test_a_lapped_transform_is_as_exact_as_the_product_and_has_the_same_bits_however_it_is_cut(name, way, hop):
    rows, channels = (6 * hop, 1) if way == "forth" else (6, hop)
    x = torch.randn(3, rows, channels, generator=torch.Generator().manual_seed(hop))
    with on(name):
        native = network_of(way, hop, "native")
        whole = in_steps(native, x, 6)
        assert torch.equal(in_steps(native, x, 1, 2, 3), whole)
        assert torch.equal(in_steps(native, x[1:2], 1, 1, 1, 1, 1, 1), whole[1:2])
    exact = copy.copy(network_of(way, hop, "torch"))
    exact.layer.double()
    expected = in_steps(exact, x.double(), 6)
    product = in_steps(network_of(way, hop, "torch"), x, 6)
    rounding = max(2**-22 * float(expected.abs().max()), 1.5 * float((product - expected).abs().max()))
    assert (whole - expected).abs().max() <= rounding
