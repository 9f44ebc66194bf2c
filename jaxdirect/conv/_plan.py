"""Which code computes a convolution and its gradients, and why."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxdirect.conv import _explicit, _precision, rules
from jaxdirect.conv._problem import Problem, Traced


@dataclasses.dataclass(frozen=True)
class Plan:
    """The decision about one call.

    Attributes:
        problem: the canonical form, or a sentence why there is none.
        precision: what XLA's convolution is asked for, in the place of a preset.
        choices: of the result and each gradient, by name.
    """

    problem: Problem | str
    precision: Any
    choices: dict[str, rules.Choice]

    @property
    def level(self) -> int:
        """The precision of native code."""
        return _precision.level(self.precision)


def plan(traced: Traced, platform: str, *, force: bool, explicit: bool = False) -> Plan:
    """Decides.

    Args:
        traced: the call.
        platform: where it runs.
        force: whether kernels run that the rules do not choose.
        explicit: whether the result is computed in the form of `_explicit`.

    Raises:
        ValueError: the precision is a preset that nothing honours.
    """
    problem = traced.problem

    def choices(precision: int) -> dict[str, rules.Choice]:
        found = usual(precision)
        return found | {"forward": _explicit.choose(platform, problem)} if explicit else found

    def usual(precision: int) -> dict[str, rules.Choice]:
        if isinstance(problem, str):
            choice = rules.Choice(False, None, problem)
            return dict.fromkeys(("forward", "gradient of lhs", "gradient of rhs"), choice)
        where = problem.geometry, problem.dtype, precision
        return {
            name: rules.choose(platform, op, *where, force=force)
            for name, op in problem.passes.items()
        }

    precision = _precision.resolve(
        traced.params["precision"],
        traced.dtype,
        platform,
        lambda: [choice.presets for choice in choices(1).values()],
    )
    return Plan(problem, precision, choices(_precision.level(precision)))
