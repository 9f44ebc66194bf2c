"""What is expected of a step by where its named values wait, before anything is compiled."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from jaxdirect.offload import _cost, engine
from jaxdirect.offload._cost import Clock, Rates
from jaxdirect.offload._trace import Bytes, Trace

MOST_CANDIDATES = 4**6
MOST_ALONE = 6
# Values of the disk tier that are in host memory on their way: written, and read ahead.
DISK_VALUES_IN_FLIGHT = 4 + 3

Places = tuple[str, ...]  # of the names of a trace, in their order
MOVED = ("host", "disk")


class Predictor:
    """Bytes and seconds of places by the trace of a step and a few measurements.

    Args:
        trace: of the step.
        rates: of the device.
    """

    def __init__(self, trace: Trace, rates: Rates):
        self.trace, self.rates, self.names = trace, rates, trace.names
        self.all = trace.bytes(frozenset())
        self.keep = self.canonical(("keep",) * len(self.names))
        self.recompute = ("recompute",) * len(self.names)
        self.moved = self.canonical(("host",) * len(self.names))
        self.clock = Clock(0, 0, 0)
        self._ends = 0, 0
        self._peaks: dict[Places, float] = {}
        self._seconds: dict[tuple[Places, int], float] = {}

    def calibrate(self, peaks: tuple[int, int], seconds: tuple[float | None, float | None]) -> None:
        """Takes what was measured of keeping all and of computing all again."""
        kept, again = self.trace.work(frozenset()), self.trace.work(frozenset(self.names))
        self.clock = _cost.clock(kept, again, self.trace.forward, self.rates, *seconds)
        self._ends = peaks
        self._peaks.clear()
        self._seconds.clear()

    def candidates(self, host_limit: float, moves: bool, disk: bool) -> Iterator[Places]:
        """Every place for every name; the smallest names share one where they are too many.

        Args:
            host_limit: bytes of host memory for what waits.
            moves: whether values may move.
            disk: whether they may go to disk.
        """
        options = ["keep", "recompute", *(["host"] if moves else [])]
        if moves and disk and sum(size.host for size in self.all.values()) > host_limit:
            options.append("disk")  # else host memory is as large and faster
        alone = int(math.log(MOST_CANDIDATES, len(options)) + 1e-9) - 1
        alone = min(alone, MOST_ALONE)  # each set of names computed again is a pass over the jaxpr
        order = sorted(self.names, key=lambda name: -self.all.get(name, Bytes()).waiting)
        groups = [group for group in ([[n] for n in order[:alone]] + [order[alone:]]) if group]
        found = set()
        for chosen in itertools.product(options, repeat=len(groups)):
            by_name = {n: p for group, p in zip(groups, chosen, strict=True) for n in group}
            places = self.canonical(tuple(by_name[name] for name in self.names))
            if places not in found and self.host_bytes(places) <= host_limit:
                found.add(places)
                yield places

    def canonical(self, places: Places) -> Places:
        """The same, where what the backward pass does not need is left alone."""
        used = self.sizes(places)
        named = zip(self.names, places, strict=True)
        return tuple(place if name in used else "recompute" for name, place in named)

    def sizes(self, places: Places) -> dict[str, Bytes]:
        """Of the names that wait, with places like these."""
        return self.trace.bytes(self._again(places))

    def placed(self, places: Places, *which: str) -> list[tuple[str, Bytes]]:
        """Names and sizes of what waits in some of the places."""
        by_name = dict(zip(self.names, places, strict=True))
        return [(n, size) for n, size in self.sizes(places).items() if by_name[n] in which]

    def host_bytes(self, places: Places) -> int:
        """Host memory that is needed, of all devices."""
        on_disk = max((size.largest for _, size in self.placed(places, "disk")), default=0)
        waiting = sum(size.host for _, size in self.placed(places, "host"))
        return waiting + on_disk * DISK_VALUES_IN_FLIGHT

    def staging(self, places: Places, room: float = 0) -> int:
        """Device memory beside the program's for values on their way.

        Args:
            places: of the names.
            room: device bytes that it may take where with its usual size the step would wait for
                the link, and `configure` has not set another.
        """
        sizes = dict(self.placed(places, *MOVED)).values()
        largest = max((size.largest for size in sizes), default=0)
        usual = engine.staging_bytes(largest)
        if room <= usual or not sizes or engine.is_staging_set():
            return usual
        moved = sum(size.moved for size in sizes)
        on_disk = sum(size.moved for _, size in self.placed(places, "disk"))
        wanted = min(room, self.clock.staging(moved, on_disk, self.rates))
        return engine.staging_bytes(largest, int(wanted)) if wanted > usual else usual

    def peak(self, places: Places) -> float:
        """Device bytes, the staging not counted."""
        if places not in self._peaks:
            most, least = self._ends
            own, low, high = map(self._held, (places, self.recompute, self.keep))
            stretch = (most - least) / (high - low) if most > least and high > low else 1.0
            self._peaks[places] = least + stretch * (own - low)
        return self._peaks[places]

    def seconds(self, places: Places, staging: int) -> float:
        """Of a step with that staging."""
        if (places, staging) not in self._seconds:
            by_name = dict(zip(self.names, places, strict=True))
            again = self.again_seconds(self._again(places))
            found = self.clock.seconds(again, by_name, self.sizes(places), self.rates, staging)
            self._seconds[places, staging] = found
        return self._seconds[places, staging]

    def _held(self, places: Places) -> float:
        """Device bytes by the jaxpr: what it makes, and what is kept meanwhile."""
        kept = sum(size.waiting for _, size in self.placed(places, "keep"))
        return self.trace.work(self._again(places)).temporary + kept

    def again_seconds(self, recomputed: frozenset[str]) -> float:
        """Of computing these names again, by the work of the jaxpr at the measured rates."""
        works = self.trace.work(recomputed), self.trace.work(frozenset())
        mine, kept = (_cost.work_seconds(work, self.rates) for work in works)
        return max(0.0, mine - kept)

    def distance(self, one: Places, other: Places) -> int:
        """Bytes that are placed otherwise."""
        pairs = zip(self.names, one, other, strict=True)
        return sum(self.all[name].waiting for name, a, b in pairs if a != b and name in self.all)

    def _again(self, places: Places) -> frozenset[str]:
        named = zip(self.names, places, strict=True)
        return frozenset(name for name, place in named if place == "recompute")
