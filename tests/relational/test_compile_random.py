"""Layers drawn at random: any mix of fields, products, functions and reductions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import with_gradients
from layers import random_edges

from jaxdirect import relational

G = random_edges(0, 25, 150).plan()
DEPTH = 3


@pytest.fixture(autouse=True)
def full_precision():
    with jax.default_matmul_precision("highest"):
        yield


def tables():
    rng = np.random.default_rng(1)

    def drawn(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    return {
        "nodes": {"x": drawn(25, 6), "m": drawn(25, 2, 3)},
        "relations": {"w": drawn(4, 6, 6), "v": drawn(4, 6), "t": drawn(4, 2, 3, 3)},
        "types": {"k": drawn(3, 6, 6), "c": drawn(3, 6)},
        "edges": {"s": drawn(150), "e": drawn(150, 6)},
        "shared": {"r": drawn(6, 6), "b": drawn(6)},
    }


class Drawn:
    """A random function of an edge: vectors of 6 elements from vectors of 6 elements."""

    __name__ = "drawn"

    def __init__(self, seed):
        self.seed = seed

    def __call__(self, edge, node, shared):
        rng = np.random.default_rng(self.seed)
        return sum(node.sum(self.vector(rng, edge, node, shared, DEPTH)) for _ in range(2))

    def leaf(self, rng, edge, node, shared):
        found = (edge.src.x, node.x, edge.src.m.reshape(-1), node.m.T.reshape(6), edge.e, shared.b)
        found += (edge.relation.v, edge.src.type.c, node.type.c)
        return found[rng.integers(len(found))]

    def matrix(self, rng, edge, node, shared):
        found = (edge.relation.w, edge.relation.w.T, shared.r, edge.src.type.k, node.type.k)
        return found[rng.integers(len(found))]

    def vector(self, rng, edge, node, shared, depth):
        def inner():
            return self.vector(rng, edge, node, shared, depth - 1)

        def split(shape):
            return inner().reshape(shape)

        def reduced():
            within = node.mean(inner(), by="relation")
            return [node.sum, node.mean, node.max, lambda _: within][rng.integers(4)](inner())

        rules = (
            lambda: inner() + inner(),
            lambda: inner() * inner(),
            lambda: inner() @ self.matrix(rng, edge, node, shared),
            lambda: jnp.tanh(inner()),
            lambda: (inner() * inner()).sum() * inner(),
            lambda: node.softmax(inner()) * inner(),
            reduced,
            lambda: jnp.einsum("hd,hde->he", split((2, 3)), edge.relation.t).reshape(-1),
            lambda: (split((2, 3)).T[:, None] * split((3, 1, 2))).sum(1).reshape(-1),
            lambda: jnp.where(inner() > 0, inner(), -inner() / 2),
            lambda: edge.s * inner(),
        )
        if depth == 0 or rng.random() < 0.2:
            return self.leaf(rng, edge, node, shared)
        return rules[rng.integers(len(rules))]()


@pytest.mark.parametrize("seed", range(6))
def test_a_random_layer_is_what_is_written(seed):
    layer = relational.compile(Drawn(seed))
    wanted = jax.tree.leaves(with_gradients(layer.lower("jax"), G, tables()))
    for got, want in zip(jax.tree.leaves(with_gradients(layer, G, tables())), wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=2e-4 * max(1, np.abs(want).max()))
