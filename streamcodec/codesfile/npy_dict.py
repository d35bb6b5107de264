"""One dict of plain values and numeric arrays in a .npy file: what ``numpy.save`` makes of it, read without pickle.

Such a file is a .npy header and a pickle. Unpickling runs whatever the file names, so the pickle is read here by an
interpreter of its own: it knows the opcodes that dicts, lists, tuples, numbers, strings and arrays need, builds only
those, imports nothing and calls nothing. Everything else in a file is refused by name.

Sources: NEP 1 (the .npy format), PEP 3154 and `pickletools` (the opcodes), `numpy.ndarray.__reduce__`.
"""

import ast
import io
import math
import pickletools
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_BYTES", "dump", "load"]

MAX_BYTES = 2**28  # of a file: 24 kHz DAC at its fullest, 4.8 kB/s, for 15 hours
MAX_HEADER = 1024  # bytes: numpy's own for a dict has 118
MAX_OPCODES = 10_000  # a file of upstream's has about 150; each makes one object at most
MAX_DIMENSIONS = 8
MAGIC = b"\x93NUMPY"
HEADER = {"descr": "|O", "fortran_order": False, "shape": ()}
# Array elements: signed, unsigned and floating, by numpy's codes without the byte order.
ELEMENTS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")

Array = NDArray[Any]


class _Global:
    """A name that the file asks for. It stays a name."""

    def __init__(self, module: str, name: str) -> None:
        # numpy 2 renamed numpy.core.
        self.name = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        if self.name not in (ARRAY, SCALAR, NDARRAY, DTYPE):
            raise ValueError(f"asks for {module}.{name}, which is neither an array nor a plain value; it was not run")


ARRAY, SCALAR = "numpy.core.multiarray._reconstruct", "numpy.core.multiarray.scalar"
NDARRAY, DTYPE = "numpy.ndarray", "numpy.dtype"


class _Dtype:
    """An element type: its code, "O" for objects; then its byte order."""

    def __init__(self, code: object) -> None:
        self.objects = code in ("O", "O8", "O4")
        if not self.objects and code not in ELEMENTS:
            raise ValueError(f"has an array of element type {str(code)[:40]!r}; only plain numbers are allowed")
        self.code, self.order = str(code), "<"

    def build(self, state: object) -> None:
        # (version, byte order, subarray, names, fields, item size, alignment, flags): nothing but the order is plain.
        if not isinstance(state, tuple) or len(state) != 8 or state[0] != 3 or state[2:5] != (None, None, None):
            raise ValueError("has an array whose elements are not plain numbers")
        if state[1] not in ("<", ">", "|", "=") or state[5:7] != (-1, -1):
            raise ValueError("has an array whose elements are not plain numbers")
        self.order = str(state[1])

    def numpy(self) -> "np.dtype[Any]":
        return np.dtype(self.order + self.code)


class _Array:
    """An array, empty until its state comes."""

    def __init__(self) -> None:
        self.value: Array | None = None
        self.inside: list[Any] | None = None  # of the one array of objects, the outermost

    def build(self, state: object) -> None:
        if self.value is not None or self.inside is not None or not isinstance(state, tuple) or len(state) != 5:
            raise ValueError("has a damaged array")
        version, shape, dtype, fortran, data = state
        if version != 1 or not isinstance(dtype, _Dtype) or type(fortran) is not bool or not _is_shape(shape):
            raise ValueError("has a damaged array")
        if dtype.objects:
            if shape != () or not isinstance(data, list) or len(data) != 1:
                raise ValueError("has an array of objects; only arrays of numbers are allowed")
            self.inside = data
            return
        # Counted in Python's integers, which do not overflow, before numpy sees the sizes.
        size = math.prod(shape) * dtype.numpy().itemsize
        if not isinstance(data, bytes) or len(data) != size:
            found = f"{len(data)} bytes" if isinstance(data, bytes) else "no bytes"
            raise ValueError(f"has an array of {size} bytes with {found} in it")
        self.value = np.frombuffer(data, dtype.numpy()).reshape(shape, order="F" if fortran else "C")


def _is_shape(shape: object) -> bool:
    return (
        isinstance(shape, tuple)
        and len(shape) <= MAX_DIMENSIONS
        and all(type(size) is int and 0 <= size <= MAX_BYTES for size in shape)
    )


def _scalar(dtype: object, data: object) -> int | float | bool:
    if not isinstance(dtype, _Dtype) or dtype.objects or not isinstance(data, bytes):
        raise ValueError("has a damaged number")
    if len(data) != dtype.numpy().itemsize:
        raise ValueError("has a damaged number")
    value: int | float | bool = np.frombuffer(data, dtype.numpy())[0].item()
    return value


