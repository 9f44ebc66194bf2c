"""Philox4x32-10 in plain JAX, bit for bit what the native sampler draws.

Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)


def _wide_product(a: Array, b: Array | int) -> tuple[Array, Array]:
    """High and low halves of the 64-bit products of 32-bit numbers."""
    b = jnp.asarray(b, jnp.uint32)
    a_low, a_high = a & 0xFFFF, a >> 16
    b_low, b_high = b & 0xFFFF, b >> 16
    low_low = a_low * b_low
    middle = a_high * b_low + (low_low >> 16)  # at most (2^16 - 1)^2 + 2^16 - 1
    carried = a_low * b_high + (middle & 0xFFFF)
    return a_high * b_high + (middle >> 16) + (carried >> 16), a * b


def philox(
    key: UInt32[Array, "*batch 2"], counter: UInt32[Array, "*batch 4"]
) -> UInt32[Array, "*batch 4"]:
    """One block of four random words for each key and counter."""
    key0, key1 = key[..., 0], key[..., 1]
    word0, word1, word2, word3 = (counter[..., i] for i in range(4))
    for _ in range(10):
        high0, low0 = _wide_product(word0, _MULTIPLIERS[0])
        high1, low1 = _wide_product(word2, _MULTIPLIERS[1])
        word0, word1, word2, word3 = high1 ^ word1 ^ key0, low1, high0 ^ word3 ^ key1, low0
        key0, key1 = key0 + np.uint32(_KEY_STEPS[0]), key1 + np.uint32(_KEY_STEPS[1])
    return jnp.stack([word0, word1, word2, word3], axis=-1)


def draws(
    state: UInt32[Array, "streams 2"], count: int
) -> tuple[UInt32[Array, "streams count"], UInt32[Array, "streams count"]]:
    """The first `count` 64-bit numbers of each stream, as low and high words."""
    blocks = -(-count // 2)
    shape = (state.shape[0], blocks)
    counter0 = jax.lax.broadcasted_iota(jnp.uint32, shape, 1)
    zero = jnp.zeros(shape, jnp.uint32)
    counter = jnp.stack([counter0, zero, zero, zero], axis=-1)
    key = jnp.broadcast_to(state[:, None, :], (*shape, 2))
    words = philox(key, counter).reshape(state.shape[0], 2 * blocks, 2)[:, :count]
    return words[..., 0], words[..., 1]


def bounded(
    low: UInt32[Array, "*batch"], high: UInt32[Array, "*batch"], n: UInt32[Array, "*batch"]
) -> UInt32[Array, "*batch"]:
    """`floor(u * n / 2**64)` of the 64-bit numbers `u = high * 2**32 + low`."""
    top, middle = _wide_product(high, n)
    carry, _ = _wide_product(low, n)
    return top + ((middle + carry) < middle).astype(jnp.uint32)
