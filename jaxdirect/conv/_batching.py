"""A batch of convolutions as one: the mapped axis goes into N, C, K or the groups.

A pass reads two of x, filter and y and writes the third. If x and y are mapped, the mapped axis
is more images; if filter and y are, more output channels; if x and filter, more input channels;
if all three, more groups. Channels lie group by group, so the axis goes between a group and its
channels.
"""

from __future__ import annotations

import functools
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array

# Of each pass: the roles of its operands, and of its result.
ROLES = {
    "fprop": (("x", "filter"), "y"),
    "dgrad": (("y", "filter"), "x"),
    "wgrad": (("x", "y"), "filter"),
}

# Of each set of mapped arrays: the axis of one array that takes the mapped axis, and whether
# that axis is made of groups.
_Places: TypeAlias = dict[str, tuple[int, bool]]
_FOLDS: dict[frozenset[str], _Places] = {
    frozenset({"x", "y"}): {"x": (0, False), "y": (0, False)},
    frozenset({"filter", "y"}): {"filter": (3, True), "y": (3, True)},
    frozenset({"x", "filter"}): {"x": (3, True), "filter": (2, False)},
    frozenset({"x", "filter", "y"}): {"x": (3, False), "filter": (3, False), "y": (3, False)},
}


def _fold(mapped: Array, axis: int, groups: int) -> Array:
    """`[B, ..., G * d, ...]` to `[..., G * B * d, ...]`, four axes."""
    size, shape = mapped.shape[0], mapped.shape[1:]
    split = mapped.reshape(size, *shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])
    moved = jnp.moveaxis(split, 0, axis + 1)
    return moved.reshape(*shape[:axis], size * shape[axis], *shape[axis + 1 :])


def _unfold(folded: Array, axis: int, groups: int, size: int) -> Array:
    """The inverse of `_fold`."""
    shape = folded.shape
    rest = shape[axis] // (groups * size)
    split = folded.reshape(*shape[:axis], groups, size, rest, *shape[axis + 1 :])
    moved = jnp.moveaxis(split, axis + 1, 0)
    return moved.reshape(size, *shape[:axis], groups * rest, *shape[axis + 1 :])


def batch(
    kind: str, call: functools.partial, size: int, batched: list[bool], *operands: Array
) -> tuple[Array]:
    """The pass `kind` over operands of which some are mapped over their first axis."""
    if size == 0:
        shapes = [x.shape[flag:] for x, flag in zip(operands, batched, strict=True)]
        one = [jax.ShapeDtypeStruct(shape, operands[0].dtype) for shape in shapes]
        (out,) = jax.eval_shape(call, *one)
        return (jnp.zeros((0, *out.shape), out.dtype),)
    groups: int = call.keywords["groups"]
    roles, result = ROLES[kind]
    mapped = {role for role, flag in zip(roles, batched, strict=True) if flag}
    places = _FOLDS[frozenset({*mapped, result})]

    def place(role: str) -> tuple[int, int]:
        axis, grouped = places[role]
        return axis, groups if grouped else 1

    folded: list[Any] = [
        _fold(x, *place(role)) if role in mapped else x
        for role, x in zip(roles, operands, strict=True)
    ]
    (out,) = call(*folded, groups=groups * size if len(places) == 3 else groups)
    return (_unfold(out, *place(result), size),)
