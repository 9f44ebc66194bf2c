"""How a contraction of two operands runs: as a typed linear map where it is one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxdirect.relational._compiler import domains, explain, ir, order
from jaxdirect.relational._compiler.domains import Domain, flat
from jaxdirect.relational._pairs import block_diagonal, pair_rows, slot_rows
from jaxdirect.relational.typed_linear import linear_by_tiles, typed_linear

Labels = tuple[int, ...]


def weighted_rows(
    value: ir.Value, domain: Callable[[ir.Value], Domain]
) -> tuple[ir.Value | None, ir.Value] | None:
    """`(weights of edges, rows of sources or their pairs)` whose product a value is, or None."""
    near = Domain(domains.SOURCES), Domain(domains.SOURCE_PAIRS)
    if domain(value) in near:
        return None, value
    if isinstance(value, ir.Reshape):
        return weighted_rows(value.operands[0], domain)
    found = order.weighted_rows(value)
    return found if found is not None and domain(found[1]) in near else None


def product(lowering: Any, value: ir.Contract) -> Array:
    """Its rows."""
    if len(value.operands) == 2:
        for side in (0, 1):
            found = _linear(lowering, value, side)
            if found is not None:
                return found
    to = lowering.domain(value)
    rows = [lowering.at(operand, to) for operand in value.operands]
    shared = [lowering.domain(operand).kind == domains.SHARED for operand in value.operands]
    prefixes = ["" if flag else "..." for flag in (*shared, all(shared))]
    wide = jnp.promote_types(value.dtype, jnp.float32)
    found = jnp.einsum(
        explain.einsum(value, tuple(prefixes)),
        *rows,
        precision=jax.lax.Precision.HIGHEST if lowering.options.precision else None,
        preferred_element_type=wide,
    )
    return found.astype(value.dtype)


def _linear(lowering: Any, value: ir.Contract, side: int) -> Array | None:
    """Rows times a table's matrices, or None where the value is no such product."""
    x, weight = value.operands[side], value.operands[1 - side]
    x_labels, w_labels = value.terms[side], value.terms[1 - side]
    at, table = lowering.domain(x), lowering.domain(weight)
    if at.kind in (domains.SHARED, domains.TABLE) or table.kind != domains.TABLE:
        return None
    to = lowering.domain(value)
    summed = [n for n in x_labels if n in w_labels and n not in value.out]
    both = [n for n in x_labels if n in w_labels and n in value.out]
    free = [n for n in w_labels if n not in x_labels]
    known = {*value.out, *summed}
    if not summed or set(x_labels) - set(w_labels) or set(w_labels) - known:
        return None
    extents = value.extents
    matrix = lowering.rows(weight)
    order = [w_labels.index(n) for n in (*both, *summed, *free)]
    matrix = matrix.transpose(0, *(1 + i for i in order))
    heads, rows, columns = (math.prod(extents[n] for n in part) for part in (both, summed, free))
    matrix = matrix.reshape(matrix.shape[0], heads, rows, columns)
    matrix = block_diagonal(matrix) if heads > 1 else matrix[:, 0]
    given = lowering.rows(x)
    given = given.transpose(0, *(1 + x_labels.index(n) for n in (*both, *summed)))
    found = _run(lowering, flat(given), matrix, at, table, to)
    if found is None:
        return None
    found = found.reshape(found.shape[0], *(extents[n] for n in (*both, *free)))
    return found.transpose(0, *(1 + (*both, *free).index(n) for n in value.out))


def _run(
    lowering: Any, rows: Array, matrix: Array, at: Domain, table: Domain, to: Domain
) -> Array | None:
    graph, plan, options = lowering.graph, lowering.places.plan, lowering.options
    by_type = table.indices in ((ir.SOURCE_TYPE,), (ir.DESTINATION_TYPE,))
    if by_type and at == to and graph.node_tiles is not None and rows.shape[0] == graph.num_src:
        return linear_by_tiles(rows, matrix, graph.node_tiles, options)
    if to.kind == domains.EDGES:
        if at.kind != domains.EDGES:
            rows = lowering.places.move(rows, at, to)
        types = lowering.places.number_of_edge(table)
        precision = jax.lax.Precision.HIGHEST if options.precision else None
        return typed_linear(
            *(rows, matrix, types), precision=precision, implementation=options.implementation
        )
    if ir.DESTINATION_TYPE in table.indices:
        return None
    if to.kind == domains.SOURCE_PAIRS:
        weight = lowering.places.by_weight(flat(matrix), table, to)
        weight = weight.reshape(weight.shape[0], *matrix.shape[1:])
        if at.kind == domains.SOURCES:
            return pair_rows(rows, weight, plan.src_tiles, plan.src_rows, options)
        return slot_rows(rows, weight, plan.src_tiles, options)
    if table.indices != (ir.RELATION,):
        return None
    if to.kind == domains.DESTINATION_PAIRS:
        if at.kind == domains.DESTINATIONS:
            return pair_rows(rows, matrix, plan.dst_tiles, plan.dst_rows, options)
        return slot_rows(rows, matrix, plan.dst_tiles, options)
    return None
