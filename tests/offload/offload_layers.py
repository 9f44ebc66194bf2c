"""Layers and losses that the tests share."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdirect import offload

WIDTH, DEPTH, BATCH = 12, 5, 7

# A compiler that chooses kernels by timing them gives two programs different bits.
jit = functools.partial(
    jax.jit, compiler_options={"xla_gpu_autotune_level": 0, "xla_gpu_deterministic_ops": True}
)


def layer(params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """A block with names of every kind: needed, not needed, in a nested call, of the input."""
    x = offload.name(x, "input")
    up = offload.name(x @ params["up"], "up")
    gate = jax.jit(lambda h: offload.name(jnp.sin(h), "nested"))(up)
    down = offload.name(jax.nn.gelu(gate * up) @ params["down"], "down")
    return x + jnp.tanh(down)


def make(seed: int = 0, dtype: Any = "float32") -> tuple[dict[str, jax.Array], jax.Array]:
    """Parameters of DEPTH layers and an input."""
    keys = jax.random.split(jax.random.key(seed), 3)
    params = {
        "up": jax.random.normal(keys[0], (DEPTH, WIDTH, 2 * WIDTH), dtype) / WIDTH**0.5,
        "down": jax.random.normal(keys[1], (DEPTH, 2 * WIDTH, WIDTH), dtype) / WIDTH**0.5,
    }
    return params, jax.random.normal(keys[2], (BATCH, WIDTH), dtype)


def loss(block: Any, unroll: int | bool = 1) -> Any:
    """Of (params, x), the layers in a scan."""

    def run(params: Any, x: jax.Array) -> jax.Array:
        y, _ = jax.lax.scan(lambda x, p: (block(p, x), None), x, params, unroll=unroll)
        return (y.astype("float32") ** 2).sum()

    return run


def gradients(block: Any, unroll: int | bool = 1) -> Any:
    """Of (params, x), the loss and its gradients, when they are there."""
    step = jit(jax.value_and_grad(loss(block, unroll), (0, 1)))
    return lambda params, x: jax.block_until_ready(step(params, x))


def assert_same_bits(got: Any, want: Any) -> None:
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert one.dtype == other.dtype
        assert (one == other).all()


def assert_close(got: Any, want: Any) -> None:
    """Where what is stored keeps XLA:CPU from fusing, and so from contracting, as it would."""
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=3e-6 * float(jnp.abs(other).max()))
