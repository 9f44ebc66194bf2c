"""`plan`: where each named value should wait, under a budget of device memory."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from jaxdirect.offload import _measure, _table, _tickets, engine
from jaxdirect.offload._candidate import Candidate, pareto
from jaxdirect.offload._cost import Rates
from jaxdirect.offload._reasons import Name, names
from jaxdirect.offload._search import Search
from jaxdirect.offload._trace import trace
from jaxdirect.offload._trial import Limits
from jaxdirect.offload.policy import Policy


@dataclasses.dataclass(frozen=True)
class Plan:
    """A policy for a training step, and why; `print` shows it.

    Attributes:
        policy: for `jaxdirect.offload.checkpoint`.
        budget_bytes: of device memory.
        peak_bytes: that the compiled step needs at once, with the library's staging.
        step_seconds: measured; predicted where the step could not be run.
        expected_peak_bytes, expected_seconds: of the same step, before it was tried; None where
            predictions begin with it, which are those of keeping all and of computing all again.
        names: what is known of each name.
        keep, recompute: the step with all names kept and with all computed again.
        candidates: those, all others tried, and those that were expected to be best at some size,
            in order of their peaks.
        rates: of the device and its links.
        host_bytes: host memory for what waits, of all devices.
        disk_bytes: likewise on disk: what a step writes.
        staging_bytes: device memory for values on their way, for
            `offload.configure(staging_bytes=)`: two of the largest values, as without that call,
            or more of what the budget has left, where the step would wait for the link.
        moves: whether values can be moved on this platform.
    """

    policy: Policy
    budget_bytes: int
    peak_bytes: int
    step_seconds: float
    expected_peak_bytes: int | None
    expected_seconds: float | None
    names: tuple[Name, ...]
    keep: Candidate
    recompute: Candidate
    candidates: tuple[Candidate, ...]
    rates: Rates
    host_bytes: int
    disk_bytes: int
    staging_bytes: int
    moves: bool

    @property
    def chosen(self) -> Candidate:
        """The candidate with the plan's policy."""
        return next(c for c in self.candidates if c.policy == self.policy)

    def drive_days(self, rated_bytes: float) -> float:
        """Days of such steps, without a pause, until drives have written what they are rated for.

        Args:
            rated_bytes: of all drives together, e.g. 1.2e15 for 1200 TBW.

        Returns:
            Infinity where nothing goes to disk.

        Example:
            >>> import jax, jax.numpy as jnp
            >>> from jaxdirect import offload
            >>> def step(policy, w, x):
            ...     layer = lambda w: offload.name(jnp.sin(w * x), "sin") ** 2
            ...     return jax.grad(lambda w: offload.checkpoint(layer, policy)(w).sum())(w)
            >>> plan = offload.plan(step, jnp.ones(8), jnp.ones(8), budget_bytes=1 << 20)
            >>> plan.drive_days(1.2e15)
            inf
        """
        if self.disk_bytes == 0:
            return math.inf
        return rated_bytes / self.disk_bytes * self.step_seconds / 86400

    def __str__(self) -> str:
        return _table.text(self)

    def figure(self) -> Any:
        """The curve of step time over device memory, from recomputing to moving to keeping.

        Returns:
            A `matplotlib.figure.Figure`: what was measured, what was predicted, the best of both
            at each size, the budget and the plan.

        Raises:
            ModuleNotFoundError: matplotlib is not installed.
        """
        from jaxdirect.offload import _figure

        return _figure.draw(self)


