"""Pickles from strangers: lists, bytes, numbers and flat arrays of numbers; nothing else is even looked
up, and numpy's own constructors, which trust what they are given, are never called."""

import io
import pickle
import pickletools
import re
from pathlib import Path

import numpy as np

from ..foreign import regular_file

MOST_BYTES = 2**32
MOST_OPCODES = 1_000_000  # a few seconds of them; such files have some tens of thousands
# What builds the above; no sets and no dictionaries, since hashing nested tuples can take for ever.
OPCODES = {"PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1"}
OPCODES |= {"BININT2", "LONG", "LONG1", "FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING"}
OPCODES |= {"UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES"}
OPCODES |= {"BINBYTES8", "BYTEARRAY8", "EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE"}
OPCODES |= {"TUPLE1", "TUPLE2", "TUPLE3", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET"}
OPCODES |= {"LONG_BINGET", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD"}
KINDS = re.compile(r"[<>|=]?(b1|[iu][1248]|f[48])")


def load_harmless(path: Path) -> object:
    """What a pickle file holds; arrays as `Array`. Raises ValueError, among others, for anything but
    lists, tuples, bytes, text, numbers, and arrays of numbers, without running or building it."""
    regular_file(path, MOST_BYTES)
    content = path.read_bytes()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if opcode.name not in OPCODES:
            raise ValueError(f"it holds more than lists, bytes and numbers ({opcode.name})")
        # Python makes room for as many as the highest number.
        if (opcode.name.endswith("PUT") and int(argument) > count) or count > MOST_OPCODES:
            raise ValueError(f"no pickle is written so ({opcode.name} after {count:,} steps)")
    return _Unpickler(io.BytesIO(content), encoding="bytes").load()


class Array:
    """Stands for a pickled array; its `values` are None until its state is given."""

    values: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, fortran, content = state
        self.values = _values(content, kind, shape, "F" if fortran else "C")


class _Kind:
    """Stands for a dtype, of numbers only."""

    def __init__(self, name: str | bytes):
        name = name.decode() if isinstance(name, bytes) else name
        if not KINDS.fullmatch(name):
            raise ValueError(f"it holds an array of {name!a:.40}, not of numbers")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple) -> None:
        order = state[1].decode() if isinstance(state[1], bytes) else state[1]
        self.dtype = _Kind(order + self.dtype.str[1:]).dtype


def _values(content: bytes, kind: _Kind, shape: tuple[int, ...], order: str) -> np.ndarray:
    if not (isinstance(content, (bytes, bytearray)) and isinstance(kind, _Kind)):
        raise ValueError("it holds an array without numbers")
    if len(shape) > 2 or min(shape, default=0) < 0:
        raise ValueError(f"it holds an array of {len(shape)} dimensions")
    return np.frombuffer(content, kind.dtype).reshape(shape, order=order)


def _array(buffer: bytes, kind: _Kind, shape: tuple[int, ...], order: str) -> Array:
    array = Array()
    array.values = _values(buffer, kind, shape, order)
    return array


# All that such pickles name. numpy 1 says `core`, 2 `_core`.
NAMES = {
    ("numpy", "ndarray"): None,  # only ever handed to _reconstruct
    ("numpy", "dtype"): lambda name, align=False, copy=False: _Kind(name),
    ("numpy._core.multiarray", "_reconstruct"): lambda cls, shape, letter: Array(),
    ("numpy._core.multiarray", "scalar"): lambda kind, content: _values(content, kind, (1,), "C")[
        0
    ].item(),
    ("numpy._core.numeric", "_frombuffer"): _array,
    # How Python 3 writes bytes for Python 2.
    ("_codecs", "encode"): lambda text, encoding="latin1": text.encode("latin1"),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        key = module.replace("numpy.core.", "numpy._core."), name
        if key not in NAMES:
            raise ValueError(f"it asks for {module}.{name}")
        return NAMES[key]
