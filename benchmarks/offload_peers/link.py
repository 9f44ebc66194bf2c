"""The link to host memory, and how much of a step is its forward pass: what bounds moving."""

from __future__ import annotations

from typing import Any

from jaxdirect import _compat, offload
from jaxdirect.offload import _cost, _measure, _trace

from . import model, run


def measure(config: model.Config, given: tuple) -> dict[str, float]:
    """What a record needs for its bounds; see `report.bound`.

    Args:
        config: of the model.
        given: arguments of its step.

    Returns:
        `link_bytes_per_s`: each way, measured through the cache with values as large as the
        model's largest, once in a process for each size. `forward_share`: of the seconds of a step
        that keeps all, by the operations and bytes of its jaxpr.
    """
    offload.configure(staging_bytes=0)
    largest = max(model.value_bytes(config).values())
    rates = _measure.measured_rates(_compat.default_platform(), largest, ())
    offload.clear()

    def step(policy: offload.Policy, *args: Any) -> Any:
        return model.step(config, run.by_ours(policy))(*args)

    traced = _trace.trace(step, given)
    whole = _cost.work_seconds(traced.work(frozenset()), rates)
    forward = _cost.work_seconds(traced.forward, rates)
    return {"link_bytes_per_s": rates.host, "forward_share": forward / whole}