def plan(
    step: Callable[..., Any],
    *args: Any,
    budget_bytes: int,
    donate_argnums: int | tuple[int, ...] = (),
    compiler_options: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Plan:
    """Finds where each named value of a training step should wait for the backward pass.

    The step is traced to find its names, their bytes and what computing them again takes; compiled
    under a few policies for its memory, the staging included; and run to time it. Nothing is
    planned on predictions alone, except where the device is too small to run a step.

    Args:
        step: `step(policy, *args)`, a whole training step: forward pass, backward pass and update.
            It wraps its layers in `jaxdirect.offload.checkpoint(layer, policy)`. It may be jitted
            with the policy as a static argument.
        *args: example arguments, arrays or pytrees of them.
        budget_bytes: most device memory, in bytes, that the step may need at once, its arguments
            and results included.
        donate_argnums: positions in `args` of what the step may overwrite, as for `jax.jit`. The
            example arguments stay as they are.
        compiler_options: those that the step will be compiled with, as for `jax.jit`: memory and
            time may depend on them.
        progress: is told what has been tried, in sentences.

    Returns:
        The plan: its `policy` is for the step as it is given here.

    Raises:
        ValueError: no policy found needs so little, the budget is not positive, or the step has no
            named values in a checkpointed layer.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxdirect import offload
        >>> def step(policy, w, x):
        ...     layer = lambda x, w: offload.name(jnp.sin(x @ w), "sin") @ w
        ...     layer = offload.checkpoint(layer, policy)
        ...     loss = lambda w: jax.lax.scan(lambda x, w: (layer(x, w), None), x, w)[0].sum()
        ...     return w - jax.grad(loss)(w)
        >>> plan = offload.plan(step, jnp.ones((3, 8, 8)), jnp.ones((4, 8)), budget_bytes=1 << 20)
        >>> [name.name for name in plan.names], plan.names[0].bytes
        (['sin'], 384)
        >>> plan.peak_bytes <= 1 << 20
        True
    """
    if budget_bytes <= 0:
        raise ValueError(f"plan: budget_bytes must be positive, got {budget_bytes}")
    numbers = (donate_argnums,) if isinstance(donate_argnums, int) else tuple(donate_argnums)
    if any(not -len(args) <= number < len(args) for number in numbers):
        raise ValueError(f"plan: donate_argnums {numbers} are not all of {len(args)} arguments")
    donate = tuple(number % len(args) for number in numbers)
    report = progress or (lambda sentence: None)
    traced = trace(step, args)
    if not traced.names:
        raise ValueError(
            "plan: the step has no named values to place; name them with offload.name(x, 'up') "
            "and wrap their layer in offload.checkpoint(layer, policy) with the policy that the "
            "step is given; names in loops, branches and other checkpoints of a layer do not count"
        )
    report(f"names: {', '.join(traced.names)}")
    moves = _tickets.available()
    limits = Limits(
        budget=budget_bytes,
        host=engine.host_limit_bytes(),
        disk=moves and bool(engine.directories()),
        moves=moves,
    )
    was_idle = moves and engine.stats()["waiting"] == 0
    try:
        steps = _measure.Steps(step, args, donate, compiler_options)
        search = Search(traced, steps, limits, report)
        return _finish(search)
    finally:
        if was_idle:
            engine.clear()  # of what measuring took


def _finish(search: Search) -> Plan:
    best, model, limits = search.run(), search.model, search.limits
    found, trial = search.candidate(best), search.trials[best]
    frontier = pareto(map(search.candidate, search.known))
    shown = {c.policy: c for c in [*frontier, *map(search.candidate, search.trials)]}
    return Plan(
        policy=found.policy,
        budget_bytes=limits.budget,
        peak_bytes=found.peak_bytes,
        step_seconds=found.seconds,
        expected_peak_bytes=trial.expected_peak,
        expected_seconds=trial.expected_seconds,
        names=names(model, best, trial.staging),
        keep=search.candidate(model.keep),
        recompute=search.candidate(model.recompute),
        candidates=tuple(sorted(shown.values(), key=lambda c: (c.peak_bytes, c.seconds))),
        rates=model.rates,
        host_bytes=model.host_bytes(best),
        disk_bytes=sum(size.host for _, size in model.placed(best, "disk")),
        staging_bytes=trial.staging,
        moves=limits.moves,
    )
