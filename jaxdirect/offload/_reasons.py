"""What a plan says of each name."""

from __future__ import annotations

import dataclasses

from jaxdirect.offload import _cost
from jaxdirect.offload._predict import MOVED, Places, Predictor
from jaxdirect.offload._trace import Bytes


@dataclasses.dataclass(frozen=True)
class Name:
    """What is known of a name, and where its values should wait.

    Attributes:
        name: of the values.
        bytes: of all its values in a step, on one device.
        waiting_bytes: of those that wait at the same time, on one device.
        count: how many values, on one device.
        recompute_seconds: for computing them again, all others kept.
        transfer_seconds: for moving them out and back in, beside the computation.
        place: "keep", "host", "disk" or "recompute".
        reason: for the place, in a few words.
    """

    name: str
    bytes: int
    waiting_bytes: int
    count: int
    recompute_seconds: float
    transfer_seconds: float
    place: str
    reason: str


def names(model: Predictor, places: Places, staging: int) -> tuple[Name, ...]:
    """All names of a step with these places and so many bytes of staging."""
    return tuple(_name(model, places, name, staging) for name in model.names)


def _name(model: Predictor, places: Places, name: str, staging: int) -> Name:
    place = places[model.names.index(name)]
    size = model.all.get(name, Bytes())
    again = model.clock.scale * model.again_seconds(frozenset({name}))
    on_disk = size.moved if place == "disk" else 0
    transfer = 2 * _cost.transfer_seconds(size.moved, on_disk, model.rates)
    out = sum(size.moved for _, size in model.placed(places, *MOVED)) - staging
    reason = _reason(model, places, name, again, transfer, out)
    return Name(name, size.moved, size.waiting, size.count, again, transfer, place, reason)


def _reason(
    model: Predictor, places: Places, name: str, again: float, transfer: float, out: int
) -> str:
    place = places[model.names.index(name)]
    if name not in model.all:
        return "not needed by the backward pass"
    if place == "keep":
        return "fits"
    if place in MOVED:
        on_disk = sum(size.moved for _, size in model.placed(places, "disk"))
        one_way = _cost.transfer_seconds(max(out, 0), on_disk, model.rates)
        if place == "disk":
            return "host memory is full"
        if one_way <= min(model.clock.forward, model.clock.backward):
            return "moves under the compute"
        return "cheaper to move than to compute again" if transfer < again else "frees the memory"
    if again == 0:
        return "costs nothing to compute again"
    if set(places) == {"recompute"} or transfer >= again:
        return "cheaper to compute again than to move"
    return "cheaper to compute again beside what moves"
