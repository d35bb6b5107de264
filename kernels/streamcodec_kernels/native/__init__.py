"""Steps on CPUs in C++: a plain C library, compiled when it is first used, called through ctypes with data pointers.

`compiler` makes the library, `library` opens it and has its structures, `source/` is the C++. What a step is, and how
one is laid out, is said in `streamcodec/native_layout.py`.
"""

__all__: list[str] = []