_MARK = object()
# Opcodes whose argument is the value.
_VALUES = frozenset(
    (
        *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
        *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
    )
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "MARK": lambda: _MARK,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_SAVES = frozenset(("BINPUT", "LONG_BINPUT"))
_FETCHES = frozenset(("BINGET", "LONG_BINGET"))
_IGNORED = frozenset(("PROTO", "FRAME"))


class _Interpreter:
    """A pickle machine: its stack and its memo."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        """The value of a pickle. Raises ValueError, its message a clause that follows the file's name."""
        stream = io.BytesIO(data)
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count >= MAX_OPCODES:
                raise ValueError(f"has more than {MAX_OPCODES} parts; a file of codes has about 150")
            if opcode.name == "STOP":
                break
            self._do(opcode.name, argument)
        if stream.read(1):
            raise ValueError("goes on after its end")
        (value,) = self.stack
        return value

    def _do(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _TUPLES:
            stack.append(tuple(self._take(_TUPLES[name])))
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in _SAVES:
            self.memo[argument] = stack[-1]
        elif name in _FETCHES:
            stack.append(self.memo[argument])
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        elif name not in _IGNORED:
            raise ValueError(f"has the pickle opcode {name}, which neither an array nor a plain value needs")

    def _take(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def _take_to_mark(self) -> list[Any]:
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise IndexError
        taken = self._take(len(self.stack) - place)
        return taken[1:]

    def _pop(self, _: Any) -> None:
        self._take(1)

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._take_to_mark()))

    def _append(self, _: Any) -> None:
        self._extend(self._take(1))

    def _appends(self, _: Any) -> None:
        self._extend(self._take_to_mark())

    def _extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise IndexError
        self.stack[-1].extend(items)

    def _setitem(self, _: Any) -> None:
        self._update(self._take(2))

    def _setitems(self, _: Any) -> None:
        self._update(self._take_to_mark())

    def _update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise IndexError
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) is not str:
                raise ValueError("has a dict whose keys are not all strings")
            target[key] = value

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(_Global(module, name))

    def _stack_global(self, _: Any) -> None:
        module, name = self._take(2)
        if type(module) is not str or type(name) is not str:
            raise IndexError
        self.stack.append(_Global(module, name))

    def _reduce(self, _: Any) -> None:
        function, arguments = self._take(2)
        if not isinstance(function, _Global) or type(arguments) is not tuple:
            raise ValueError("calls what is no array")
        self.stack.append(_construct(function, arguments))

    def _build(self, _: Any) -> None:
        target, state = self._take(2)
        if not isinstance(target, (_Array, _Dtype)):
            raise ValueError("sets the state of what is no array")
        target.build(state)
        self.stack.append(target)


_ACTIONS: dict[str, Callable[[_Interpreter, Any], None]] = {
    "POP": _Interpreter._pop,
    "TUPLE": _Interpreter._tuple,
    "APPEND": _Interpreter._append,
    "APPENDS": _Interpreter._appends,
    "SETITEM": _Interpreter._setitem,
    "SETITEMS": _Interpreter._setitems,
    "GLOBAL": _Interpreter._global,
    "STACK_GLOBAL": _Interpreter._stack_global,
    "REDUCE": _Interpreter._reduce,
    "BUILD": _Interpreter._build,
}


def _construct(function: _Global, arguments: tuple[Any, ...]) -> Any:
    """What numpy would: an array without content, an element type, a number."""
    if function.name == DTYPE and len(arguments) == 3 and all(type(flag) in (bool, int) for flag in arguments[1:]):
        return _Dtype(arguments[0])
    if function.name == SCALAR and len(arguments) == 2:
        return _scalar(*arguments)
    if function.name == ARRAY and len(arguments) == 3:
        kind, shape, code = arguments
        if isinstance(kind, _Global) and kind.name == NDARRAY and shape == (0,) and code == b"b":
            return _Array()
    raise ValueError(f"calls {function.name} with other arguments than numpy writes")


def load(data: bytes) -> dict[str, Any]:
    """The dict in the content of a .npy file: strings, numbers, None, lists, tuples, dicts and numeric arrays.

    Raises ValueError, its message a clause that follows the file's name, for all else.
    """
    if not data.startswith(MAGIC):
        raise ValueError("does not begin as a .npy file does")
    pickled = data[_header_end(data) :]
    try:
        value = _Interpreter().run(pickled)
    except ValueError as error:
        if type(error) is not ValueError:  # UnicodeDecodeError
            raise ValueError("is damaged: its text is not UTF-8") from None
        raise ValueError(_clause(str(error))) from None
    except (IndexError, KeyError, TypeError, struct.error, OverflowError):
        raise ValueError("is damaged: its content is no pickle of a dict of arrays") from None
    if not isinstance(value, _Array) or value.inside is None or type(value.inside[0]) is not dict:
        raise ValueError("holds no dict; upstream saves one")
    return {key: _plain(item, 0) for key, item in value.inside[0].items()}


