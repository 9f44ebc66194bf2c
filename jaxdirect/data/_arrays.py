"""Arrays from .npy, .npz and text files; every error names the file, and the line or array."""

from __future__ import annotations

import gzip
import lzma
import os
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from jaxdirect.hostmem.unified import empty

_CHUNK = 1 << 26
_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Turns what NumPy and zipfile raise on a bad file into a sentence that names it."""
    try:
        yield
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except PermissionError:
        raise ValueError(f"{path}: not readable; check its permissions") from None
    except _BROKEN as error:
        raise ValueError(f"{path}: truncated or corrupt: {error}; write it again") from error


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Every array of an .npz file."""
    with named(path), zipfile.ZipFile(path) as archive:
        return {
            name.removesuffix(".npy"): _read_member(path, archive, name)
            for name in archive.namelist()
        }


def _read_member(path: Path, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as stream:
        return _read_stream(f"{path}[{name.removesuffix('.npy')}]", stream)


def read_npy(path: Path, *, mapped: bool = False) -> np.ndarray:
    """An .npy file, mapped in mode "r+" if asked and possible, else read into aligned memory."""
    with named(path), path.open("rb") as stream:
        shape, fortran, dtype = _header(str(path), stream)
        start = stream.tell()
        want, have = int(np.prod(shape, dtype=object)) * dtype.itemsize, path.stat().st_size - start
        # numpy.memmap in mode "r+" would grow a short file instead of refusing it.
        if have < want:
            raise ValueError(
                f"{path}: truncated: {want} bytes of data expected after the header, got {have}; "
                "write it again"
            )
        plain = dtype.isnative and not fortran and want > 0
        if mapped and plain and os.access(path, os.W_OK):
            return np.memmap(path, dtype=dtype, mode="r+", offset=start, shape=shape)
        stream.seek(0)
        return _read_stream(str(path), stream)


def _header(name: str, stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise ValueError(f"format version {version} is not supported")
        shape, fortran, dtype = read(stream)
    except ValueError as error:
        raise ValueError(f"{name}: not a whole .npy array: {error}; write it again") from error
    if dtype.hasobject:
        raise ValueError(f"{name}: expected numbers, got dtype {dtype}; save a numeric array")
    return shape, fortran, dtype


def _read_stream(name: str, stream: IO[bytes]) -> np.ndarray:
    """Reads one array straight into page-aligned memory: no second copy."""
    shape, fortran, dtype = _header(name, stream)
    array = empty(shape[::-1] if fortran else shape, dtype)
    view, at = array.reshape(-1).view(np.uint8).data, 0
    while at < len(view):
        got = stream.readinto(view[at : at + _CHUNK])  # pyright: ignore[reportAttributeAccessIssue]
        if not got:
            raise ValueError(
                f"{name}: truncated: {len(view)} bytes of data expected, got {at}; write it again"
            )
        at += got
    array = array.transpose() if fortran else array
    if dtype.isnative and array.flags.c_contiguous:
        return array
    native = empty(shape, dtype.newbyteorder("="))
    native[...] = array
    return native


def read_text(path: Path, columns: int) -> np.ndarray:
    """`[num_lines, columns]` int64 from lines of integers parted by blanks or commas.

    Empty lines and comments (from "#" on) are skipped, and so is a heading in a .csv file. A file
    whose name ends in .gz is unpacked.
    """
    with named(path):
        heading, comma = _layout(path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                table = np.loadtxt(
                    path, np.int64, delimiter="," if comma else None, skiprows=heading, ndmin=2
                )
        except (ValueError, OverflowError, Warning) as error:
            _find_bad_line(path, heading, comma, columns)
            if "no data" in str(error):
                raise ValueError(f"{path}: empty; expected lines of integers") from None
            raise ValueError(f"{path}: not a table of integers: {error}") from error
        if table.shape[1] != columns:
            _find_bad_line(path, heading, comma, columns)
        return table


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with (gzip.open if path.suffix == ".gz" else open)(
        path, "rt", encoding="utf-8", errors="replace"
    ) as stream:
        for number, line in enumerate(stream, 1):
            text = line.partition("#")[0].strip()
            if text:
                yield number, text


def _layout(path: Path) -> tuple[int, bool]:
    """Lines to skip up to the end of a heading, and whether commas part the columns."""
    for number, text in _lines(path):
        named = path.suffix == ".csv" and not any(map(_is_int, text.split(",")))
        return (number if named else 0), "," in text
    return 0, False


def _is_int(text: str) -> bool:
    try:
        return -(2**63) <= int(text) < 2**63 and "_" not in text
    except ValueError:
        return False


def _find_bad_line(path: Path, heading: int, comma: bool, columns: int) -> None:
    expected = {1: "one integer", 2: "two integers"}[columns]
    for number, text in _lines(path):
        fields = text.split(",") if comma else text.split()
        if number > heading and (len(fields) != columns or not all(map(_is_int, fields))):
            raise ValueError(f"{path}:{number}: expected {expected}, got '{text}'")


def read(path: Path, columns: int) -> dict[str, np.ndarray]:
    """The arrays of a file of any kind; an .npy or text file holds one, named ""."""
    if path.suffix == ".npz":
        return read_npz(path)
    return {"": read_npy(path) if path.suffix == ".npy" else read_text(path, columns)}


def pick(arrays: dict[str, np.ndarray], path: Path, name: str, others: str = "") -> np.ndarray:
    """The array of that name, or the only one; `others` is what else the error offers."""
    if name in arrays:
        return arrays[name]
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    raise ValueError(f"{path}: expected '{name}'{others}, got {sorted(arrays)}; rename one")
