"""The host's part of a relational graph: the native plan as arrays of the default device."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdirect import _ffi
from jaxdirect.relational._edges import COMPACTIONS, Edges
from jaxdirect.relational._lists import Lists, Tiles
from jaxdirect.relational._parts import Attention, Sums

_PATIENCE = 2.0  # seconds before a build says what it does
_BAR = 20  # characters


def build(
    edges: Edges, compaction: str, attention: bool, progress: bool | Callable[[str], None] | None
) -> dict[str, Any]:
    """The fields of a `RelGraph`."""
    native = _ffi.require("cpu", "RelGraph.from_edges")
    bar = _Bar(progress, edges.src.size, native.PLAN_STEPS)
    try:
        plan = _plan(native, edges, compaction, attention, bar)
    finally:
        bar.close()

    counts = [plan[f"relation_{name}"] for name in ("edges", "sources", "destinations")]
    sums = _sums(plan["sums"])
    return {
        "edge_ids": jnp.asarray(plan["edge_ids"]),
        "incoming": _lists(plan["incoming"]),
        "outgoing": _lists(plan["outgoing"]),
        "outgoing_edges": jnp.asarray(plan["outgoing_edges"]),
        "sums": sums,
        "attention": _attention(plan["attention"], sums.tiles) if attention else None,
        "node_tiles": None if edges.ntype is None else _node_tiles(plan["node_tiles"]),
        "ntype": None if edges.ntype is None else jnp.array(edges.ntype),  # may be the caller's
        "relation_counts": jnp.asarray(np.stack(counts, axis=1)),
        "num_src": edges.num_nodes,
        "num_dst": edges.num_nodes,
        "num_edges": max(edges.src.size, edges.pad_edges),
        "num_relations": edges.num_relations,
        "num_types": edges.num_types,
        "compaction": compaction,
        "padded": edges.pad_edges >= 0,
    }


def _plan(
    native: Any, edges: Edges, compaction: str, attention: bool, on_step: Callable[[str], None]
) -> dict[str, Any]:
    return native.build_plan(
        src=edges.src,
        dst=edges.dst,
        etype=edges.etype,
        ntype=edges.ntype,
        num_nodes=edges.num_nodes,
        num_relations=edges.num_relations,
        num_types=edges.num_types,
        compaction=COMPACTIONS.index(compaction),
        attention=attention,
        pad_edges=edges.pad_edges,
        num_threads=_num_threads(),
        on_step=on_step,
    )


def _num_threads() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _arrays(part: dict[str, Any]) -> dict[str, Any]:
    return {
        name: jnp.asarray(value) if isinstance(value, np.ndarray) else value
        for name, value in part.items()
    }


def _lists(part: dict[str, Any]) -> Lists:
    return Lists(**_arrays(part))


def _tiles(part: dict[str, Any]) -> Tiles:
    return Tiles(**_arrays(part | {"far": _lists(part["far"])}))


def _node_tiles(part: dict[str, Any]) -> Tiles:
    return dataclasses.replace(_tiles(part), covers_nodes=True)


def _sums(part: dict[str, Any]) -> Sums:
    lists = {name: _lists(part[name]) for name in ("into", "outof")}
    return Sums(**_arrays(part | lists | {"tiles": _tiles(part["tiles"])}))


def _attention(part: dict[str, Any], sum_tiles: Tiles) -> Attention:
    tiles = {
        name: sum_tiles if part[name] is None else _tiles(part[name])
        for name in ("src_tiles", "dst_tiles")
    }
    lists = {name: _lists(part[name]) for name in ("src_rows", "dst_rows")}
    return Attention(**_arrays(part | lists | tiles))


class _Bar:
    """A line on stderr from `_PATIENCE` on (True: at once, False: never), or the caller's own."""

    def __init__(
        self, shown: bool | Callable[[str], None] | None, num_edges: int, steps: int
    ) -> None:
        self._shown, self._num_edges, self._steps = shown, num_edges, steps
        self._begin, self._step, self._drawn = time.monotonic(), 0, False

    def __call__(self, name: str) -> None:
        if callable(self._shown):
            self._shown(name)
            return
        late = time.monotonic() - self._begin > _PATIENCE
        if self._shown or (self._shown is None and late):
            self._draw(name)
        self._step += 1

    def _draw(self, name: str) -> None:
        full = _BAR * self._step // self._steps
        bar = "#" * full + "." * (_BAR - full)
        seconds = time.monotonic() - self._begin
        text = f"RelGraph: {self._num_edges:,} edges [{bar}] {seconds:.1f} s {name}"
        print(f"\r{text:<79}", end="", file=sys.stderr, flush=True)
        self._drawn = True

    def close(self) -> None:
        """Ends the line, if there is one."""
        if self._drawn:
            self._draw("done" if self._step == self._steps else "stopped")
            print(file=sys.stderr, flush=True)
