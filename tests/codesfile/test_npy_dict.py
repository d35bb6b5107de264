"""A pickled dict read without pickle: what upstream and numpy write, and what must be refused."""

import io
import os
import pickle
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from streamcodec.codesfile import npy_dict
from streamcodec.codesfile.npy_dict import dump, load

HEADER = dump({})[:128]
PROTOCOL = b"\x80\x04"
DTYPE_U2 = b"cnumpy\ndtype\n\x8c\x02u2\x89\x88\x87R(K\x03\x8c\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


def saved(value: Any, protocol: int | None = None) -> bytes:
    """What numpy.save writes, or its header with a pickle of another protocol."""
    if protocol is None:
        file = io.BytesIO()
        np.save(file, value, allow_pickle=True)
        return file.getvalue()
    return HEADER + pickle.dumps(np.array(value, dtype=object), protocol)


def assert_same(found: Any, wanted: Any) -> None:
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for key in wanted:
            assert_same(found[key], wanted[key])
    elif isinstance(wanted, np.ndarray):
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
    else:
        assert found == wanted or (found != found and wanted != wanted)


numeric = st.sampled_from(["<u2", ">u2", "<i8", "|u1", "|i1", "|b1", "<f4", ">f8", "<f2"]).flatmap(
    lambda code: arrays.arrays(np.dtype(code), arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
)
plain = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=20)
dicts = st.dictionaries(st.text(max_size=8), plain | numeric | st.dictionaries(st.text(max_size=8), plain | numeric))


@given(dicts)
def test_what_numpy_saves_is_read(value):
    assert_same(load(saved(value)), value)
    for protocol in (3, 4):
        assert_same(load(saved(value, protocol)), value)


@given(dicts)
@pytest.mark.filterwarnings("error")
def test_what_is_written_is_what_numpy_and_we_read(value):
    data = dump(value)
    little = np.load(io.BytesIO(data), allow_pickle=True)[()]
    assert little.keys() == value.keys()
    assert b"numpy._core" not in data  # numpy before 1.26 does not know it
    assert load(data).keys() == value.keys()
    for key, item in value.items():
        if isinstance(item, np.ndarray):
            np.testing.assert_array_equal(little[key], item)
            np.testing.assert_array_equal(load(data)[key], item)
        else:
            assert repr(little[key]) == repr(item) or isinstance(item, dict)


def test_both_spellings_of_numpy_and_its_numbers_are_read():
    value = {"a": np.arange(6, dtype=np.uint16).reshape(2, 3), "n": 5}
    new = saved(value, 4)
    assert b"numpy._core.multiarray" in new or b"numpy.core.multiarray" in new
    assert_same(load(new), value)
    assert b"numpy.core.multiarray" in dump(value)
    assert_same(load(dump(value)), value)
    assert load(saved({"x": np.float32(1.5), "y": np.int64(-3)})) == {"x": 1.5, "y": -3}


def test_fortran_order_is_kept():
    array = np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3))
    np.testing.assert_array_equal(load(saved({"a": array}))["a"], array)


# -- hostile -------------------------------------------------------------------------------------------------------


