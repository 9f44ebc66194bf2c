"""Flax layers with batch statistics and dropout: outputs, gradients and what they change."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdirect import offload

linen = pytest.importorskip("flax.linen")
nnx = pytest.importorskip("flax.nnx")

WIDTH = 6
X = jnp.linspace(-1, 1, 4 * WIDTH).reshape(4, WIDTH)
POLICY = offload.Policy(host=["up"])


def assert_trees_close(got, want):
    got, want = jax.tree.leaves(got), jax.tree.leaves(want)
    assert len(got) == len(want) > 0
    # Of a bias ahead of a norm, gradients are what rounding leaves of sums of the largest.
    largest = max(float(jnp.abs(other).max()) for other in want)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * largest)


class NnxBlock(nnx.Module):
    def __init__(self, rngs):
        self.up = nnx.Linear(WIDTH, 2 * WIDTH, rngs=rngs)
        self.norm = nnx.BatchNorm(2 * WIDTH, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.down = nnx.Linear(2 * WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x):
        h = offload.name(self.norm(self.up(x)), "up")
        return x + self.down(self.drop(nnx.gelu(h)))


@pytest.mark.parametrize("prevent_cse", [True, False])
def test_nnx(prevent_cse):
    def run(wrap):
        block = NnxBlock(nnx.Rngs(0))

        @nnx.jit
        def step(block, x):
            return nnx.value_and_grad(lambda block: (wrap(block, wrap(block, x)) ** 2).sum())(block)

        found = step(block, X)
        again = step(block, X)
        others = nnx.state(block, nnx.BatchStat), nnx.state(block, nnx.RngCount)
        return jax.block_until_ready((found, again, others))

    def call(block, x):
        return block(x)

    before = offload.stats()["stored"]
    moved = run(offload.nnx_remat(call, POLICY, prevent_cse=prevent_cse))
    assert offload.stats()["stored"] - before == 4
    want = run(call)
    assert_trees_close(moved, want)
    assert moved[0][0] != moved[1][0], "dropout draws anew"


class LinenBlock(linen.Module):
    @linen.compact
    def __call__(self, x, train=True):
        h = linen.Dense(2 * WIDTH)(x)
        h = offload.name(linen.BatchNorm(use_running_average=not train)(h), "up")
        h = linen.Dropout(0.5, deterministic=not train)(linen.gelu(h))
        return x + linen.Dense(WIDTH)(h)


class LinenNet(linen.Module):
    block: type[linen.Module]

    @linen.compact
    def __call__(self, x):
        for i in range(2):
            x = self.block(name=f"block{i}")(x)
        return x


def test_linen():
    def run(block):
        net = LinenNet(block)
        keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
        variables = net.init(keys, X)

        @jax.jit
        def step(params, stats):
            def loss(params):
                given = {"params": params, "batch_stats": stats}
                rngs = {"dropout": jax.random.key(2)}
                y, changed = net.apply(given, X, mutable=["batch_stats"], rngs=rngs)
                return (y**2).sum(), changed

            return jax.value_and_grad(loss, has_aux=True)(params)

        return jax.block_until_ready(step(variables["params"], variables["batch_stats"]))

    before = offload.stats()["stored"]
    moved = run(offload.linen_remat(LinenBlock, POLICY))
    assert offload.stats()["stored"] - before == 2
    assert_trees_close(moved, run(LinenBlock))
