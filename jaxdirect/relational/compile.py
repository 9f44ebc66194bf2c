"""Relational layers from a function on one edge."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdirect import _compat
from jaxdirect.relational import _checks
from jaxdirect.relational._compiler import (
    common,
    contract,
    domains,
    explain,
    frontend,
    ir,
    order,
    pull,
)
from jaxdirect.relational._compiler.lower import Lowering
from jaxdirect.relational.graph import RelGraph
from jaxdirect.relational.typed_linear import Options

Table = Mapping[str, Any] | None


@dataclasses.dataclass(frozen=True)
class Passes:
    """Which of the passes run.

    Attributes:
        contract: whether products are gathered, ordered and run as typed linear maps.
        reorder: whether they are ordered by cost; else as they are written.
        compaction: whether (node, relation) pairs have rows of their own; else every edge has.
    """

    contract: bool = True
    reorder: bool = True
    compaction: bool = True


class Layer:
    """A relational layer, from `compile`.

    Call it as `layer(g, nodes=..., relations=..., types=..., edges=..., shared=...)`: each a
    dict of arrays, with a row for each node (`[g.num_src, ...]`), relation, node type
    or edge (in the order in which the edges were given); shared ones as they are. With
    `precision` and `implementation` as in `rgcn_conv`. It returns what the function returns, with
    a row for each node (in a block: each destination), and is differentiable in every array.

    Raises:
        TypeError: the graph is none, or the function reduces what is no floating-point value.
        ValueError: a table's rows do not fit the graph, the graph has no attention part, or the
            function returns values of an edge, has side effects, or reduces inside of a loop.
        AttributeError: the function asks for what no table has.
    """

    def __init__(self, function: Callable, passes: Passes):
        frontend.check(function)
        functools.update_wrapper(self, function)
        self._function, self._passes = function, passes
        self._run = jax.jit(self._evaluate, static_argnums=2)

    def __call__(
        self,
        g: RelGraph,
        *,
        nodes: Table = None,
        relations: Table = None,
        types: Table = None,
        edges: Table = None,
        shared: Table = None,
        precision: Any = None,
        implementation: str = "auto",
    ) -> Any:
        tables = _tables(g, nodes, relations, types, edges, shared)
        arrays = {
            table: {name: jnp.asarray(array) for name, array in given.items()}
            for table, given in tables.items()
        }
        options = Options(
            _checks.precision("compile", precision),
            _checks.implementation("compile", implementation),
        )
        widths = [array.dtype for given in arrays.values() for array in given.values()]
        with _compat.native_width(*widths):
            return self._run(g, arrays, options)

    def lower(self, to: str = "jax") -> Layer:
        """The layer as it is written: every value at every edge, in plain JAX; slow, and simple.

        Args:
            to: `"jax"`.
        """
        if to != "jax":
            raise ValueError(f"compile: lower takes 'jax', got {to!r}")
        return Layer(self._function, Passes(False, False, False))

    def explain(self, g: RelGraph, **tables: Table) -> str:
        """What runs on a graph: each value, how many rows it has, and what all of it costs.

        Args:
            g: the graph.
            **tables: as in a call, of arrays or of `jax.ShapeDtypeStruct`s.

        Returns:
            The values as they are written and as they run, and for each choice of compaction (C)
            and reordering (R) the operations of all products and the bytes of all values.
        """
        places = domains.Places(g)
        written, _ = frontend.trace(self._function, _tables(g, **tables))
        lines = [f"{getattr(self, '__name__', 'layer')} on {g}", "", "as written, at every edge:"]
        lines += explain.table(common.run(written), places, False)
        lines += ["", "as it runs:"]
        lines += explain.table(self._optimized(g, written), places, self._passes.compaction)
        lines += ["", f"{'':18}{'GFLOP':>10}{'MB':>12}"]
        for name, compaction, reorder in (
            ("neither", False, False),
            ("C", True, False),
            ("R", False, True),
            ("C+R", True, True),
        ):
            passes = Passes(True, reorder, compaction)
            program = _passed(g, written, passes)
            operations, nbytes = explain.cost(program, _rows(g, passes))
            mark = " <- runs" if passes == self._passes else ""
            lines.append(f"{name:18}{operations / 1e9:10.3f}{nbytes / 1e6:12.2f}{mark}")
        return "\n".join(lines)

    def _optimized(self, g: RelGraph, written: ir.Program) -> ir.Program:
        return _passed(g, written, self._passes)

    def _evaluate(self, g: RelGraph, tables: Any, options: Options) -> Any:
        written, structure = frontend.trace(self._function, tables)
        program = self._optimized(g, written)
        if not self._passes.contract:
            options = dataclasses.replace(options, implementation="reference")
        lowering = Lowering(g, tables, self._passes.compaction, options)
        return jax.tree.unflatten(structure, lowering.run(program))


def _rows(g: RelGraph, passes: Passes) -> order.Rows:
    places = domains.Places(g)
    return lambda scope: places.rows(domains.domain_of(scope, passes.compaction))


def _passed(g: RelGraph, program: ir.Program, passes: Passes) -> ir.Program:
    program = common.run(program)
    if not passes.contract:
        return program
    rows = _rows(g, passes)

    def ordered(program: ir.Program) -> ir.Program:
        return common.run(order.run(program, rows, passes.reorder))

    program = common.run(contract.run(program))
    if passes.reorder:
        pairs = passes.compaction
        program = pull.run(program, lambda other: order.total(ordered(other), rows), pairs)
    return ordered(program)


def _tables(
    g: Any,
    nodes: Table = None,
    relations: Table = None,
    types: Table = None,
    edges: Table = None,
    shared: Table = None,
) -> dict[str, dict[str, Any]]:
    """Arrays, or what has a shape and a dtype, by table and name."""
    _checks.graph("compile", g)
    _checks.has_attention("compile", g)
    given = {
        "nodes": (nodes, g.num_src, "node"),
        "types": (types, g.num_types, "node type"),
        "relations": (relations, g.num_relations, "relation"),
        "edges": (edges, g.num_edges, "edge"),
        "shared": (shared, None, ""),
    }
    found: dict[str, dict[str, Any]] = {}
    for table, (arrays, count, what) in given.items():
        if arrays is not None and not isinstance(arrays, Mapping):
            raise TypeError(
                f"compile: {table} must be a dict of arrays, got {type(arrays).__name__}"
            )
        found[table] = {}
        for name, value in (arrays or {}).items():
            array = (
                value if hasattr(value, "shape") and hasattr(value, "dtype") else np.asarray(value)
            )
            if count is not None and (len(array.shape) == 0 or array.shape[0] != count):
                raise ValueError(
                    f"compile: {table}[{name!r}] needs a row for each {what}, [{count}, ...], "
                    f"got shape {list(array.shape)}"
                )
            found[table][name] = array
    return found


def compile(
    function: Callable[..., Any], *, compaction: bool = True, reorder: bool = True
) -> Layer:
    """A relational layer from a function on one edge and one node.

    The function is ordinary Python and JAX. `edge.src` and `node` (the edge's destination) have
    the fields of `nodes`, their `type` those of `types`; `edge.relation` has those of
    `relations`, `edge` itself those of `edges`. `node.sum`, `node.mean`, `node.max` and
    `node.softmax` go over the node's in-edges; a mean `by="relation"` is the sum of each
    relation's. What is computed from them belongs to the node, and may be used on its edges
    again.

    What depends on a node and a relation alone is computed once for each such pair that occurs
    (compaction); products of sums are taken in the order that costs least on the graph (linear
    operator reordering). What runs are this package's typed linear maps, sums and softmax, forward
    and backward, and JAX for what is between them, which takes memory for every edge; see
    `Layer.explain`.

    Args:
        function: of `(edge, node)` or `(edge, node, shared)`; no side effects.
        compaction: whether pairs have rows of their own; else every edge has.
        reorder: whether products are taken in any order; else in that in which they are written.

    Returns:
        `Layer`, to be called with a graph.

    Raises:
        TypeError: it is no function of two or three parameters.

    Source: Hector, arXiv:2301.06284.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxdirect import relational
        >>> @relational.compile
        ... def rgcn(edge, node, shared):
        ...     message = edge.src.x @ edge.relation.weight
        ...     return node.mean(message, by="relation") + node.x @ shared.root
        >>> g = relational.RelGraph.from_edges([0, 1, 2], [2, 2, 0], [0, 0, 1], num_nodes=3)
        >>> x, weight = jnp.array([[1.0], [3.0], [5.0]]), jnp.ones((2, 1, 1))
        >>> arrays = {"nodes": {"x": x}, "relations": {"weight": weight}}
        >>> rgcn(g, **arrays, shared={"root": jnp.zeros((1, 1))}).ravel()
        Array([5., 0., 2.], dtype=float32)
    """
    return Layer(function, Passes(True, reorder, compaction))
