"""A relational graph's plan in a file: an uncompressed .npz of its arrays and a description."""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxdirect.relational._lists import Lists, Tiles
from jaxdirect.relational._parts import Attention, Sums

_FORMAT = "jaxdirect.RelGraph"
_VERSION = 1
_HEADER = "header"
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError)
# The class of each field that is neither an array nor a number.
_PARTS: dict[str, type] = {
    **dict.fromkeys(("incoming", "outgoing", "into", "outof", "far"), Lists),
    **dict.fromkeys(("src_rows", "dst_rows"), Lists),
    **dict.fromkeys(("tiles", "src_tiles", "dst_tiles", "node_tiles"), Tiles),
    "sums": Sums,
    "attention": Attention,
}


def save(graph: Any, path: str | os.PathLike[str]) -> None:
    """`RelGraph.save`."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(graph)):
        raise TypeError("RelGraph.save: needs values, got tracers; call it outside of jit")
    arrays: dict[str, Any] = {}
    fields = _describe(graph, "graph", arrays, {})
    header = {"format": _FORMAT, "version": _VERSION, "fields": fields}
    arrays[_HEADER] = np.array(json.dumps(header))
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as stream:
            np.savez(stream, **arrays)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _describe(value: Any, name: str, arrays: dict[str, np.ndarray], seen: dict[int, str]) -> Any:
    """A part as plain data; its arrays are named after the path to them."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if not dataclasses.is_dataclass(value):
        arrays[name] = np.asarray(value)
        return {"array": name}
    if id(value) in seen:
        return {"same": seen[id(value)]}
    seen[id(value)] = name
    return {
        field.name: _describe(getattr(value, field.name), f"{name}.{field.name}", arrays, seen)
        for field in dataclasses.fields(value)
    }


def load(graph: type, path: str | os.PathLike[str]) -> Any:
    """`RelGraph.load`."""
    path = Path(path)
    try:
        with path.open("rb") as stream:
            if stream.read(2) not in (b"PK", b""):
                raise ValueError(f"{path}: not a RelGraph; write one with RelGraph.save")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise ValueError(f"RelGraph.load: {path}: no such file") from None
    except PermissionError:
        raise ValueError(f"RelGraph.load: {path}: not readable; check its permissions") from None
    except _BROKEN as error:
        raise ValueError(f"RelGraph.load: {_reason(path, error)}") from error
    fields = _fields(path, arrays)
    try:
        return _restore(graph, "graph", fields, arrays, {})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"RelGraph.load: {path}: incomplete or damaged ({error}); save it again"
        ) from error


def _reason(path: Path, error: Exception) -> str:
    if str(error).startswith(str(path)):
        return str(error)
    return f"{path}: truncated or corrupt ({error}); save it again"


def _fields(path: Path, arrays: dict[str, np.ndarray]) -> Any:
    header: Any = {}
    if _HEADER in arrays and arrays[_HEADER].dtype.kind == "U":
        try:
            header = json.loads(str(arrays[_HEADER]))
        except json.JSONDecodeError:
            header = {}
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise ValueError(f"RelGraph.load: {path}: not a RelGraph; write one with RelGraph.save")
    if header.get("version") != _VERSION:
        raise ValueError(
            f"RelGraph.load: {path}: written in version {header.get('version')} of the format, "
            f"this jaxdirect reads version {_VERSION}; build the graph again and save it"
        )
    return header["fields"]


def _restore(
    kind: type, name: str, fields: Any, arrays: dict[str, np.ndarray], made: dict[str, Any]
) -> Any:
    """The inverse of `_describe`."""
    values = {}
    for field in dataclasses.fields(kind):
        value = fields[field.name]
        if not isinstance(value, dict):
            values[field.name] = value
        elif "array" in value:
            values[field.name] = jnp.asarray(arrays[value["array"]])
        elif "same" in value:
            values[field.name] = made[value["same"]]
        else:
            path = f"{name}.{field.name}"
            values[field.name] = _restore(_PARTS[field.name], path, value, arrays, made)
    made[name] = kind(**values)
    return made[name]
