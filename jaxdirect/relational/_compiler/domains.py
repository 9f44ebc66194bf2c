"""Where values are: how many rows a scope has in a graph, and how rows go from one to another."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax.numpy as jnp
from jaxtyping import Array, Int

from jaxdirect import _gradient
from jaxdirect.relational import _call
from jaxdirect.relational._compiler import ir
from jaxdirect.relational._edge_attention import at_edges
from jaxdirect.relational._lists import TILE, Tiles
from jaxdirect.relational._pairs import lookup, plan_of
from jaxdirect.relational._sum_op import list_sum
from jaxdirect.relational.graph import RelGraph

SHARED, TABLE, SOURCES, DESTINATIONS = "shared", "table", "sources", "destinations"
SOURCE_PAIRS, DESTINATION_PAIRS, EDGES = "source pairs", "destination pairs", "edges"
_INDICES = (ir.RELATION, ir.SOURCE_TYPE, ir.DESTINATION_TYPE)


@dataclasses.dataclass(frozen=True)
class Domain:
    """A place for values.

    Attributes:
        kind: one of the above.
        indices: of a table, which of relation and types number its rows.
    """

    kind: str
    indices: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " x ".join(self.indices) if self.kind == TABLE else self.kind


def domain_of(scope: frozenset[str], compaction: bool = True) -> Domain:
    """The smallest place for a scope; without compaction pairs are edges."""
    if not scope:
        return Domain(SHARED)
    if scope <= set(_INDICES):
        return Domain(TABLE, tuple(index for index in _INDICES if index in scope))
    if scope == {ir.SOURCE}:
        return Domain(SOURCES)
    if scope == {ir.DESTINATION}:
        return Domain(DESTINATIONS)
    if compaction and scope == {ir.SOURCE, ir.RELATION}:
        return Domain(SOURCE_PAIRS)
    if compaction and scope == {ir.DESTINATION, ir.RELATION}:
        return Domain(DESTINATION_PAIRS)
    return Domain(EDGES)


class Places:
    """The domains of a graph.

    Args:
        graph: with its attention part.
        implementation: of the operations that move rows.
    """

    def __init__(self, graph: RelGraph, implementation: str = "auto"):
        self.graph, self.plan, self.how = graph, plan_of(graph), implementation

    def rows(self, domain: Domain) -> int:
        """How many rows a domain has, with what only fills tiles."""
        graph, plan = self.graph, self.plan
        if domain.kind == TABLE:
            count = 1
            for index in domain.indices:
                count *= self._extent(index)
            return count
        return {
            SHARED: 1,
            SOURCES: graph.num_src,
            DESTINATIONS: graph.num_dst,
            SOURCE_PAIRS: plan.src_tiles.num_slots,
            DESTINATION_PAIRS: plan.dst_tiles.num_slots,
            EDGES: graph.num_edges,
        }[domain.kind]

    @property
    def types(self) -> Int[Array, " nodes"]:
        """Of the nodes; zeros without node types."""
        found = self.graph.ntype
        return jnp.zeros(self.graph.num_src, jnp.int32) if found is None else found

    def _extent(self, index: str) -> int:
        return self.graph.num_relations if index == ir.RELATION else self.graph.num_types

    @functools.cached_property
    def destination_of_edge(self) -> Int[Array, " edges"]:
        lists = self.graph.incoming
        return _call.row_of_entry(lists.indptr, lists.num_entries)

    def move(self, rows: Array, at: Domain, to: Domain) -> Array:
        """Rows of a domain where another needs them."""
        if at == to or at.kind == SHARED:
            return rows
        if rows.dtype == bool:
            return self.move(rows.astype(jnp.int8), at, to).astype(bool)
        moved = self._moved(flat(rows), at, to)
        return moved.reshape(moved.shape[0], *rows.shape[1:])

    def _moved(self, rows: Array, at: Domain, to: Domain) -> Array:
        graph, plan, how = self.graph, self.plan, self.how
        if to.kind == EDGES:
            if at.kind == SOURCE_PAIRS:
                return at_edges(rows, plan.src_tiles, plan.src_slots, how)
            if at.kind == DESTINATION_PAIRS:
                return at_edges(rows, plan.dst_tiles, plan.dst_slots, how)
            if at.kind == SOURCES:
                return _from_sources(rows, graph, how)
            if at.kind == DESTINATIONS:
                return _from_destinations(rows, graph, self.destination_of_edge, how)
            middle = self._towards_edges(at)
            if middle is None:
                return lookup(rows, self.number_of_edge(at))
            return self._moved(self._moved(rows, at, middle), middle, to)
        if to.kind in (SOURCE_PAIRS, DESTINATION_PAIRS):
            tiles = plan.src_tiles if to.kind == SOURCE_PAIRS else plan.dst_tiles
            lists = plan.src_rows if to.kind == SOURCE_PAIRS else plan.dst_rows
            if at.kind == TABLE:
                return self._over_tiles(rows, at, tiles, to)
            return _at_slots(rows, tiles, lists, how)
        if to.kind in (SOURCES, DESTINATIONS):
            return lookup(rows, self.types[: self.rows(to)])
        return self._table(rows, at, to)

    def _towards_edges(self, at: Domain) -> Domain | None:
        """Where rows of a table go first on their way to edges."""
        if ir.DESTINATION_TYPE not in at.indices:
            return Domain(SOURCE_PAIRS if ir.RELATION in at.indices else SOURCES)
        if ir.SOURCE_TYPE in at.indices:
            return None
        return Domain(DESTINATION_PAIRS if ir.RELATION in at.indices else DESTINATIONS)

    def number_of_edge(self, at: Domain) -> Int[Array, " edges"]:
        """Each edge's row of a table; any where there is no edge."""
        plan, types = self.plan, self.types
        found = {}
        if ir.RELATION in at.indices:
            relation = _call.take_rows(plan.dst_tiles.weight_of, plan.dst_slots // TILE)
            found[ir.RELATION] = jnp.maximum(relation, 0)
        if ir.SOURCE_TYPE in at.indices:
            found[ir.SOURCE_TYPE] = _call.take_rows(types, self.graph.incoming.indices)
        if ir.DESTINATION_TYPE in at.indices:
            found[ir.DESTINATION_TYPE] = _call.take_rows(types, self.destination_of_edge)
        return self._number(at, found)

    def by_weight(self, rows: Array, at: Domain, to: Domain) -> Array:
        """A table's row for each weight of the tiles of `to`; of relation and source type."""
        if to.kind == DESTINATION_PAIRS:
            return rows
        found = {ir.RELATION: self.plan.pair_relation, ir.SOURCE_TYPE: self.plan.pair_type}
        if at.indices == (ir.RELATION,) and found[ir.RELATION].shape[0] == rows.shape[0]:
            return rows
        return lookup(rows, self._number(at, found))

    def _over_tiles(self, rows: Array, at: Domain, tiles: Tiles, to: Domain) -> Array:
        if ir.DESTINATION_TYPE in at.indices:
            found = {
                ir.RELATION: jnp.repeat(tiles.weight_of, TILE),
                ir.DESTINATION_TYPE: _call.take_rows(self.types, tiles.nodes),
            }
            return lookup(rows, self._number(at, found))
        by_tile = lookup(self.by_weight(rows, at, to), tiles.weight_of)
        shape = (tiles.num_tiles, TILE, by_tile.shape[1])
        return jnp.broadcast_to(by_tile[:, None], shape).reshape(tiles.num_slots, shape[2])

    def _number(self, at: Domain, found: dict[str, Array]) -> Array:
        number = jnp.int32(0)
        for index in at.indices:
            number = number * self._extent(index) + found[index]
        return number

    def _table(self, rows: Array, at: Domain, to: Domain) -> Array:
        own = [self._extent(i) if i in at.indices else 1 for i in to.indices]
        whole = [self._extent(i) for i in to.indices]
        shaped = rows.reshape(*own, rows.shape[1])
        whole_rows = jnp.broadcast_to(shaped, (*whole, rows.shape[1]))
        return whole_rows.reshape(self.rows(to), rows.shape[1])


@_gradient.custom_vjp(3)
def _at_slots(rows: Array, tiles: Tiles, lists, implementation: str) -> Array:
    """The row of each slot's near node."""
    return _call.take_rows(rows, tiles.nodes)


_at_slots.defvjp(
    lambda rows, tiles, lists, how: (_at_slots(rows, tiles, lists, how), (lists, rows.shape[0])),
    lambda how, residual, cotangent: (
        _fitted(list_sum(cotangent, residual[0], implementation=how), residual[1]),
        None,
        None,
    ),
)


@_gradient.custom_vjp(2)
def _from_sources(rows: Array, graph: RelGraph, implementation: str) -> Array:
    return _call.take_rows(rows, graph.incoming.indices)


_from_sources.defvjp(
    lambda rows, graph, how: (_from_sources(rows, graph, how), graph),
    lambda how, graph, cotangent: (
        list_sum(cotangent, graph.outgoing, indices=graph.outgoing_edges, implementation=how),
        None,
    ),
)


@_gradient.custom_vjp(3)
def _from_destinations(rows: Array, graph: RelGraph, of_edge: Array, implementation: str) -> Array:
    return _call.take_rows(rows, of_edge)


_from_destinations.defvjp(
    lambda rows, graph, of_edge, how: (_from_destinations(rows, graph, of_edge, how), graph),
    lambda how, graph, cotangent: (
        list_sum(
            cotangent,
            graph.incoming,
            indices=jnp.arange(graph.num_edges, dtype=jnp.int32),
            implementation=how,
        ),
        None,
        None,
    ),
)


def flat(rows: Array) -> Array:
    """`[rows, size]`."""
    return rows.reshape(rows.shape[0], math.prod(rows.shape[1:]))


def _fitted(rows: Array, count: int) -> Array:
    """Rows cut, or followed by zeros, to be so many."""
    missing = count - rows.shape[0]
    return jnp.pad(rows[:count], ((0, max(missing, 0)), (0, 0)))
