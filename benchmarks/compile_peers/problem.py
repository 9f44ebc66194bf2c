"""What a case computes: one layer on one graph, with tables of weights."""

from __future__ import annotations

import dataclasses

import jax
from relational_peers.problem import LAYERS, Problem

NEW = ("gatv2", "compgcn", "rgatedgcn", "transformer")
MODELS = (*LAYERS, *NEW)
ATTENTION = ("rgat", "hgt", "gatv2", "transformer")
EDGE_FEATURES = 16

Tables = dict[str, dict[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class LayerProblem(Problem):
    """One of `MODELS` on one graph; edges of some have features of their own."""

    def table_shapes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Shapes of the weights, by table and by the name that the model gives them."""
        d, h, e = self.features, self.heads, EDGE_FEATURES
        r, t = self.graph.relations, len(self.graph.type_sizes)
        linear, vectors, maps = (r, d, d), (r, h, d // h), (r, h, d // h, d // h)
        square = (d, d)
        return {
            "rgcn": {"relations": {"weight": linear}, "shared": {"root": square}},
            "rgat": {"relations": {"weight": linear, "a": vectors, "b": vectors}},
            "hgt": {
                "types": dict.fromkeys("kqv", (t, d, d)),
                "relations": {"a": maps, "m": maps, "p": (r, h)},
            },
            "gatv2": {"relations": {"weight": linear, "target": linear, "att": vectors}},
            "compgcn": {
                "relations": {"embedding": (r, d)},
                "shared": {"weight": square, "root": square},
            },
            "rgatedgcn": {
                "relations": dict.fromkeys(("a", "b", "weight"), linear),
                "shared": {"c": (e, d), "root": square},
            },
            "transformer": {
                "relations": {"prior": (r, h), "e": (r, e, d)},
                "types": dict.fromkeys(("k", "v", "q", "gate"), (t, d, d)),
            },
        }[self.model]

    def tables(self) -> Tables:
        """Random weights; those of linear maps keep the size of what they map."""
        made: Tables = {}
        seed = 10
        for table, shapes in self.table_shapes().items():
            made[table] = {}
            for name, shape in shapes.items():
                linear = len(shape) > 2 or table == "shared"
                made[table][name] = self._random(shape, seed, shape[-2] ** -0.5 if linear else 1.0)
                seed += 1
        return made

    def edge_table(self) -> dict[str, jax.Array]:
        """Features of the edges, [E, 16], of the models that have some."""
        if self.model not in ("rgatedgcn", "transformer"):
            return {}
        return {"e": self._random((self.graph.edges, EDGE_FEATURES), 8)}
