"""RGCN, RGAT and HGT against an edge-by-edge oracle in float64."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from layers import GRAPHS, LAYERS, ORACLES, arguments, random_edges

MODELS = sorted(LAYERS)
IMPLEMENTATIONS = ("native", "reference")


@functools.cache
def plan(name, **options):
    return GRAPHS[name].plan(**options)


def cast(arrays, dtype):
    return [jnp.asarray(array, dtype) for array in arrays]


def assert_near(got, want, tolerance):
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape
    largest = np.abs(want).max(initial=0) + 1e-9
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * largest)


# One program instead of one an operation: compiling is what these tests cost.
@functools.partial(jax.jit, static_argnames=("model", "implementation"))
def out_and_gradients(model, graph, inputs, cotangent, implementation):
    def loss(*inputs):
        out = LAYERS[model](graph, *inputs, precision="highest", implementation=implementation)
        return (out * cotangent).astype(jnp.float32).sum(), out

    numbers = tuple(range(len(inputs)))
    (_, out), gradients = jax.value_and_grad(loss, argnums=numbers, has_aux=True)(*inputs)
    return [out, *gradients]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", GRAPHS)
def test_matches_the_oracle(name, model, implementation):
    edges = GRAPHS[name]
    inputs = arguments(model, edges, in_dim=12, out_dim=8, heads=2)
    out = LAYERS[model](
        plan(name), *cast(inputs, jnp.float32), precision="highest", implementation=implementation
    )
    assert_near(out, ORACLES[model](edges, *inputs), 1e-5)


@pytest.mark.parametrize("compaction", ["none", "src", "min"])
@pytest.mark.parametrize("model", MODELS)
def test_every_compaction_gives_the_same_numbers(compaction, model):
    edges = GRAPHS["hub"]
    inputs = arguments(model, edges, in_dim=9, out_dim=16, heads=4)
    graph = plan("hub", compaction=compaction)
    out = LAYERS[model](graph, *cast(inputs, jnp.float32), precision="highest")
    assert_near(out, ORACLES[model](edges, *inputs), 1e-5)


SIZES = [(5, 6, 2), (64, 64, 8), (100, 24, 3), (33, 1, 1), (16, 72, 1)]


@pytest.mark.parametrize(
    ("sizes", "dtype"),
    [*itertools.product(SIZES, (jnp.float32, jnp.bfloat16)), (SIZES[0], jnp.float16)],
)
@pytest.mark.parametrize("model", MODELS)
def test_native_is_the_reference(model, sizes, dtype):
    in_dim, out_dim, heads = sizes
    edges = GRAPHS["plain"]
    inputs = cast(arguments(model, edges, in_dim, out_dim, heads), dtype)
    cotangent = jnp.asarray(np.random.default_rng(1).normal(size=(50, out_dim)), dtype)
    got, want = (
        out_and_gradients(model, plan("plain"), inputs, cotangent, implementation)
        for implementation in IMPLEMENTATIONS
    )
    tolerance = {jnp.float32: 2e-5, jnp.bfloat16: 4e-2, jnp.float16: 6e-3}[dtype]
    for g, w in zip(got, want, strict=True):
        assert g.dtype == dtype
        assert_near(g, w, tolerance)


@pytest.mark.parametrize("model", MODELS)
def test_float64_keeps_its_accuracy(model):
    edges = GRAPHS["plain"]
    inputs = arguments(model, edges, 7, 12, 3)
    with jax.enable_x64(True):
        out = LAYERS[model](plan("plain"), *cast(inputs, jnp.float64))
        assert out.dtype == jnp.float64
    assert_near(out, ORACLES[model](edges, *inputs), 1e-12)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ["plain", "hub", "one_node", "no_edges"])
def test_gradients_by_differences_of_the_oracle(name, model):
    edges = GRAPHS[name]
    inputs = arguments(model, edges, 5, 8, 2)
    rng = np.random.default_rng(2)
    cotangent = rng.normal(size=(edges.num_nodes, 8))
    graph, narrow = plan(name), cast(inputs, jnp.float32)
    _, *gradients = out_and_gradients(
        model, graph, narrow, jnp.asarray(cotangent, jnp.float32), "native"
    )
    for number, gradient in enumerate(gradients):
        direction = rng.normal(size=inputs[number].shape)
        step = 1e-5
        ends = []
        for sign in (1, -1):
            moved = [*inputs]
            moved[number] = inputs[number] + sign * step * direction
            ends.append((ORACLES[model](edges, *moved) * cotangent).sum())
        want = (ends[0] - ends[1]) / (2 * step)
        got = (np.asarray(gradient, np.float64) * direction).sum()
        scale = np.abs(np.asarray(gradient)).sum() + 1e-3
        assert abs(got - want) < 1e-4 * scale, number


@pytest.mark.parametrize("model", MODELS)
def test_second_derivatives(model):
    edges = random_edges(7, 12, 40)
    graph = edges.plan()
    x, *weights = cast(arguments(model, edges, 4, 4, 2), jnp.float32)

    def first(x, implementation):
        def energy(x):
            out = LAYERS[model](
                graph, x, *weights, precision="highest", implementation=implementation
            )
            return (out**2).sum()

        return jax.grad(energy)(x)

    def second(implementation):
        return jax.grad(lambda x: (first(x, implementation) ** 2).sum())(x)

    assert_near(second("native"), second("reference"), 1e-4)


@pytest.mark.parametrize("model", MODELS)
def test_the_same_bits_every_time(model):
    edges = GRAPHS["hub"]
    inputs = cast(arguments(model, edges, 16, 16, 2), jnp.float32)
    cotangent = jnp.ones((edges.num_nodes, 16))
    runs = [out_and_gradients(model, plan("hub"), inputs, cotangent, "native") for _ in range(2)]
    for a, b in zip(*runs, strict=True):
        np.testing.assert_array_equal(a, b)


_PROCESS = """
import sys; sys.path.insert(0, {folder!r})
import hashlib, jax.numpy as jnp, numpy as np
from test_layers import GRAPHS, arguments, cast, out_and_gradients, plan
digest = hashlib.sha256()
for model in ("rgcn", "rgat", "hgt"):
    inputs = cast(arguments(model, GRAPHS["hub"], 16, 16, 2), jnp.float32)
    for array in out_and_gradients(model, plan("hub"), inputs, jnp.ones((40, 16)), "native"):
        digest.update(np.asarray(array).tobytes())
