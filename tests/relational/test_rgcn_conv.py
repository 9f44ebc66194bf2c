"""What only rgcn_conv has: normalisation, decompositions, one-hot nodes, root and bias."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layers import GRAPHS, arguments, rgcn

from jaxdirect.relational import RelGraph, rgcn_conv

EDGES = GRAPHS["plain"]
GRAPH = EDGES.plan()
X, WEIGHT = (jnp.asarray(a, jnp.float32) for a in arguments("rgcn", EDGES, 6, 4, 1))


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-5)


def test_plain_sum():
    out = rgcn_conv(GRAPH, X, WEIGHT, normalize="none", precision="highest")
    close(out, rgcn(EDGES, X, WEIGHT, mean=False))


def test_root_and_bias(rng):
    root = jnp.asarray(rng.normal(size=(6, 4)), jnp.float32)
    bias = jnp.arange(4.0)
    out = rgcn_conv(GRAPH, X, WEIGHT, root_weight=root, bias=bias, precision="highest")
    close(out, rgcn(EDGES, X, WEIGHT) + np.asarray(X) @ np.asarray(root) + np.arange(4.0))


def test_basis_decomposition(rng):
    bases = jnp.asarray(rng.normal(size=(2, 6, 4)), jnp.float32)
    comp = jnp.asarray(rng.normal(size=(4, 2)), jnp.float32)
    dense = np.einsum("rb,bio->rio", comp, bases)
    close(rgcn_conv(GRAPH, X, bases, comp=comp, precision="highest"), rgcn(EDGES, X, dense))


def test_block_diagonal(rng):
    blocks = jnp.asarray(rng.normal(size=(4, 2, 3, 2)), jnp.float32)
    dense = np.zeros((4, 6, 4))
    dense[:, :3, :2], dense[:, 3:, 2:] = blocks[:, 0], blocks[:, 1]
    close(rgcn_conv(GRAPH, X, blocks, precision="highest"), rgcn(EDGES, X, dense))


@pytest.mark.parametrize("implementation", ["native", "reference"])
@pytest.mark.parametrize("normalize", ["relation_mean", "none"])
@pytest.mark.parametrize("name", ["plain", "hub", "no_edges"])
def test_one_hot_nodes(name, normalize, implementation, rng):
    edges = GRAPHS[name]
    graph = edges.plan()
    table = rng.normal(size=(4, edges.num_nodes, 3))
    cotangent = rng.normal(size=(edges.num_nodes, 3))
    options = {"normalize": normalize, "implementation": implementation}

    @jax.jit
    def out_and_gradient(graph, weight):
        def loss(weight):
            out = rgcn_conv(graph, None, weight, **options)
            return (out * jnp.asarray(cotangent, jnp.float32)).sum(), out

        return jax.value_and_grad(loss, has_aux=True)(weight)

    (_, out), gradient = out_and_gradient(graph, jnp.asarray(table, jnp.float32))
    mean = normalize == "relation_mean"
    eye = np.eye(edges.num_nodes)
    close(out, rgcn(edges, eye, table, mean))
    # Linear in the weight: the gradient is the transposed map.
    direction = rng.normal(size=table.shape)
    want = (rgcn(edges, eye, direction, mean) * cotangent).sum()
    np.testing.assert_allclose((np.asarray(gradient) * direction).sum(), want, rtol=1e-3, atol=1e-3)


def test_one_hot_gradient_needs_the_attention_part():
    graph = EDGES.plan(attention=False)
    weight = jnp.ones((4, 50, 2))
    assert rgcn_conv(graph, None, weight).shape == (50, 2)
    with pytest.raises(ValueError, match="attention=True"):
        jax.grad(lambda w: rgcn_conv(graph, None, w).sum())(weight)


def test_padded_graphs_share_a_program():
    sizes = {"num_nodes": 60, "num_edges": 512}
    traces = []

    @jax.jit
    def layer(graph, x):
        traces.append(1)
        return rgcn_conv(graph, x, WEIGHT, precision="highest")

    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        src, dst = rng.integers(0, 50, (2, 300 + seed))
        etype = rng.integers(0, 4, 300 + seed)
        graph = RelGraph.from_edges(src, dst, etype, num_nodes=50, num_relations=4, pad_to=sizes)
        edges = type(EDGES)(src, dst, etype, EDGES.ntype, 4, 3)
        x = jnp.concatenate([X, jnp.full((10, 6), jnp.nan)])
        out = layer(graph, x)
        close(out[:50], rgcn(edges, X, WEIGHT))
        close(out[50:], 0)
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"x": X[:10]}, ValueError, r"x must be \[50, d\], got shape \[10, 6\]"),
        ({"x": jnp.ones((50, 5))}, ValueError, r"weight must be \[4, 5, out_dim\]"),
        ({"weight": WEIGHT[:3]}, ValueError, r"weight must be \[4, 6, out_dim\]"),
        ({"weight": WEIGHT.astype(jnp.bfloat16)}, TypeError, "one dtype"),
        ({"x": jnp.ones((50, 6), int)}, TypeError, "floating-point array"),
        ({"root_weight": jnp.ones((4, 4))}, ValueError, r"root_weight must be \[6, 4\]"),
        ({"bias": jnp.ones(3)}, ValueError, r"bias must be \[4\]"),
        ({"comp": jnp.ones((3, 4))}, ValueError, r"comp must be \[4, bases\]"),
        ({"normalize": "sum"}, ValueError, "normalize must be one of relation_mean, none"),
        ({"precision": "low"}, ValueError, "precision must be None"),
        ({"implementation": "cuda"}, ValueError, "implementation must be one of"),
        ({"g": "graph"}, TypeError, "must be a RelGraph, got str"),
    ],
)
def test_errors(change, error, words):
    arguments = {"g": GRAPH, "x": X, "weight": WEIGHT} | change
    with pytest.raises(error, match=words):
        rgcn_conv(**arguments)
