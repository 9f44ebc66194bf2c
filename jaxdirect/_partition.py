"""How an operation's axes are split over a mesh, from its sharding rule.

A rule names the axes of operands and outputs, `n c, c k -> n k`: equal names are one factor,
which is split over the same mesh axes wherever it occurs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from jax.sharding import Mesh, NamedSharding, PartitionSpec

Axes: TypeAlias = dict[str, tuple[str, ...]]  # the mesh axes of every factor that is split


def _sides(rule: str) -> list[list[list[str]]]:
    return [[part.split() for part in side.split(",")] for side in rule.split("->")]


def _specs(names: list[list[str]], axes: Mapping[str, Any]) -> tuple[PartitionSpec, ...]:
    return tuple(PartitionSpec(*(axes.get(factor) for factor in factors)) for factors in names)


def _parts(axis: Any) -> tuple[str, ...]:
    return axis if isinstance(axis, tuple) else () if axis is None else (axis,)


def split(
    rule: str, replicated: tuple[str, ...], specs: Sequence[PartitionSpec]
) -> tuple[Axes, tuple[PartitionSpec, ...]]:
    """The factors that the operands' specs split, and the specs of the outputs."""
    operands, outputs = _sides(rule)
    axes: Axes = {}
    for factors, spec in zip(operands, specs, strict=True):
        for factor, axis in zip(factors, spec, strict=False):
            if axis is not None and factor not in replicated:
                axes.setdefault(factor, _parts(axis))
    return axes, _specs(outputs, axes)


def consistent(
    rule: str,
    replicated: tuple[str, ...],
    mesh: Mesh,
    operands: Sequence[Any],
    outputs: Sequence[Any],
) -> tuple[Axes, tuple[NamedSharding, ...], tuple[NamedSharding, ...]]:
    """The factors to split, and the shardings of outputs and operands that follow from them.

    What the partitioner proposes may split two factors over one mesh axis, as where a batch and
    a weight are both split: the first in the rule keeps it. Splits into unequal parts go.
    """
    sides = _sides(rule)
    axes: Axes = {}
    used: set[str] = set()
    for factors, array in zip(sides[0] + sides[1], (*operands, *outputs), strict=True):
        for factor, axis, size in zip(factors, array.sharding.spec, array.shape, strict=False):
            parts = _parts(axis)
            equal = size % math.prod(mesh.shape[part] for part in parts) == 0
            free = factor not in replicated and factor not in axes and used.isdisjoint(parts)
            if parts and equal and free:
                axes[factor] = parts
                used.update(parts)

    def shardings(names: list[list[str]], arrays: Sequence[Any]) -> tuple[NamedSharding, ...]:
        kinds = [array.sharding.memory_kind for array in arrays]
        return tuple(
            NamedSharding(mesh, spec, memory_kind=kind)
            for spec, kind in zip(_specs(names, axes), kinds, strict=True)
        )

    return axes, shardings(sides[1], outputs), shardings(sides[0], operands)


def check_whole(
    op: str, whole: tuple[tuple[int, str], ...], specs: Sequence[PartitionSpec]
) -> None:
    """Raises where an operand that may not be split is."""
    for index, name in whole:
        if any(axis is not None for axis in specs[index]):
            raise ValueError(
                f"{op}: {name} must be replicated over the mesh under plain jit, got "
                f"{specs[index]}; to let each device use its own part, call it in jax.shard_map"
            )
