"""An XLA FFI op of one's own over a unified table: a weighted sum of picked rows."""

from __future__ import annotations

import importlib

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

TARGET = "example_weighted_sum"
PLATFORMS = {"weighted_sum_cpu": "cpu", "weighted_sum_cuda": "CUDA"}


def register() -> list[str]:
    """Registers the modules that were built; returns the platforms they serve."""
    found = []
    for module, platform in PLATFORMS.items():
        try:
            native = importlib.import_module(module)
        except ModuleNotFoundError:
            continue
        jax.ffi.register_ffi_target(TARGET, native.handler(), platform=platform)
        found.append(platform)
    return found


@jax.custom_batching.custom_vmap
def weighted_sum(
    table: Float[Array, "num_rows dim"],
    ids: Int[Array, "batch picks"],
    weights: Float[Array, "batch picks"],
) -> Float[Array, "batch dim"]:
    """The sum over j of weights[i, j] * table[ids[i, j]]; ids that are no row add nothing."""
    result = jax.ShapeDtypeStruct((ids.shape[0], table.shape[1]), jnp.float32)
    return jax.ffi.ffi_call(TARGET, result)(table, ids, weights)


@weighted_sum.def_vmap
def _(axis_size: int, batched: list[bool], table: Array, ids: Array, weights: Array):
    # The table is shared and may be huge: never batch it, flatten the picks instead.
    if batched[0]:
        raise ValueError("weighted_sum: table must not be batched, got vmap over it")
    ids, weights = (
        x if is_batched else jnp.broadcast_to(x, (axis_size, *x.shape))
        for x, is_batched in zip((ids, weights), batched[1:], strict=True)
    )
    picks = ids.shape[-1]
    out = weighted_sum(table, ids.reshape(-1, picks), weights.reshape(-1, picks))
    return out.reshape(axis_size, -1, table.shape[1]), True
