"""The C++ helpers of native.cc, compiled on first use with the machine's own g++."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np

_I64, _INT, _U64, _PTR = ctypes.c_int64, ctypes.c_int, ctypes.c_uint64, ctypes.c_void_p
_SIGNATURES = {
    "hm_fill": (None, [_PTR, _I64, _U64, _INT]),
    "hm_copy": (None, [_PTR, _PTR, _I64, _INT]),
    "hm_gather": (None, [_PTR, _PTR, _PTR, _I64, _I64, _I64, _INT, _INT]),
    "hm_sample": (_I64, [_PTR, _PTR, _PTR, _I64, _INT, _U64, _PTR, _INT]),
    "hm_batch": (
        _I64,
        [_PTR, _PTR, _PTR, _I64, _I64, _PTR, _I64, _INT, _INT, _U64, _PTR, _PTR, _PTR, _PTR, _PTR],
    ),
}


@functools.cache
def library() -> ctypes.CDLL:
    """Compiles native.cc (once per source text and machine) and loads it."""
    source = Path(__file__).with_name("native.cc")
    name = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"hostmem_peers_{os.getuid()}"
    folder.mkdir(exist_ok=True)
    target = folder / f"{name}.so"
    if not target.exists():
        partial = folder / f"{name}.{os.getpid()}.so"
        flags = ["-O3", "-march=native", "-std=c++20", "-shared", "-fPIC", "-pthread"]
        compiler = os.environ.get("CXX", "g++")
        subprocess.run([compiler, *flags, str(source), "-o", str(partial)], check=True)
        partial.rename(target)  # atomic: two processes may build at once
    loaded = ctypes.CDLL(str(target))
    for function, (result, arguments) in _SIGNATURES.items():
        getattr(loaded, function).restype = result
        getattr(loaded, function).argtypes = arguments
    return loaded


def fill(array: np.ndarray, seed: int, threads: int) -> None:
    """Writes float32 bit patterns in [1, 2) that depend on the position, with all threads."""
    flat = array.reshape(-1).view(np.uint32)
    library().hm_fill(flat.ctypes.data, flat.size, seed, threads)


def copy(dst: np.ndarray, src: np.ndarray, threads: int) -> None:
    """Parallel copy of contiguous bytes."""
    library().hm_copy(dst.ctypes.data, src.ctypes.data, src.nbytes, threads)


def gather(dst: int, table: np.ndarray, ids: np.ndarray, *, streaming: bool, threads: int) -> None:
    """Gathers rows of `table` [num_rows, dim] by int64 `ids` [n] to the address `dst`."""
    row_bytes = table.strides[0]
    library().hm_gather(
        dst, table.ctypes.data, ids.ctypes.data, ids.size, row_bytes, len(table), streaming, threads
    )


def sample(
    indptr: np.ndarray, indices: np.ndarray, seeds: np.ndarray, fanout: int, seed: int, threads: int
) -> tuple[np.ndarray, int]:
    """One hop without replacement: neighbours [n, fanout] (-1 pads) and how many are no pads."""
    out = np.empty((seeds.size, fanout), np.int32)
    count = library().hm_sample(
        indptr.ctypes.data,
        indices.ctypes.data,
        seeds.ctypes.data,
        seeds.size,
        fanout,
        seed,
        out.ctypes.data,
        threads,
    )
    return out, count
