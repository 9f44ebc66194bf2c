"""Rows by node type, and the order in which a dict of features holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxdirect import _gradient
from jaxdirect.relational import RelGraph
from jaxdirect.relational._groups import gather_permuted, scatter_permuted
from jaxdirect.relational._lists import Tiles
from jaxdirect.relational._outer_op import outer
from jaxdirect.relational.typed_linear import Options


def row_lengths(layer: str, in_features: Any, names: Sequence[str]) -> tuple[int, ...]:
    """The length of a row of each node type, from one for all or a dict."""
    if not isinstance(in_features, Mapping):
        return (in_features,) * len(names)
    if set(in_features) != set(names):
        raise ValueError(
            f"{layer}: in_features must name the node types {', '.join(names)}, got "
            f"{', '.join(map(str, in_features))}"
        )
    return tuple(in_features[name] for name in names)


def stored_row_lengths(layer: str, metadata: Any, state: Mapping[str, ArrayLike]) -> dict[str, int]:
    """The length of a row of each node type in a state dict of PyG's layer."""
    if isinstance(metadata[1], int):
        raise ValueError(
            f"{layer}.load_pyg: PyG names node and edge types; build the layer with their names "
            "as metadata"
        )
    begin, end = "kqv_lin.lins.", ".weight"
    return {
        name[len(begin) : -len(end)]: np.shape(value)[1]
        for name, value in state.items()
        if name.startswith(begin) and name.endswith(end)
    }


# The gradient is a segmented sum in a fixed order, not a scatter of every node into a few rows.
@_gradient.custom_vjp(3)
def _type_rows(table: Array, ntype: Array, tiles: Tiles, options: Options) -> Array:
    return table[jnp.clip(ntype, 0, table.shape[0] - 1)]


def _fwd(table: Array, ntype: Array, tiles: Tiles, options: Options) -> tuple:
    return _type_rows(table, ntype, tiles, options), tiles


def _bwd(options: Options, tiles: Tiles, cotangent: Array) -> tuple:
    one = jnp.ones((cotangent.shape[0], 1), cotangent.dtype)
    # Full precision: TF32 would round the cotangent.
    sums = outer(
        (one, True),
        (cotangent, True),
        tiles,
        precision=1,
        implementation=options.implementation,
    )
    return sums[:, 0], None, None


_type_rows.defvjp(_fwd, _bwd)


def type_rows(
    table: Float[Array, "types k"], g: RelGraph, options: Options
) -> Float[Array, "nodes k"]:
    """Each destination's row of `table`, by its type."""
    ntype, tiles = _types(g)
    rows: Any = _type_rows(table, ntype[: g.num_dst], tiles, options)
    return rows


def _types(g: RelGraph) -> tuple[Array, Tiles]:
    if g.ntype is None or g.node_tiles is None:
        raise ValueError("HGTConv: the graph has no node types; build it with ntype=")
    return g.ntype, g.node_tiles


def places(ntype: Int[Array, " nodes"], counts: Sequence[int]) -> Int[Array, " nodes"]:
    """Where each node's row is when the types' rows follow one another, each by node number."""
    place = jnp.full(ntype.shape, -1, jnp.int32)
    offset = 0
    for number, count in enumerate(counts):
        member = ntype == number
        rank = jnp.cumsum(member, dtype=jnp.int32) - 1
        place = jnp.where(member & (rank < count), offset + rank, place)
        offset += count
    return place


class NodeOrder:
    """The way from the rows of each type, one behind the other, to the nodes' order and back."""

    def __init__(self, layer: str, names: Sequence[str], g: RelGraph, x: Mapping[str, Any]) -> None:
        if set(x) != set(names):
            raise ValueError(
                f"{layer}: x must have the node types {', '.join(names)}, got "
                f"{', '.join(map(str, x))}"
            )
        if g.num_src != g.num_dst:
            raise ValueError(
                f"{layer}: x must be one array for a block, got a dict; stack the rows in the "
                "order of the block's nodes"
            )
        self.names, self.counts = tuple(names), tuple(len(x[name]) for name in names)
        ntype, _ = _types(g)
        self._check(layer, g, ntype)
        self._places = places(ntype, self.counts)

    def _check(self, layer: str, g: RelGraph, ntype: Array) -> None:
        wanted = None
        if not isinstance(ntype, Tracer):
            wanted = tuple(np.bincount(np.asarray(ntype), minlength=len(self.names)).tolist())
        if sum(self.counts) != g.num_src or (wanted is not None and wanted != self.counts):
            got = ", ".join(f"{n} {c}" for n, c in zip(self.names, self.counts, strict=True))
            nodes = f"{g.num_src}" if wanted is None else ", ".join(map(str, wanted))
            raise ValueError(
                f"{layer}: x must have a row per node of each type ({nodes}), got {got}"
            )

    def join(self, rows: Mapping[str, Array]) -> Float[Array, "nodes d"]:
        """One array in the nodes' order."""
        return gather_permuted(jnp.concatenate([rows[name] for name in self.names]), self._places)

    def split(self, rows: Float[Array, "nodes d"]) -> dict[str, Array]:
        """The rows of each type."""
        ordered = scatter_permuted(rows, self._places)
        ends = np.cumsum(self.counts)[:-1].tolist()
        return dict(zip(self.names, jnp.split(ordered, ends), strict=True))
