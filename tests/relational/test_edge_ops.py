"""edge_softmax, aggregate and typed_linear against NumPy, with their gradients and errors."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layers import GRAPHS
from relgraphs import small

from jaxdirect.relational import RelGraph, aggregate, edge_softmax, typed_linear

IMPLEMENTATIONS = ["native", "reference"]


def softmax(edges, logits):
    out = np.zeros(logits.shape)
    for node in range(edges.num_nodes):
        into = edges.dst == node
        weights = np.exp(logits[into] - logits[into].max(0, initial=-np.inf))
        out[into] = weights / weights.sum(0)
    return out


def reduced(edges, x, weight, reduce):
    num_edges, heads = weight.shape
    messages = x[edges.src].reshape(num_edges, heads, x.shape[1] // heads) * weight[:, :, None]
    messages = messages.reshape(num_edges, x.shape[1])
    out = np.zeros((edges.num_nodes, x.shape[1]))
    for node in np.unique(edges.dst):
        into = messages[edges.dst == node]
        out[node] = {"sum": into.sum, "mean": into.mean, "max": into.max}[reduce](0)
    return out


def directional(oracle, at, cotangent, rng):
    """A direction for each argument, and the oracle's derivative along it."""
    for number, value in enumerate(at):
        direction = rng.normal(size=value.shape)
        ends = []
        for step in (1e-5, -1e-5):
            moved = [*at]
            moved[number] = value + step * direction
            ends.append((oracle(*moved) * cotangent).sum())
        yield direction, (ends[0] - ends[1]) / 2e-5


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("heads", [1, 3, 8])
@pytest.mark.parametrize("name", GRAPHS)
def test_edge_softmax(name, heads, implementation, rng):
    edges = GRAPHS[name]
    graph = edges.plan()
    logits = rng.normal(size=(edges.src.size, heads)) * 3
    cotangent = rng.normal(size=logits.shape)

    @jax.jit
    def out_and_gradient(graph, logits):
        def loss(logits):
            out = edge_softmax(graph, logits, implementation=implementation)
            return (out * jnp.asarray(cotangent, jnp.float32)).sum(), out

        return jax.value_and_grad(loss, has_aux=True)(logits)

    (_, out), gradient = out_and_gradient(graph, jnp.asarray(logits, jnp.float32))
    np.testing.assert_allclose(out, softmax(edges, logits), atol=1e-6)
    ((direction, want),) = directional(lambda a: softmax(edges, a), [logits], cotangent, rng)
    got = (np.asarray(gradient, np.float64) * direction).sum()
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)


def test_edge_softmax_of_vectors_and_of_large_logits():
    graph = small()
    np.testing.assert_allclose(edge_softmax(graph, jnp.full(4, 1e4)).sum(), 2.0, rtol=1e-6)
    low = edge_softmax(graph, jnp.array([-jnp.inf, 0.0, 0.0, 0.0]))
    np.testing.assert_allclose(low, [0.0, 0.5, 1.0, 0.5])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("reduce", ["sum", "mean", "max"])
@pytest.mark.parametrize(("columns", "heads"), [(8, 2), (30, 3), (64, 8), (1, 1)])
@pytest.mark.parametrize("name", ["plain", "hub", "no_edges"])
def test_aggregate(name, columns, heads, reduce, implementation, rng):
    edges = GRAPHS[name]
    graph = edges.plan()
    x = rng.normal(size=(edges.num_nodes, columns))
    weight = rng.normal(size=(edges.src.size, heads))
    cotangent = rng.normal(size=x.shape)

    @jax.jit
    def out_and_gradients(graph, *inputs):
        def loss(x, weight):
            out = aggregate(graph, x, weight, reduce, implementation=implementation)
            return (out * jnp.asarray(cotangent, jnp.float32)).sum(), out

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(*inputs)

    narrow = (jnp.asarray(a, jnp.float32) for a in (x, weight))
    (_, out), gradients = out_and_gradients(graph, *narrow)
    np.testing.assert_allclose(out, reduced(edges, x, weight, reduce), rtol=1e-5, atol=2e-5)
    wants = directional(lambda x, w: reduced(edges, x, w, reduce), [x, weight], cotangent, rng)
    for gradient, (direction, want) in zip(gradients, wants, strict=True):
        got = (np.asarray(gradient, np.float64) * direction).sum()
        np.testing.assert_allclose(got, want, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_the_first_of_equal_messages_is_the_maximum(implementation):
    graph = RelGraph.from_edges([0, 0, 1, 2], [3, 3, 3, 0], [0, 0, 0, 0], num_nodes=4)
    x = jnp.array([[2.0, jnp.nan], [2.0, 1.0], [-jnp.inf, -1.0], [0.0, 0.0]])

    def total(x, weight):
        out = aggregate(graph, x, weight, "max", implementation=implementation)
        return jnp.where(jnp.isnan(out), 0, out).sum(), out

    (_, out), (x_grad, weight_grad) = jax.value_and_grad(total, (0, 1), has_aux=True)(
        x, jnp.ones(4)
    )
    want = [[-np.inf, -1.0], [0.0, 0.0], [0.0, 0.0], [2.0, np.nan]]
    np.testing.assert_array_equal(out, want)
    np.testing.assert_array_equal(x_grad[:, 0], [1.0, 0.0, 1.0, 0.0])
    np.testing.assert_array_equal(weight_grad[1:3], [0.0, 0.0])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float64])
