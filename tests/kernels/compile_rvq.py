"""Compile the quantizer kernels for GPUs that need not be here, and check what can be read off the result.

Run by test_rvq.py in a process of its own, without TRITON_INTERPRET.
"""

import triton
from streamcodec_kernels import rvq
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

AMPERE_SMALL, HOPPER = 86, 90  # compute capabilities
SHARED_MEMORY = {AMPERE_SMALL: 99 * 1024, HOPPER: 227 * 1024}  # bytes that one program may have
TYPES = {"codes_ptr": "*i64", "M": "i32", "K": "i32", "cross_stage": "i32", "cross_row": "i32"}


def compile_for(capability: int, kernel: triton.JITFunction, constants: dict) -> tuple[str, int]:
    """The PTX and the bytes of shared memory, as for contiguous tensors at 16-byte boundaries."""
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    signature = {name: "constexpr" if name in constants else TYPES.get(name, "*fp32") for name in kernel.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(kernel.arg_names) if name.endswith("_ptr")}
    options = {"num_warps": rvq.NUM_WARPS, "num_stages": rvq.NUM_STAGES}
    source = ASTSource(kernel, signature, constants, aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    return compiled.asm["ptx"], compiled.metadata.shared


def check(capability: int, kernel: triton.JITFunction, precision: str = "ieee", **constants: int) -> None:
    ptx, shared = compile_for(capability, kernel, {"BLOCK_M": rvq.BLOCK_M, "PRECISION": precision, **constants})
    name = f"{kernel.__name__} {constants} {precision} sm_{capability}"
    assert shared <= SHARED_MEMORY[capability], f"{name}: {shared} bytes of shared memory"
    assert ".local" not in ptx, f"{name}: arrays in local memory"
    assert "ld.global.nc" not in ptx, f"{name}: loads that do not see the program's own stores"
    if kernel is not rvq._decode:
        assert ("tf32" in ptx) == (precision != "ieee"), f"{name}: wrong arithmetic"


def main() -> None:
    for capability in SHARED_MEMORY:
        check(capability, rvq._encode_in_registers, N=1024, D=128, BLOCK_N=64, BLOCK_D=128)
    check(HOPPER, rvq._encode_through_scratch, N=1000, D=130, BLOCK_N=128, BLOCK_D=32)
    check(HOPPER, rvq._decode, N=1000, D=130, BLOCK_D=128)
    check(HOPPER, rvq._encode_in_registers, N=3, D=8, BLOCK_N=16, BLOCK_D=16)
    check(HOPPER, rvq._encode_in_registers, "tf32x3", N=1024, D=128, BLOCK_N=64, BLOCK_D=128)
    print("all kernels compile")


if __name__ == "__main__":
    main()
