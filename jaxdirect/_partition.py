"""Partition specs of an operation's outputs, from its sharding rule."""

from __future__ import annotations

from typing import Any

from jax.sharding import PartitionSpec


def output_specs(rule: str, replicated: tuple[str, ...], specs: tuple) -> tuple:
    """The outputs' partition specs, given the operands' and the rule that joins their axes."""
    operands, outputs = ([side.split() for side in part.split(",")] for part in rule.split("->"))
    axes: dict[str, Any] = {}
    for factors, spec in zip(operands, specs, strict=True):
        for factor, axis in zip(factors, spec, strict=False):
            if axis is not None and factor not in replicated:
                axes.setdefault(factor, axis)
    return tuple(PartitionSpec(*(axes.get(factor) for factor in factors)) for factors in outputs)