def _clause(message: str) -> str:
    """pickletools' messages begin otherwise than ours do."""
    if message.startswith(("has ", "asks ", "calls ", "sets ", "goes ", "is ")):
        return message
    return f"is damaged or cut short ({message[:100]})"


def _plain(value: Any, depth: int) -> Any:
    """With arrays in place of what stood for them. Two levels are what upstream has; four are allowed."""
    if depth > 4:
        raise ValueError("has dicts or lists nested more than four deep")
    if isinstance(value, _Array):
        if value.value is None:
            raise ValueError("has an array of objects or one without content")
        return value.value
    if type(value) is dict:
        return {key: _plain(item, depth + 1) for key, item in value.items()}
    if type(value) in (list, tuple):
        return [_plain(item, depth + 1) for item in value]
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    raise ValueError("holds what is neither an array nor a plain value")


def _header_end(data: bytes) -> int:
    """Where the pickle begins. Raises ValueError unless the header is that of one object."""
    version = data[6:8]
    form = {b"\x01\x00": "<H", b"\x02\x00": "<I", b"\x03\x00": "<I"}.get(version)
    if form is None or len(data) < 8 + struct.calcsize(form):
        raise ValueError("has a .npy header that is cut short or of an unknown version")
    (length,) = struct.unpack_from(form, data, 8)
    start = 8 + struct.calcsize(form)
    if length > MAX_HEADER or start + length > len(data):
        raise ValueError("has a .npy header that is cut short or too long")
    try:
        header = ast.literal_eval(data[start : start + length].decode("latin1").strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise ValueError("has a damaged .npy header") from None
    if header != HEADER:
        raise ValueError("is a .npy file, but not of one pickled dict")
    return start + length


# -- writing -------------------------------------------------------------------------------------------------------


def dump(value: dict[str, Any]) -> bytes:
    """The content of a .npy file that ``numpy.load(allow_pickle=True)`` of numpy 1 and 2 turns into ``value``.

    value: strings, numbers, None, dicts and numeric arrays. Every numpy knows the names that numpy 1 used, but numpy 2
    writes others, which numpy before 1.26 cannot read: that is why this is not `numpy.save`. Pickle protocol 3.
    """
    header = repr(HEADER)[:-1] + ", }"  # numpy's own spelling
    # 10 bytes come before; magic, version, length and header fill a multiple of 64 bytes.
    text = header.encode() + b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    body = _array(b"]" + _encode(value) + b"a", (), "O8", "|")
    return b"".join((MAGIC, b"\x01\x00", struct.pack("<H", len(text)), text, b"\x80\x03", body, b"."))


def _array(content: bytes, shape: tuple[int, ...], code: str, order: str) -> bytes:
    """The opcodes of an array; content: those of its data."""
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + _encode(0) + b"\x85" + _encode(b"b") + b"\x87R"
    flags = 63 if code == "O8" else 0  # numpy's: reference counted and so on
    state = [_encode(item) for item in (3, order, None, None, None, -1, -1, flags)]
    dtype = b"cnumpy\ndtype\n" + _encode(code) + b"\x89\x88\x87R(" + b"".join(state) + b"tb"
    return b"".join((empty, b"(", _encode(1), _encode(shape), dtype, b"\x89", content, b"tb"))


def _encode(value: Any) -> bytes:
    """The opcodes that leave `value` on the stack."""
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        if -(2**31) <= value < 2**31:
            return b"J" + struct.pack("<i", value)
        data = value.to_bytes(9, "little", signed=True)
        return b"\x8a" + bytes([len(data)]) + data
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    if isinstance(value, bytes):
        return b"B" + struct.pack("<I", len(value)) + value
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_encode, value)) + b"t"
    if isinstance(value, dict):
        return b"}(" + b"".join(_encode(key) + _encode(item) for key, item in value.items()) + b"u"
    if isinstance(value, np.ndarray):
        little = np.ascontiguousarray(value, value.dtype.newbyteorder("<")).reshape(value.shape)
        return _array(_encode(little.tobytes()), value.shape, little.dtype.str[1:], "<")
    raise TypeError(f"{type(value).__name__} cannot be written")
