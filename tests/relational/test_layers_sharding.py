"""Relational layers over two devices: each its own graph, with no exchange between them."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from layers import LAYERS, arguments, random_edges

MODELS = sorted(LAYERS)


@pytest.fixture(autouse=True)
def full_precision():
    with jax.default_matmul_precision("highest"):
        yield


crashes_on_empty_arguments = pytest.mark.xfail(
    jax.__version__ == "0.11.2",
    reason="its XLA crashes on a shard_map argument without elements",
    run=False,
)


@functools.cache
def make_mesh():
    devices = jax.devices() if len(jax.devices()) > 1 else jax.devices("cpu")
    return jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,), devices=devices[:2])


def small(model, seed):
    """A plan, and the layer's nodes and weights."""
    edges = random_edges(seed, 24, 90)
    x, *weights = (jnp.asarray(a, jnp.float32) for a in arguments(model, edges, 6, 8, 2))
    return edges.plan(), x, weights


@crashes_on_empty_arguments
@pytest.mark.parametrize("model", MODELS)
def test_shard_map_over_features_of_two_copies(model):
    graph, x, weights = small(model, 21)
    batch = jnp.stack([x, -x])

    def one(graph, x, *weights):
        return LAYERS[model](graph, x[0], *weights)[None]

    split, whole = PartitionSpec("x"), PartitionSpec()
    layer = jax.jit(
        jax.shard_map(
            one,
            mesh=make_mesh(),
            in_specs=(whole, split, *(whole for _ in weights)),
            out_specs=split,
        )
    )
    placed = jax.device_put(batch, NamedSharding(make_mesh(), split))
    compiled = layer.lower(graph, placed, *weights).compile()
    assert "all-gather" not in compiled.as_text()
    out = layer(graph, placed, *weights)
    np.testing.assert_allclose(out[0], LAYERS[model](graph, x, *weights), atol=2e-5)
    np.testing.assert_allclose(out[1], LAYERS[model](graph, -x, *weights), atol=2e-5)


@crashes_on_empty_arguments
@pytest.mark.parametrize("model", MODELS)
def test_gradients_of_shared_weights_are_summed_over_the_devices(model):
    graph, x, weights = small(model, 23)
    batch = jnp.stack([x, 2 * x])

    def loss(weights, graph, x):
        return (LAYERS[model](graph, x, *weights) ** 2).sum()

    def step(weights, graph, x):
        return jax.grad(loss)(weights, graph, x[0])

    split, whole = PartitionSpec("x"), PartitionSpec()
    gradients = jax.jit(
        jax.shard_map(step, mesh=make_mesh(), in_specs=(whole, whole, split), out_specs=whole)
    )
    found = gradients(weights, graph, jax.device_put(batch, NamedSharding(make_mesh(), split)))
    parts = [jax.grad(loss)(weights, graph, x) for x in batch]
    for got, *want in zip(found, *parts, strict=True):
        np.testing.assert_allclose(got, sum(want), rtol=1e-4, atol=1e-4 * np.abs(got).max())


@pytest.mark.parametrize("model", MODELS)
def test_replicated_operands_need_no_exchange(model):
    graph, x, weights = small(model, 22)
    everywhere = NamedSharding(make_mesh(), PartitionSpec())
    placed = jax.device_put((graph, x, *weights), everywhere)
    layer = jax.jit(LAYERS[model])
    assert "all-gather" not in layer.lower(*placed).compile().as_text()
    np.testing.assert_allclose(layer(*placed), LAYERS[model](graph, x, *weights), atol=2e-5)
