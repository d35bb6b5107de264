"""Compile the projected quantizer kernel for GPUs that need not be here, and check what can be read off the result.

Run by test_factorised_kernel.py in a process of its own, without TRITON_INTERPRET.
"""

from compile_rvq import AMPERE_SMALL, HOPPER, check
from streamcodec_kernels import factorised


def main() -> None:
    for capability in (AMPERE_SMALL, HOPPER):
        check(capability, factorised._encode, N=1024, D=8, BLOCK_N=128, BLOCK_D=16, BLOCK_W=factorised.BLOCK_W)
    check(HOPPER, factorised._encode, N=1000, D=5, BLOCK_N=128, BLOCK_D=16, BLOCK_W=factorised.BLOCK_W)
    check(HOPPER, factorised._encode, N=3, D=32, BLOCK_N=16, BLOCK_D=32, BLOCK_W=factorised.BLOCK_W)
    print("the kernel compiles")


if __name__ == "__main__":
    main()