print(digest.hexdigest())
"""


def test_the_same_bits_in_every_process():
    code = _PROCESS.format(folder=__file__.rsplit("/", 1)[0])
    runs = [
        # -P: the installed package, not the sources that may lie in the working directory.
        subprocess.run(
            [sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, text=True, check=True
        )
        for _ in range(2)
    ]
    assert runs[0].stdout == runs[1].stdout
    assert len(runs[0].stdout.strip()) == 64


@pytest.mark.parametrize("model", MODELS)
def test_jit_vmap_scan_checkpoint(model):
    edges = GRAPHS["plain"]
    graph = plan("plain")
    x, *weights = cast(arguments(model, edges, 8, 8, 2), jnp.float32)

    def layer(graph, x):
        return LAYERS[model](graph, x, *weights, precision="highest")

    want = layer(graph, x)
    np.testing.assert_allclose(jax.jit(layer)(graph, x), want, atol=1e-5)
    batch = jnp.stack([x, 2 * x])
    mapped = jax.vmap(layer, in_axes=(None, 0))(graph, batch)
    np.testing.assert_allclose(mapped[0], want, atol=1e-5)
    np.testing.assert_allclose(mapped[1], layer(graph, 2 * x), atol=1e-5)

    def step(x, _):
        return layer(graph, x), None

    twice = jax.jit(lambda x: jax.lax.scan(step, x, None, length=2)[0])(x)
    np.testing.assert_allclose(twice, layer(graph, want), atol=1e-4)
    plain, kept = (
        jax.grad(lambda x, f=f: (f(graph, x) ** 2).sum())(x) for f in (layer, jax.checkpoint(layer))
    )
    np.testing.assert_allclose(plain, kept, atol=1e-4)


@pytest.mark.parametrize("model", MODELS)
def test_memory_is_not_per_edge_and_dim(model):
    edges = random_edges(9, 300, 60_000, num_relations=3)
    graph = edges.plan()
    inputs = cast(arguments(model, edges, 64, 64, 2), jnp.float32)

    def train(graph, *inputs):
        return jax.grad(lambda *i: LAYERS[model](graph, *i).sum(), argnums=(0, 1))(*inputs)

    memory = jax.jit(train).lower(graph, *inputs).compile().memory_analysis()
    messages = 60_000 * 64 * 4
    assert memory.temp_size_in_bytes < 0.5 * messages