def test_maxima_of_other_floats(dtype, rng):
    edges = GRAPHS["hub"]
    with jax.enable_x64(True):
        x = jnp.asarray(rng.normal(size=(edges.num_nodes, 12)), dtype)
        weight = jnp.asarray(rng.normal(size=(edges.src.size, 3)), dtype)
        cotangent = jnp.asarray(rng.normal(size=x.shape), dtype)

        def run(implementation):
            def largest(x, weight):
                return aggregate(edges.plan(), x, weight, "max", implementation=implementation)

            out, backward = jax.vjp(largest, x, weight)
            return [out, *backward(cotangent)]

        for native, reference in zip(run("auto"), run("reference"), strict=True):
            assert native.dtype == dtype
            np.testing.assert_allclose(
                native.astype(jnp.float64), reference.astype(jnp.float64), rtol=1e-2, atol=1e-2
            )


def test_weights_of_minus_infinity_alone_are_zero():
    logits = jnp.full((4, 2), -jnp.inf)
    np.testing.assert_array_equal(edge_softmax(small(), logits), np.zeros((4, 2)))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_short_floats_are_summed_wide(dtype):
    edges = GRAPHS["hub"]
    x = jnp.ones((40, 8), dtype)
    out = aggregate(edges.plan(), x)
    assert out.dtype == dtype
    want = np.bincount(edges.dst, minlength=40).astype(np.float32)
    np.testing.assert_allclose(out[:, 0].astype(jnp.float32), want, rtol=4e-3)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("sizes", [(300, 5, 7), (1, 1, 1), (0, 3, 2), (70, 64, 72), (200, 33, 130)])
def test_typed_linear(sizes, implementation, rng):
    rows, in_dim, out_dim = sizes
    x, weight = rng.normal(size=(rows, in_dim)), rng.normal(size=(4, in_dim, out_dim))
    types = rng.integers(0, 3, rows)  # type 3 is empty
    cotangent = rng.normal(size=(rows, out_dim))

    def loss(x, weight, types):
        out = typed_linear(x, weight, types, precision="highest", implementation=implementation)
        return (out * jnp.asarray(cotangent, jnp.float32)).sum(), out

    narrow = (jnp.asarray(a, jnp.float32) for a in (x, weight))
    step = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    (_, out), (dx, dw) = step(*narrow, types)
    scale = 1e-5 * max(in_dim, rows)
    np.testing.assert_allclose(out, np.einsum("ni,nio->no", x, weight[types]), atol=scale)
    np.testing.assert_allclose(dx, np.einsum("no,nio->ni", cotangent, weight[types]), atol=1e-3)
    want = np.zeros(weight.shape)
    np.add.at(want, types, np.einsum("ni,no->nio", x, cotangent))
    np.testing.assert_allclose(dw, want, atol=1e-3)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda g: edge_softmax(g, jnp.ones(3)), ValueError, r"logits must be \[4\] or \[4, heads"),
        (lambda g: edge_softmax(g, jnp.ones(4, int)), TypeError, "floating-point array"),
        (lambda g: edge_softmax(3, jnp.ones(4)), TypeError, "must be a RelGraph"),
        (lambda g: aggregate(g, jnp.ones((3, 2))), ValueError, r"x must be \[4, d\]"),
        (lambda g: aggregate(g, jnp.ones((4, 2)), jnp.ones(3)), ValueError, r"edge_weight must be"),
        (lambda g: aggregate(g, jnp.ones((4, 3)), jnp.ones((4, 2))), ValueError, "must divide d"),
        (lambda g: aggregate(g, jnp.ones((4, 3)), reduce="min"), ValueError, "reduce must be one"),
        (
            lambda g: typed_linear(jnp.ones((2, 3)), jnp.ones((2, 3, 1)), np.array([0, 2])),
            ValueError,
            r"types must be in \[0, 2\)",
        ),
        (
            lambda g: typed_linear(jnp.ones((2, 3)), jnp.ones((2, 4, 1)), np.array([0, 1])),
            ValueError,
            r"weight must be \[num_types, 3, out_dim\]",
        ),
        (
            lambda g: typed_linear(jnp.ones((2, 3)), jnp.ones((2, 3, 1)), np.array([0.0, 1.0])),
            TypeError,
            "types must be an integer array",
        ),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call(small())
