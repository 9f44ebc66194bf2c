"""What a case computes: the layer, its inputs, its weights, and what it may take of memory."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import floors
from .graphs import Graph

LAYERS = ("rgcn", "rgat", "hgt")
OPERATIONS = ("typed_linear", "aggregate", "edge_softmax")
DTYPES = {"f32": jnp.float32, "bf16": jnp.bfloat16}
NEGATIVE_SLOPE = 0.2


@dataclasses.dataclass(frozen=True)
class Problem:
    """One layer or operation on one graph.

    Args:
        model: one of `LAYERS` or `OPERATIONS`.
        graph: with E edges, N nodes, R relations, T node types.
        dtype: "f32" or "bf16".
        features: d, numbers in a row of x and in a row of the output; heads share it.
        heads: H; each is d / H wide.
    """

    model: str
    graph: Graph
    dtype: str = "f32"
    features: int = 64
    heads: int = 1

    @property
    def type(self) -> Any:
        return DTYPES[self.dtype]

    def x_shape(self) -> tuple[int, int]:
        """[N, d]; edge_softmax: logits [E, H]; typed_linear: a row for each edge, [E, d]."""
        if self.model == "edge_softmax":
            return self.graph.edges, self.heads
        return (
            self.graph.edges if self.model == "typed_linear" else self.graph.nodes
        ), self.features

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the weights, by the name that jaxdirect's functions give them."""
        g, d, h = self.graph, self.features, self.heads
        square = (g.relations, d, d)
        if self.model in ("rgcn", "typed_linear"):
            return {"weight": square}
        if self.model == "rgat":
            vectors = (g.relations, h, d // h)
            return {"weight": square, "att_src": vectors, "att_dst": vectors}
        if self.model == "hgt":
            maps = (g.relations, h, d // h, d // h)
            typed = {f"{k}_weight": (len(g.type_sizes), d, d) for k in "kqv"}
            return typed | {"a_rel": maps, "m_rel": maps, "p_rel": (g.relations, h)}
        return {"edge_weight": (g.edges, h)} if self.model == "aggregate" else {}

    def weights(self) -> dict[str, jax.Array]:
        """Random weights; those of linear maps keep the size of what they map."""
        return {
            name: self._random(shape, seed, 1 / shape[1] ** 0.5 if len(shape) > 2 else 1.0)
            for seed, (name, shape) in enumerate(self.weight_shapes().items(), start=10)
        }

    def inputs(self) -> list[jax.Array]:
        """Different random x: three, or two large ones."""
        count = 2 if np.prod(self.x_shape()) > 1 << 24 else 3
        return [self._random(self.x_shape(), seed) for seed in range(count)]

    def cotangent(self) -> jax.Array:
        """The output's cotangent; outputs have the shape of x."""
        return self._random(self.x_shape(), 9)

    def _random(self, shape: tuple[int, ...], seed: int, scale: float = 1.0) -> jax.Array:
        """Normal numbers, drawn on the host; large arrays repeat 2^20 of them."""
        size = min(int(np.prod(shape)), 1 << 20)
        values = np.random.default_rng(seed).standard_normal(size, np.float32) * np.float32(scale)
        return jnp.asarray(np.resize(values.astype(self.type), shape))

    def sizes(self) -> floors.Sizes:
        """What the floors depend on."""
        g = self.graph
        return floors.Sizes(
            g.nodes,
            g.edges,
            g.relations,
            len(g.type_sizes),
            g.sources,
            g.destinations,
            self.features,
            self.heads,
            jnp.dtype(self.type).itemsize,
        )

    def floors(self) -> dict[str, dict[str, float]] | None:
        """Byte floors of a layer; None for an operation."""
        return floors.floors(self.model, self.sizes()) if self.model in LAYERS else None

    def memory(self) -> dict[str, int] | None:
        """Bytes of outputs, compact rows and edge floats: what a layer may need beside arguments.

        Compact rows are the unique (source, relation) pairs, for rgcn those of the smaller side;
        hgt has keys and values for each. Training has also their cotangents, and a float a head
        for the score and for its gradient of each edge.
        """
        if self.model not in LAYERS:
            return None
        n = self.sizes()
        rows, weights = n.nodes * n.row, floors.weight_bytes(self.model, n)
        compact = self.graph.compact_rows("min" if self.model == "rgcn" else "src") * n.row
        compact *= 2 if self.model == "hgt" else 1
        scores = 0 if self.model == "rgcn" else 4 * n.edges * n.heads
        return {
            "forward": rows + compact + scores,
            "training": 2 * rows + weights + 2 * compact + 2 * scores,
        }


def relation_scale(graph: Graph) -> np.ndarray:
    """float32 [E]: 1 / how many edges of its relation enter the edge's destination."""
    key = graph.etype.astype(np.int64) * graph.nodes + graph.dst
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    counts = np.diff(np.append(begins, len(ordered)))
    scale = np.empty(graph.edges, np.float32)
    scale[order] = np.repeat(1 / counts, counts)
    return scale
