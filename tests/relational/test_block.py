"""Sampled blocks: the same numbers as a graph of the drawn edges, and one program for all."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layers import LAYERS, arguments, random_edges

import jaxdirect
from jaxdirect.relational import RelGraph, aggregate, block, edge_softmax

EDGES = random_edges(11, 30, 90)
ORDER = np.argsort(EDGES.dst, kind="stable")
INDPTR = np.searchsorted(EDGES.dst[ORDER], np.arange(31)).astype(np.int32)
CSR = jaxdirect.CSRGraph(jnp.asarray(INDPTR), jnp.asarray(EDGES.src[ORDER], jnp.int32))
ETYPE = jnp.asarray(EDGES.etype[ORDER], jnp.int32)
SEEDS = jnp.array([3, 7, -1, 12, 3], jnp.int32)


def drawn(seed, fanout):
    """The block's edges as a whole graph, in NumPy."""
    hop = jaxdirect.sample_neighbors(CSR, SEEDS, fanout, jax.random.key(seed))
    neighbors = np.asarray(hop.neighbors).reshape(-1)
    real = neighbors >= 0
    src = SEEDS.size + np.flatnonzero(real)
    dst = np.flatnonzero(real) // fanout
    etype = np.asarray(ETYPE)[np.asarray(hop.edge_ids).reshape(-1)[real]]
    ids = np.concatenate([np.asarray(SEEDS), neighbors])
    return hop, src, dst, etype, real, ids


@pytest.mark.parametrize("fanout", [4, 100])
@pytest.mark.parametrize("implementation", ["native", "reference"])
@pytest.mark.parametrize("model", sorted(LAYERS))
def test_is_the_graph_of_the_drawn_edges(model, implementation, fanout):
    x, *weights = (jnp.asarray(a, jnp.float32) for a in arguments(model, EDGES, 6, 8, 2))
    traces = []

    @jax.jit
    def sampled(x, hop, ntype):
        traces.append(1)

        def loss(x, weights):
            graph = block(hop, ETYPE, num_relations=4, ntype=ntype, num_types=3)
            out = LAYERS[model](
                graph, x, *weights, precision="highest", implementation=implementation
            )
            return (out**2).sum(), out

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(x, weights)

    for seed in (0, 1):
        hop, src, dst, etype, _, ids = drawn(seed, fanout)
        ntype = np.where(ids >= 0, EDGES.ntype[ids], 0)
        rows = jnp.where((ids >= 0)[:, None], x[ids], jnp.nan)
        (_, out), gradients = sampled(rows, hop, jnp.asarray(ntype, jnp.int32))
        whole = RelGraph.from_edges(
            src, dst, etype, num_nodes=ids.size, num_relations=4, ntype=ntype, num_types=3
        )

        @jax.jit
        def out_and_gradients(whole, x, weights):
            def loss(x, weights):
                full = LAYERS[model](whole, x, *weights, precision="highest")
                return (full**2).sum(), full

            return jax.value_and_grad(loss, (0, 1), has_aux=True)(x, weights)

        (_, want), want_gradients = out_and_gradients(whole, jnp.nan_to_num(rows), weights)
        assert out.shape == (SEEDS.size, 8)
        real = np.asarray(SEEDS) >= 0
        np.testing.assert_allclose(out[real], want[: SEEDS.size][real], atol=2e-5)
        if not np.isnan(np.asarray(out)).any():
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4),
                gradients[1],
                want_gradients[1],
            )
    assert len(traces) == 1


def test_empty_places_count_nothing():
    hop, _, dst, _, real, ids = drawn(0, 4)
    graph = block(hop, ETYPE, num_relations=4)
    alpha = edge_softmax(graph, jnp.zeros(real.size))
    count = np.bincount(dst, minlength=SEEDS.size)
    want = np.where(real, 1 / np.maximum(np.repeat(count, 4), 1), 0)
    np.testing.assert_allclose(alpha, want, rtol=1e-6)
    x = -jnp.ones((ids.size, 2))
    for reduce in ("mean", "max"):
        np.testing.assert_allclose(
            aggregate(graph, x, reduce=reduce)[:, 0], np.where(count > 0, -1.0, 0.0)
        )


def test_errors():
    hop, *_ = drawn(0, 4)
    with pytest.raises(TypeError, match="sampled must be a SampledNeighbors"):
        block(hop.neighbors, ETYPE, num_relations=4)
    with pytest.raises(ValueError, match="ntype needs num_types"):
        block(hop, ETYPE, num_relations=4, ntype=jnp.zeros(25, jnp.int32))
    hop3 = jaxdirect.sample_neighbors(CSR, SEEDS[None], 4, jax.random.key(0))
    with pytest.raises(ValueError, match="one axis of seeds"):
        block(hop3, ETYPE, num_relations=4)
