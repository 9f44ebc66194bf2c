"""What the nnx and the linen layers share: plain functions of arrays."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

AGGREGATIONS = ("mean", "max", "sum")


def check_aggregation(layer: str, aggr: str) -> None:
    """Raises unless `aggr` is one of `AGGREGATIONS`."""
    if aggr not in AGGREGATIONS:
        raise ValueError(f"{layer}: aggr must be one of {', '.join(AGGREGATIONS)}, got {aggr!r}")


def check_inputs(layer: str, in_features: int, x_self: Array, x_neighbors: Array) -> None:
    """Raises unless `[*batch, d]` and `[*batch, K, d]` fit together."""
    if x_self.ndim < 1 or x_self.shape[-1] != in_features:
        raise ValueError(
            f"{layer}: x_self must be [*batch, {in_features}], got shape {x_self.shape}"
        )
    expected = (*x_self.shape[:-1], "K", in_features)
    got = x_neighbors.shape
    if len(got) != len(expected) or (*got[:-2], "K", got[-1]) != expected:
        raise ValueError(
            f"{layer}: x_neighbors must be [{', '.join(map(str, expected))}], got shape {got}; "
            "give every node the same number K of rows and mark the pads in `valid`"
        )


def neighbor_mask(
    layer: str, valid: Int[Array, "*batch"] | Bool[Array, "*batch K"], x_neighbors: Array
) -> Bool[Array, "*batch K"]:
    """Which of the K rows are neighbours, from a mask or from counts."""
    rows = x_neighbors.shape[:-1]
    if valid.dtype == bool and valid.shape == rows:
        return valid
    if jnp.issubdtype(valid.dtype, jnp.integer) and valid.shape == rows[:-1]:
        slots = jnp.arange(rows[-1]).reshape((1,) * valid.ndim + (-1,))
        return slots < valid[..., None]
    raise ValueError(
        f"{layer}: valid must be integer counts {rows[:-1]} or a bool mask {rows}, got "
        f"{valid.dtype} {valid.shape}; pass .counts or .neighbors >= 0 of sample_neighbors"
    )


def aggregate(
    x: Float[Array, "*batch K d"], mask: Bool[Array, "*batch K"], aggr: str
) -> Float[Array, "*batch d"]:
    """Mean, maximum or sum over the rows that `mask` keeps; zeros where it keeps none."""
    keep = mask[..., None]
    if aggr == "max":
        if x.shape[-2] == 0:
            return jnp.zeros((*x.shape[:-2], x.shape[-1]), x.dtype)
        largest = jnp.where(keep, x, -jnp.inf).max(-2)
        return jnp.where(keep.any(-2), largest, 0)
    # A select, not a product: what lies in a pad may be NaN.
    total = jnp.where(keep, x, 0).sum(-2)
    return total / jnp.maximum(keep.sum(-2), 1) if aggr == "mean" else total


def sage(
    lin_l: Callable[[Array], Array],
    lin_r: Callable[[Array], Array] | None,
    x_self: Array,
    neighbors: Array,
    normalize: bool,
) -> Array:
    """`lin_l(neighbors) + lin_r(x_self)`, scaled to length 1 if asked."""
    out = lin_l(neighbors)
    if lin_r is not None:
        out = out + lin_r(x_self)
    if normalize:
        # The bound of 1e-12 on the length lies under the root, where its gradient is finite.
        out = out / jnp.sqrt(jnp.maximum((out * out).sum(-1, keepdims=True), 1e-24))
    return out