class Call:
    """Pickles to a call."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None):
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.call

    def __call__(self, *_: Any) -> None:
        """Never called: pickle wants what it is to call to look as if it could be."""


RAN: list[str] = []


def run_me(*arguments: Any) -> dict:
    RAN.append(str(arguments))
    return {}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "call",
    [
        Call(os.system, "echo owned"),
        Call(eval, "__import__('os').system('echo owned')"),
        Call(exec, "raise SystemExit"),
        Call(getattr, Call(__import__, "os"), "system"),
        Call(Call(getattr, Call(__import__, "os"), "system"), "echo owned"),
        Call(pickle.loads, pickle.dumps(Call(os.system, "echo owned"))),
        Call(run_me, 1),
        Call(bytearray, 10**12),
        Call(np.zeros, 10**12),
        Call(np.load, "other.npy"),
        Call(np.frombuffer, b"1234"),
        Call(type, "x", (), {}),
    ],
    ids=lambda call: getattr(call.call[0], "__name__", "nested"),
)
@pytest.mark.parametrize("place", ["whole", "array", "dict", "list"])
def test_a_call_of_anything_else_is_refused_by_name_and_not_made(capfd, call, protocol, place):
    inside = {"whole": call, "array": np.array(call, dtype=object), "dict": {"codes": call}, "list": {"codes": [call]}}
    value = inside[place]
    data = pickle.dumps(value if place in ("whole", "array") else np.array(value, dtype=object), protocol)
    RAN.clear()
    with pytest.raises(ValueError, match=r"^(asks for|has the pickle opcode|calls|is damaged|has an array of obj)"):
        load(HEADER + data)
    assert not RAN
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("opcodes", "message"),
    [
        (b"cos\nsystem\n\x8c\x02id\x85R.", "asks for os.system"),
        (b"\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.", "asks for builtins.eval"),
        (b"cnumpy\nndarray.tofile\n.", "asks for numpy.ndarray.tofile"),
        (b"cnumpy.core.multiarray\nfromfile\n.", "asks for"),
        (b"(cos\nsystem\n\x8c\x02ido.", "asks for os.system|opcode OBJ"),
        (b"(ios\nsystem\n.", "opcode INST"),
        (b"\x82\x01.", "opcode EXT1"),
        (b"P1\n.", "opcode PERSID"),
        (b"]Q.", "opcode BINPERSID"),
        (b"cnumpy\nndarray\n)\x81.", "opcode NEWOBJ"),
        (b"cnumpy\nndarray\n)}\x92.", "opcode NEWOBJ_EX"),
        (b"\x97.", "opcode NEXT_BUFFER"),
        (b"\x8f.", "opcode EMPTY_SET"),
        (b"cnumpy\nndarray\nK\x01\x85R.", "calls numpy.ndarray"),
        (b"cnumpy\nndarray\n}\x8c\x08__init__Nsb.", "sets the state"),
        (b"}}b.", "sets the state"),
        (b"K\x01)R.", "calls what is no array"),
        (b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\nK\x00\x85C\x01b\x87R.", "with other arguments"),
        (b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nJ\xff\xff\xff\x7f\x85C\x01b\x87R.", "with other arg"),
        (b"cnumpy\ndtype\n\x8c\x02O8\x89\x88\x87R(K\x03\x8c\x01|\x8c\x01xNNJ\xff\xff\xff\xffK\x00K\x00tb.", "plain"),
        (b"cnumpy\ndtype\n\x8c\x02V8\x89\x88\x87R.", "element type 'V8'"),
        (b"cnumpy\ndtype\n](K\x01e\x89\x88\x87R.", "element type"),
        (b"cnumpy.core.multiarray\nscalar\n" + DTYPE_U2 + b"C\x01a\x86R.", "damaged number"),
        (b"cnumpy.core.multiarray\nscalar\nNC\x01a\x86R.", "damaged number"),
        (b"N.", "holds no dict"),
        (b"}.", "holds no dict"),
        (b".", "damaged"),
        (b"t.", "damaged"),
        (b"a.", "damaged"),
        (b"u.", "damaged"),
        (b"h\x05.", "damaged"),
        (b"\x94.", "damaged"),
        (b"}K\x01K\x02s.", "not all strings"),
        (b"}]]s.", "not all strings"),
        (b"}N.", "damaged"),
        (b"}.}", "goes on after its end"),
        (b"\x8c\x02\xff\xfe.", "UTF-8"),
        (b"", "cut short"),
        (b"}", "cut short"),
        (b"\xff.", "damaged or cut short"),
    ],
)
def test_opcodes_that_no_array_needs_are_refused(opcodes, message):
    with pytest.raises(ValueError, match=message):
        load(HEADER + PROTOCOL + opcodes)


def array(shape: bytes, data: bytes, dtype: bytes = DTYPE_U2, order: bytes = b"\x89") -> bytes:
    """A file whose codes are an array with these parts of its state."""
    head = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01"
    whole = b"cnumpy\ndtype\n\x8c\x02O8\x89\x88\x87R(K\x03\x8c\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb"
    inner = head + shape + dtype + order + data + b"tb"
    return HEADER + PROTOCOL + head + b")" + whole + b"\x89](}\x8c\x05codes" + inner + b"setb."


def test_the_array_of_the_hostile_tests_is_one_that_is_read():
    np.testing.assert_array_equal(load(array(b"K\x02\x85", b"C\x04\x01\x00\x02\x00"))["codes"], [1, 2])


LONG = b"\x8a\x08" + struct.pack("<q", 2**62)


@pytest.mark.parametrize(
    ("shape", "data", "dtype"),
    [
        (b"J\xff\xff\xff\x7f\x85", b"C\x04\x01\x00\x02\x00", DTYPE_U2),  # more than there is
        (LONG + b"\x85", b"C\x04\x01\x00\x02\x00", DTYPE_U2),
        (LONG + b"K\x04\x86", b"C\x00", DTYPE_U2),  # 2**64: nothing, if it could overflow
        (LONG + b"K\x00\x86", b"C\x00", DTYPE_U2),
        (b"J\xff\xff\xff\xff\x85", b"C\x04\x01\x00\x02\x00", DTYPE_U2),  # negative
        (b"K\x01\x85", b"C\x04\x01\x00\x02\x00", DTYPE_U2),  # less than there is
        (b"(" + b"K\x01" * 40 + b"t", b"C\x02\x01\x00", DTYPE_U2),  # dimensions
        (b"]", b"C\x02\x01\x00", DTYPE_U2),
        (b"K\x02\x85", b"](K\x01K\x02e", DTYPE_U2),  # a list where bytes belong
        (b"K\x02\x85", b"N", DTYPE_U2),
        (b"K\x02\x85", b"C\x04\x01\x00\x02\x00", b"N"),
        (b"K\x02\x85", b"](K\x01K\x02e", b"cnumpy\ndtype\n\x8c\x02O8\x89\x88\x87R"),  # objects within
        (b")", b"](K\x01e", b"cnumpy\ndtype\n\x8c\x02O8\x89\x88\x87R"),
    ],
)
def test_arrays_with_a_wrong_state_are_refused(shape, data, dtype):
    with pytest.raises(ValueError, match=r"has (a damaged )?an? ?array|damaged array|no bytes"):
        load(array(shape, data, dtype))


@pytest.mark.parametrize(
    "opcodes",
    [
        b"X\xff\xff\xff\xff",  # BINUNICODE of 4 GB
        b"\x8d" + struct.pack("<Q", 2**62),  # BINUNICODE8
        b"\x8d" + struct.pack("<Q", 2**64 - 1),
        b"B\xff\xff\xff\xff",
        b"\x8e" + struct.pack("<Q", 2**62),
        b"\x96" + struct.pack("<Q", 2**62),
        b"\x8b\xff\xff\xff\x7f",  # LONG4
        b"\x95" + struct.pack("<Q", 2**62) + b"}.",  # FRAME
        b"T\xff\xff\xff\x7f",
        b"I" + b"9" * 100_000 + b"\n.",
        b"r\xff\xff\xff\xff.",  # LONG_BINPUT far out
    ],
)
def test_declared_sizes_take_no_memory(opcodes):
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"."):
        load(HEADER + PROTOCOL + opcodes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**21


def test_many_parts_and_deep_nesting_are_refused():
    deep = b"]" * 9000 + b"a" * 8999 + b"."
    for opcodes in (b"}" * 10**6, b"](" * 10**6, deep, b"N0" * 10**6, b"]\x94h\x00" * 10**6):
        with pytest.raises(ValueError, match=r"more than 10000 parts|holds no dict|damaged"):
            load(HEADER + PROTOCOL + opcodes)


def test_a_dict_in_itself_and_lists_too_deep_are_refused():
    deep: Any = 1
    for _ in range(6):
        deep = [deep]
    with pytest.raises(ValueError, match="four deep"):
        load(saved({"a": deep}))
    circle: dict[str, Any] = {}
    circle["a"] = circle
    with pytest.raises(ValueError, match="four deep"):
        load(saved(circle))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not begin"),
        (b"\x93NUMPY", "cut short"),
        (b"\x93NUMPY\x09\x00v\x00", "unknown version"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "too long"),
        (HEADER.replace(b"|O", b"<i4"), "not of one pickled dict"),
        (HEADER.replace(b"()", b"(5,)"), "not of one pickled dict"),
        (HEADER.replace(b"{", b"("), "damaged .npy header"),
        (b"\x93NUMPY\x01\x00" + struct.pack("<H", 1000) + b"(" * 1000, "damaged .npy header"),
        (b"\x93NUMPY\x01\x00" + struct.pack("<H", 40) + b"__import__('os').system('echo owned')   ", "damaged"),
    ],
)
def test_other_npy_files_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        load(data)


@settings(max_examples=300)
@given(st.binary(max_size=60), st.integers(0, 400))
def test_damage_anywhere_is_a_value_error(noise, place):
    data = bytearray(saved({"codes": np.arange(6, dtype=np.uint16), "metadata": {"a": 1, "b": True}}))
    place = 128 + place % (len(data) - 128)
    data[place : place + len(noise)] = noise
    try:
        found = load(bytes(data))
    except ValueError:
        return
    assert isinstance(found, dict)


def test_every_prefix_is_refused():
    data = saved({"codes": np.arange(6, dtype=np.uint16), "metadata": {"a": 1}})
    for length in range(len(data)):
        with pytest.raises(ValueError, match=r"."):
            load(data[:length])


def test_what_cannot_be_written_is_refused():
    with pytest.raises(TypeError, match="set"):
        npy_dict.dump({"a": {1, 2}})
