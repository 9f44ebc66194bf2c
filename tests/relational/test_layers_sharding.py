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


@functools.cache
def make_mesh():
    devices = jax.devices() if len(jax.devices()) > 1 else jax.devices("cpu")
    return jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,), devices=devices[:2])


@pytest.mark.xfail(
    jax.__version__ == "0.11.2",
    reason="its XLA crashes on a shard_map argument without elements",
    run=False,
)
@pytest.mark.parametrize("model", MODELS)
def test_shard_map_over_features_of_two_copies(model):
    edges = random_edges(21, 24, 90)
    graph = edges.plan()
    x, *weights = (jnp.asarray(a, jnp.float32) for a in arguments(model, edges, 6, 8, 2))
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


@pytest.mark.parametrize("model", MODELS)
def test_replicated_operands_need_no_exchange(model):
    edges = random_edges(22, 24, 90)
    everywhere = NamedSharding(make_mesh(), PartitionSpec())
    graph = jax.device_put(edges.plan(), everywhere)
    inputs = [jnp.asarray(a, jnp.float32) for a in arguments(model, edges, 6, 8, 2)]
    placed = jax.device_put(inputs, everywhere)
    layer = jax.jit(LAYERS[model])
    assert "all-gather" not in layer.lower(graph, *placed).compile().as_text()
    out = layer(graph, *placed)
    np.testing.assert_allclose(out, LAYERS[model](edges.plan(), *inputs), atol=2e-5)
