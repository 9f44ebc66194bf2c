"""Small graphs that several tests share."""

from __future__ import annotations

import jax
import numpy as np

from jaxdirect.relational import RelGraph

SRC, DST, ETYPE = [0, 1, 1, 3], [2, 2, 0, 2], [0, 1, 0, 1]


def small(**options):
    return RelGraph.from_edges(SRC, DST, ETYPE, **{"num_nodes": 4, **options})


def random_graph(seed, num_edges=500, num_nodes=60, **options):
    rng = np.random.default_rng(seed)
    src, dst = rng.integers(0, num_nodes, (2, num_edges))
    etype = rng.integers(0, 3, num_edges)
    return RelGraph.from_edges(src, dst, etype, num_nodes=num_nodes, num_relations=3, **options)


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)
