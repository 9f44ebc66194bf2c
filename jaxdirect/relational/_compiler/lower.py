"""The lowering to JAX: each value once for every row of its domain."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxdirect import _compat
from jaxdirect.relational import _call
from jaxdirect.relational._compiler import domains, einsum, ir, reductions
from jaxdirect.relational._compiler.domains import Domain, Places, flat
from jaxdirect.relational._groups import gather_permuted
from jaxdirect.relational.graph import RelGraph
from jaxdirect.relational.typed_linear import Options


class Lowering:
    """Evaluates a program on a graph.

    Args:
        graph: the graph.
        tables: arrays by table and name.
        compaction: whether pairs have rows of their own.
        options: precision and implementation of the operations.
    """

    def __init__(
        self,
        graph: RelGraph,
        tables: Mapping[str, Mapping[str, Array]],
        compaction: bool,
        options: Options,
    ):
        self.graph, self.tables, self.compaction = graph, tables, compaction
        self.options = options
        self.places = Places(graph, options.implementation)
        self._known: dict[Any, Any] = {}

    def run(self, program: ir.Program) -> list[Array]:
        """The results, a row for each destination."""
        to = Domain(domains.DESTINATIONS)
        found = []
        for value in program.results:
            rows = self.at(value, to)
            if self.domain(value).kind == domains.SHARED:
                rows = jnp.broadcast_to(rows, (self.graph.num_dst, *value.shape))
            found.append(rows)
        return found

    def domain(self, value: ir.Value) -> Domain:
        """Where a value is."""
        return domains.domain_of(value.scope, self.compaction)

    def at(self, value: ir.Value, to: Domain) -> Array:
        """A value where it is needed."""
        key = value, to
        if key not in self._known:
            self._known[key] = self.places.move(self.rows(value), self.domain(value), to)
        return self._known[key]

    def rows(self, value: ir.Value) -> Array:
        """A value where it is, `[rows, *shape]`; without rows where it is shared."""
        if value not in self._known:
            kind = type(value).__name__.lower()
            self._known[value] = getattr(self, f"_{kind}")(value)
        return self._known[value]

    def _input(self, value: ir.Input) -> Array:
        if value.literal is not None:
            return jnp.asarray(value.literal, value.dtype)
        array = self.tables[value.table][value.name]
        if value.table == "edges":
            return gather_permuted(flat(array), self.graph.edge_ids).reshape(array.shape)
        if value.table == "nodes" and value.scope == {ir.DESTINATION}:
            return array[: self.graph.num_dst]
        return array

    def _reshape(self, value: ir.Reshape) -> Array:
        rows = self.rows(value.operands[0])
        leading = rows.shape[: rows.ndim - len(value.operands[0].shape)]
        return rows.reshape(*leading, *value.shape)

    def _apply(self, value: ir.Apply) -> Array:
        key = value.eqn, value.operands
        if key not in self._known:
            to = self.domain(value)
            rows = [self.at(operand, to) for operand in value.operands]
            shared = [self.domain(operand).kind == domains.SHARED for operand in value.operands]
            bind = functools.partial(_bound, value.eqn)
            if not all(shared):
                bind = jax.vmap(bind, in_axes=[None if flag else 0 for flag in shared])
            self._known[key] = bind(*rows)
        return self._known[key][value.index]

    def _contract(self, value: ir.Contract) -> Array:
        return einsum.product(self, value)

    def _reduce(self, value: ir.Reduce) -> Array:
        graph, how = self.graph, self.options.implementation
        (operand,) = value.operands
        if value.kind == "pairs":
            found = reductions.sum_pairs(flat(self.rows(operand)), graph, how)
        elif value.kind in ("sum", "mean"):
            found = self._sum(operand, value.within, ir.RELATION in value.scope)
            if value.kind == "mean" and not value.within:
                found = (found / reductions.degree(graph)[:, None]).astype(value.dtype)
        else:
            run = reductions.softmax if value.kind == "softmax" else reductions.max_edges
            found = run(self._at_edges(operand), graph, how)
        return found.reshape(found.shape[0], *value.shape)

    def _at_edges(self, value: ir.Value) -> Array:
        """`[num_edges, size]`."""
        rows = self.at(value, Domain(domains.EDGES))
        if self.domain(value).kind == domains.SHARED:
            rows = jnp.broadcast_to(rows, (self.graph.num_edges, *value.shape))
        return flat(rows)

    def _sum(self, operand: ir.Value, within: bool, into_pairs: bool) -> Array:
        """`[num_dst, size]`, or of pairs; within relations each edge counts for its share."""
        graph, how = self.graph, self.options.implementation
        weight, rows, kind = self._factors(operand)
        if within:
            share = reductions.shares_of_relation(graph, operand.dtype)
            weight = share if weight is None else weight * share
        if weight is None and kind == domains.EDGES and not into_pairs:
            return reductions.sum_edges(rows, graph, how)
        if weight is None:
            weight = jnp.ones((graph.num_edges, 1), operand.dtype)
        if into_pairs:
            wide = weight.astype(_call.accumulator(rows.dtype))
            return reductions.sum_into_pairs(rows, wide, graph, kind, how)
        if kind == domains.EDGES:
            return reductions.sum_edges(rows * weight, graph, how)
        return reductions.sum_rows(rows, weight, graph, kind == domains.SOURCE_PAIRS, how)

    def _factors(self, operand: ir.Value) -> tuple[Array | None, Array, str]:
        """Weights of edges or None, rows that they multiply, and where these are."""
        found = einsum.weighted_rows(operand, self.domain)
        if found is None:
            return None, self._at_edges(operand), domains.EDGES
        weight, near = found
        at_edges = None if weight is None else self._at_edges(weight)
        return at_edges, flat(self.rows(near)), self.domain(near).kind


def _bound(eqn: Any, *operands: Array) -> list[Array]:
    return _compat.bind(eqn, list(operands))
