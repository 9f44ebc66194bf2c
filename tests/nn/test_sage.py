"""SAGEConv against PyTorch Geometric's formula in NumPy, and the Flax twins against each other."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

from jaxdirect.nn import SAGEConv
from jaxdirect.nn.linen import SAGEConv as LinenSAGEConv

OPTIONS = [
    dict(zip(("aggr", "normalize", "root_weight", "bias"), values, strict=True))
    for values in itertools.product(("mean", "max", "sum"), (False, True), (False, True), (True,))
] + [{"aggr": "mean", "normalize": False, "root_weight": True, "bias": False}]


def example(rng, batch=5, fanout=4, dim=3):
    x_self = rng.normal(size=(batch, dim)).astype(np.float32)
    x_neighbors = rng.normal(size=(batch, fanout, dim)).astype(np.float32)
    counts = np.array([fanout, 0, 1, 2, fanout])[:batch].astype(np.int32)
    return x_self, x_neighbors, counts


def oracle(params, x_self, x_neighbors, counts, aggr, normalize, root_weight, bias):
    """out_i = W_l aggr_{j in N(i)} x_j + b_l + W_r x_i, then x / max(|x|, 1e-12), in float64."""
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    out = []
    for node, rows, count in zip(x_self, x_neighbors, counts, strict=True):
        rows = rows[:count].astype(np.float64)
        reduce = {"mean": np.mean, "max": np.max, "sum": np.sum}[aggr]
        aggregated = reduce(rows, axis=0) if count else np.zeros(node.size)
        row = aggregated @ weights["lin_l"]["kernel"]
        if bias:
            row = row + weights["lin_l"]["bias"]
        if root_weight:
            row = row + node.astype(np.float64) @ weights["lin_r"]["kernel"]
        if normalize:
            row = row / max(np.linalg.norm(row), 1e-12)
        out.append(row)
    return np.stack(out)


def build(rng, **options):
    conv = SAGEConv(3, 2, **options, rngs=nnx.Rngs(0))
    if conv.lin_l.bias is not None:
        conv.lin_l.bias[...] = jnp.asarray(rng.normal(size=2), jnp.float32)
    return conv, nnx.to_pure_dict(nnx.state(conv, nnx.Param))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_formula_and_twin(rng, options):
    conv, params = build(rng, **options)
    inputs = example(rng)
    expected = oracle(params, *inputs, **options)
    got = conv(*map(jnp.asarray, inputs))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    twin = LinenSAGEConv(2, **options).apply({"params": params}, *map(jnp.asarray, inputs))
    np.testing.assert_array_equal(got, twin)


def test_linen_parameters_have_the_same_names_and_shapes(rng):
    _, params = build(rng)
    made = LinenSAGEConv(2).init(jax.random.key(0), *map(jnp.asarray, example(rng)))["params"]
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, params)
    assert jax.tree.map(jnp.shape, params) == {
        "lin_l": {"kernel": (3, 2), "bias": (2,)},
        "lin_r": {"kernel": (3, 2)},
    }


@pytest.mark.parametrize("aggr", ["mean", "max", "sum"])
def test_pads_contribute_nothing(rng, aggr):
    conv, _ = build(rng, aggr=aggr)
    x_self, x_neighbors, counts = example(rng)
    mask = np.arange(4) < counts[:, None]
    poisoned = jnp.asarray(np.where(mask[..., None], x_neighbors, np.nan))

    def total(rows):
        return conv(jnp.asarray(x_self), rows, jnp.asarray(counts)).sum()

    out = conv(jnp.asarray(x_self), poisoned, jnp.asarray(mask))
    clean = conv(jnp.asarray(x_self), jnp.asarray(x_neighbors), jnp.asarray(counts))
    np.testing.assert_array_equal(out, clean)
    gradient = np.asarray(jax.grad(total)(poisoned))
    assert (gradient[~mask] == 0).all()
    assert np.isfinite(gradient).all()


def test_a_node_without_neighbours_gets_the_bias_and_itself(rng):
    conv, params = build(rng)
    x_self, x_neighbors, _ = example(rng)
    out = conv(jnp.asarray(x_self), jnp.asarray(x_neighbors), jnp.zeros(5, jnp.int32))
    expected = x_self @ params["lin_r"]["kernel"] + np.asarray(params["lin_l"]["bias"])[None]
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("aggr", ["mean", "max", "sum"])
@pytest.mark.parametrize("normalize", [False, True])
def test_gradients(rng, aggr, normalize):
    conv, _ = build(rng, aggr=aggr, normalize=normalize)
    definition, params = nnx.split(conv)
    x_self, x_neighbors, counts = map(jnp.asarray, example(rng))

    def loss(params, x_self, x_neighbors):
        return nnx.merge(definition, params)(x_self, x_neighbors, counts)

    with jax.enable_x64(True):
        arguments = jax.tree.map(
            lambda leaf: jnp.asarray(leaf, jnp.float64), (params, x_self, x_neighbors)
        )
        check_grads(loss, arguments, order=1, modes=("rev",), atol=1e-6, rtol=1e-6)


def test_extra_batch_axes_under_jit_and_vmap(rng):
    conv, _ = build(rng)
    parts = [example(rng) for _ in range(3)]
    stacked = [jnp.asarray(np.stack(arrays)) for arrays in zip(*parts, strict=True)]
    each = np.stack([conv(*map(jnp.asarray, part)) for part in parts])
    for function in (conv, jax.jit(lambda *a: conv(*a)), jax.vmap(lambda *a: conv(*a))):
        np.testing.assert_allclose(function(*stacked), each, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("aggr", ["mean", "max", "sum"])
def test_no_neighbour_slots_and_no_nodes(aggr):
    conv = SAGEConv(3, 2, aggr=aggr, rngs=nnx.Rngs(0))
    out = conv(jnp.zeros((4, 3)), jnp.zeros((4, 0, 3)), jnp.zeros(4, jnp.int32))
    np.testing.assert_array_equal(out, np.zeros((4, 2)))
    out = conv(jnp.zeros((0, 3)), jnp.zeros((0, 5, 3)), jnp.zeros(0, jnp.int32))
    assert out.shape == (0, 2)


def test_errors():
    conv = SAGEConv(3, 2, rngs=nnx.Rngs(0))
    counts = jnp.zeros(5, jnp.int32)
    x, rows = jnp.zeros((5, 3)), jnp.zeros((5, 4, 3))
    with pytest.raises(ValueError, match=r"aggr must be one of mean, max, sum, got 'median'"):
        SAGEConv(3, 2, aggr="median", rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"aggr must be one of mean, max, sum, got 'median'"):
        LinenSAGEConv(2, aggr="median").init(jax.random.key(0), x, rows, counts)
    with pytest.raises(ValueError, match=r"x_self must be \[\*batch, 3\], got shape \(5, 4\)"):
        conv(jnp.zeros((5, 4)), rows, counts)
    with pytest.raises(ValueError, match=r"x_neighbors must be \[5, K, 3\], got shape \(20, 3\)"):
        conv(x, jnp.zeros((20, 3)), counts)
    with pytest.raises(ValueError, match=r"valid must be integer counts \(5,\) or a bool mask"):
        conv(x, rows, jnp.zeros(5))
    with pytest.raises(ValueError, match=r"valid must be integer counts .* got bool \(5,\)"):
        conv(x, rows, jnp.zeros(5, bool))
