"""Compile the kernels of steps for GPUs that need not be here, and check what can be read off the result.

Run by test_triton_steps.py in a process of its own, without TRITON_INTERPRET.
"""

from typing import Any

import triton
from compile_rvq import AMPERE_SMALL, HOPPER, SHARED_MEMORY
from streamcodec_kernels import lstm, product
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

WHOLE = ("t", "B", "M", "count", "R", "also_R", "add_R", "to_R", "more_R", "hidden_R")


def ptx_of(kernel: triton.JITFunction, capability: int, types: dict[str, str], constants: dict[str, Any]) -> str:
    """The PTX, as for contiguous tensors at 16-byte boundaries."""
    names = kernel.arg_names
    signature = {
        name: "constexpr" if name in constants else types.get(name, "i32" if name in WHOLE else "*fp32")
        for name in names
    }
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if signature[name].startswith("*")}
    options = {"num_warps": product.NUM_WARPS, "num_stages": product.NUM_STAGES}
    source = ASTSource(kernel, signature, constants, aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    name = f"{kernel.__name__} {constants} sm_{capability}"
    assert compiled.metadata.shared <= SHARED_MEMORY[capability], f"{name}: too much shared memory"
    if "snake" not in constants.values():  # the sine of numbers beyond 100,000 takes an array
        assert ".local" not in compiled.asm["ptx"], f"{name}: arrays in local memory"
    return compiled.asm["ptx"]


INTEGERS = {"position_ptr": "*i64", "length_ptr": "*i64", "more_length_ptr": "*i64"}
ABSENT = ("also_ptr", "bias_ptr", "add_ptr", "alpha_ptr", "gain_ptr", "length_ptr", "more_ptr", "more_alpha_ptr",
          "more_gain_ptr", "more_length_ptr", "position_ptr")  # fmt: skip


def check_product(capability: int, precision: str, kind: str | None) -> None:
    """With all that a kernel may do and an activation, or nothing but the product."""
    one = {"C": 64, "STRIDE": 1, "SEGMENTS": 3, "STEP": 192, "WIDTH": 64, "BLOCK_K": 64}
    target = {"RATE": 8, "LAG": 1, "KIND": kind}
    constants = {
        "N": 128, "SPREAD": 2, **one, **{f"ALSO_{name}": size for name, size in one.items()},
        **target, **{f"MORE_{name}": value for name, value in (target | {"KIND": "elu"}).items()},
        "BLOCK_M": product.BLOCK_M, "BLOCK_N": product.BLOCK_N,
        "PRECISION": product.PRECISIONS[precision], "INTERPRETED": False,
    }  # fmt: skip
    absent = ("more_alpha_ptr", "more_gain_ptr") if kind else ABSENT
    types = INTEGERS | ({"matrix_ptr": "*bf16"} if precision == "bfloat16" else {})
    ptx = ptx_of(product._product, capability, types, constants | dict.fromkeys(absent))
    assert ("tf32" in ptx) == (precision == "tf32"), f"{precision}: wrong arithmetic"
    assert ("bf16" in ptx) == (precision == "bfloat16"), f"{precision}: wrong arithmetic"
    assert "sin.approx" not in ptx, "a sine that is no more than near"


def check_lstm(capability: int) -> None:
    constants = {
        "C": 512, "H": 512, "X_RATE": 1, "X_LAG": 0, "RATE": 1, "LAG": 0, "KIND": "elu", "MORE_RATE": 1, "MORE_LAG": 0,
        "MORE_KIND": None, "BLOCK_M": product.BLOCK_M, "BLOCK_N": lstm.BLOCK_N, "BLOCK_C": product.BLOCK_K,
        "BLOCK_H": product.BLOCK_K,
    }  # fmt: skip
    absent = ("alpha_ptr", "gain_ptr", "more_alpha_ptr", "more_gain_ptr")
    assert "tf32" not in ptx_of(lstm._lstm, capability, INTEGERS, constants | dict.fromkeys(absent))


def main() -> None:
    for capability in (AMPERE_SMALL, HOPPER):
        for precision in product.PRECISIONS:
            check_product(capability, precision, "silu")
        check_lstm(capability)
    check_product(HOPPER, "float32", "snake")
    check_product(HOPPER, "float32", None)
    print("the kernels of steps compile")


if __name__ == "__main__":
    main()
