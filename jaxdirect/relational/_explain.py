"""What a relational graph's plan holds, as a table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.core import Tracer

from jaxdirect.relational._lists import Lists, Tiles, piece_of

if TYPE_CHECKING:
    from jaxdirect.relational.graph import RelGraph

_MOST_ROWS = 40  # relations shown; the others are added up


def explain(graph: RelGraph) -> str:
    """The table of `RelGraph.explain`."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(graph)):
        raise TypeError("RelGraph.explain: needs values, got tracers; call it outside of jit")
    lines = [repr(graph), ""]
    if graph.relation_counts is None:
        lines.append("per relation: not known (the graph was not built by from_edges)")
    else:
        lines += _relations(graph)
    return "\n".join([*lines, "", *_bytes(graph), "", *_heavy(graph)])


def _slots_per_weight(tiles: Tiles, num_weights: int) -> np.ndarray:
    weight, nodes = np.asarray(tiles.weight_of), np.asarray(tiles.nodes)
    used = (nodes.reshape(weight.size, -1) >= 0).sum(1)
    return np.bincount(weight[weight >= 0], used[weight >= 0], num_weights).astype(np.int64)


def _relations(graph: RelGraph) -> list[str]:
    counts = np.asarray(graph.relation_counts).astype(np.int64)
    edges, sources, destinations = counts.T
    near_src = (sources <= destinations) | (graph.compaction != "min")
    rows = _slots_per_weight(graph.sums.tiles, graph.num_relations)
    heading = (
        f"{'relation':>10} {'edges':>13} {'(src, r)':>13} {'(dst, r)':>13} {'side':>5} "
        f"{'rows':>13} {'rows/edge':>9}"
    )
    lines = [heading]

    def line(name: object, which: Any, side: str) -> str:
        values = [int(column[which].sum()) for column in (edges, sources, destinations, rows)]
        ratio = f"{values[3] / values[0]:.3f}" if values[0] else "-"
        shown = [f"{value:>13,}" for value in values]
        return " ".join([f"{name!s:>10}", *shown[:3], f"{side:>5}", shown[3], f"{ratio:>9}"])

    order = np.argsort(-edges, kind="stable")
    for r in sorted(order[:_MOST_ROWS].tolist()):
        lines.append(line(r, [r], "src" if near_src[r] else "dst"))
    if order.size > _MOST_ROWS:
        lines.append(line(f"{order.size - _MOST_ROWS} more", order[_MOST_ROWS:], ""))
    lines.append(line("all", slice(None), ""))
    tiles = graph.sums.tiles
    used = int((np.asarray(tiles.weight_of) >= 0).sum())
    lines.append(
        f"{used:,} tiles of 64 rows hold {int(rows.sum()):,} rows"
        + (f", room for {tiles.num_tiles:,}" if used < tiles.num_tiles else "")
    )
    return lines


def _bytes(graph: RelGraph) -> list[str]:
    parts = {
        "edges by destination": (graph.edge_ids, graph.incoming),
        "edges by source": (graph.outgoing_edges, graph.outgoing),
        "sums": graph.sums,
        "attention": graph.attention,
        "node types": (graph.node_tiles, graph.ntype),
    }
    seen: set[int] = set()
    sizes = {}
    for name, part in parts.items():
        new = {id(leaf): leaf.nbytes for leaf in jax.tree.leaves(part) if id(leaf) not in seen}
        seen |= new.keys()
        sizes[name] = sum(new.values())
    total = sum(sizes.values())
    lines = [f"{name:>22} {size:>16,} B" for name, size in sizes.items() if size]
    per_edge = f" ({total / graph.num_edges:.1f} B per edge)" if graph.num_edges else ""
    shared = graph.attention is not None and graph.sums.tiles in (
        graph.attention.src_tiles,
        graph.attention.dst_tiles,
    )
    lines.append(f"{'plan':>22} {total:>16,} B{per_edge}")
    return lines + (["attention shares its tiles with the sums"] if shared else [])


def _heavy(graph: RelGraph) -> list[str]:
    def line(name: str, lists: Lists) -> str:
        indptr = np.asarray(lists.indptr)
        longest = int(np.diff(indptr).max(initial=0))
        count = int((np.asarray(lists.heavy)[:, 0] >= 0).sum())
        most = piece_of(lists.num_entries)
        return f"{name}: {count:,} heavy nodes (more than {most} edges), the longest of {longest:,}"

    return [line("incoming", graph.incoming), line("outgoing", graph.outgoing)]
