"""Finding where named values should wait, by trials.

Few policies can be compiled and fewer run. So all are predicted, the best predicted one is tried,
and what was wrong about it corrects its neighbours: a policy's correction is that of the tried one
which places the fewest bytes otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from jaxdirect.offload import _table
from jaxdirect.offload._candidate import Candidate, describe
from jaxdirect.offload._predict import MOVED, Places, Predictor
from jaxdirect.offload._trace import Trace
from jaxdirect.offload._trial import Limits, Measures, Trial
from jaxdirect.offload.policy import Policy

MOST_TRIALS, TRIALS_TO_REFUSE = 12, 6
WORTH_TRYING = 0.998  # of the best time so far; less is noise, and a trial takes long
# Predictions err both ways: this many are tried that are expected to miss the budget, by 6 %.
NEAR_MISSES, NEAR = 2, 1.06


class Search:
    """The candidates of a step, what is known and what is expected of them.

    Args:
        trace: of the step.
        steps: compiles and times.
        limits: to keep to.
        report: is told each trial in a sentence.
    """

    def __init__(
        self, trace: Trace, steps: Measures, limits: Limits, report: Callable[[str], None]
    ):
        self.limits, self._steps, self._report = limits, steps, report
        largest = max((b.largest for b in trace.bytes(frozenset()).values()), default=0)
        self.model = Predictor(trace, steps.rates(largest, limits.disk))
        report(_table.rates(self.model.rates, limits.moves))
        self.trials: dict[Places, Trial] = {}
        self._near_misses = 0
        ends = self.model.keep, self.model.recompute
        keep, recompute = [self.trials.get(end) or self._try(end) for end in ends]
        self.known = list(self.model.candidates(limits.host, limits.moves, limits.disk))
        self.model.calibrate((keep.base, recompute.base), (keep.measured, recompute.measured))

    def run(self) -> Places:
        """Tries candidates until none untried is expected to do better; returns the best.

        Raises:
            ValueError: none is within the budget.
        """
        untried = set(self.known)
        still = [p for p in untried - self.trials.keys() if not set(MOVED) & set(p)]
        while len(self.trials) < MOST_TRIALS:
            untried -= self.trials.keys()
            chosen = self._next(untried)
            if chosen is None:
                break
            self._try(chosen)
            # What can be had without moving anything is measured too, not only believed.
            fitting = [places for places in still if self._should_fit(places)]
            if fitting and not any(places in self.trials for places in fitting):
                self._try(min(fitting, key=self._order))
        if (best := self.best()) is None:
            raise ValueError(self._refusal())
        return best

    def best(self) -> Places | None:
        """The fastest of those tried that are within the limits."""
        return min(filter(self._may_be_chosen, self.trials), key=self._order, default=None)

    def peak(self, places: Places) -> float:
        """Device bytes, found or expected, staging included."""
        base = self._base(places)
        return base + self.staging(places, base)

    def staging(self, places: Places, base: float | None = None) -> int:
        """Bytes of it: as many as help, where the budget has room."""
        if (trial := self.trials.get(places)) is not None:
            return trial.staging
        base = self._base(places) if base is None else base
        return self.model.staging(places, self.limits.budget - base)

    def seconds(self, places: Places) -> float:
        """Of a step, measured or expected."""
        trial = self.trials.get(places)
        if trial is not None and trial.seconds is not None:
            return trial.seconds
        timed = {p: s for p, t in self.trials.items() if (s := t.measured) is not None}
        nearest = self._nearest(places, timed)
        raw, error = self.model.seconds(places, self.staging(places)), 0.0
        if nearest is not None:
            error = timed[nearest] - self.model.seconds(nearest, self.trials[nearest].staging)
        return raw + error

    def candidate(self, places: Places) -> Candidate:
        """All about one."""
        trial, peak = self.trials.get(places), self.peak(places)
        return Candidate(
            policy=self.policy(places),
            peak_bytes=int(peak),
            seconds=self.seconds(places),
            is_compiled=trial is not None,
            is_timed=trial is not None and trial.seconds is not None,
            fits=peak <= self.limits.budget,
        )

    def policy(self, places: Places) -> Policy:
        """With every name listed."""
        named = list(zip(self.model.names, places, strict=True))
        keep, host, disk = ([n for n, p in named if p == q] for q in ("keep", "host", "disk"))
        rest = [name for name, place in named if place == "recompute"]
        return Policy(host=host, disk=disk, keep=keep, recompute=rest)

    def _try(self, places: Places) -> Trial:
        policy = self.policy(places)
        expects = len(self.trials) >= 2
        expected_peak = int(self.peak(places)) if expects else None
        expected_seconds = self.seconds(places) if expects else None
        base = self._steps.peak(policy)
        staging = self.model.staging(places, self.limits.budget - base)
        peak = base + staging
        is_of_use = not expects or peak <= self.limits.budget
        seconds = self._steps.seconds(policy, peak, staging) if is_of_use else None
        found = Trial(base, staging, seconds, expected_peak, expected_seconds)
        self.trials[places] = found
        time = "not run" if found.seconds is None else f"{found.seconds * 1e3:.2f} ms"
        time = "no memory to run" if found.seconds == math.inf else time
        self._report(f"{describe(policy)}: {_table.size(peak)}, {time}")
        return found

    def _base(self, places: Places) -> float:
        """Device bytes, found or expected, the staging not counted."""
        if (trial := self.trials.get(places)) is not None:
            return trial.base
        nearest = self._nearest(places, self.trials)
        raw, error = self.model.peak(places), 0.0
        if nearest is not None:
            error = self.trials[nearest].base - self.model.peak(nearest)
        return raw + error

    def _next(self, untried: set[Places]) -> Places | None:
        """What is expected to be fastest, or to be least where nothing is known to fit."""
        best = self.best()
        at_most = math.inf if best is None else WORTH_TRYING * self.seconds(best)
        worth = [places for places in untried if self.seconds(places) < at_most]
        fitting = filter(self._should_fit, worth)
        if (chosen := min(fitting, key=self._order, default=None)) is not None:
            return chosen
        near = [p for p in worth if self.peak(p) <= NEAR * self.limits.budget]
        if near and self._near_misses < NEAR_MISSES:
            self._near_misses += 1
            return min(near, key=self._order)
        if best is not None or not untried:
            return None
        # Before it is said that nothing fits: all moved, then what is expected to need least.
        if (moved := self.model.moved) in untried:
            return moved
        least = min(trial.peak for trial in self.trials.values())
        smallest = min(untried, key=lambda places: (self.peak(places), places))
        should_try = len(self.trials) < TRIALS_TO_REFUSE or self.peak(smallest) < least
        return smallest if should_try else None

    def _should_fit(self, places: Places) -> bool:
        return self.peak(places) <= self.limits.budget

    def _may_be_chosen(self, places: Places) -> bool:
        runs = self.trials[places].seconds != math.inf
        return (
            runs and self._should_fit(places) and self.model.host_bytes(places) <= self.limits.host
        )

    def _order(self, places: Places) -> tuple[float, float, int, Places]:
        # Drives wear: of two that are as good, the one that writes less.
        written = sum(size.moved for _, size in self.model.placed(places, "disk"))
        return self.seconds(places), self.peak(places), written, places

    def _nearest(self, places: Places, tried: Iterable[Places]) -> Places | None:
        return min(
            tried, key=lambda other: (self.model.distance(places, other), other), default=None
        )

    def _refusal(self) -> str:
        peak, places = min((trial.peak, places) for places, trial in self.trials.items())
        if peak <= self.limits.budget:
            return (
                f"plan: what needs {self.limits.budget} bytes or less did not run for want of "
                "memory on the device or on the host; free some, or raise "
                "offload.configure(host_limit_bytes=...)"
            )
        short = peak - self.limits.budget
        return (
            f"plan: no policy found needs {self.limits.budget} bytes or less; the least is {peak} "
            f"bytes, with {describe(self.policy(places))}: the budget is {short} bytes short; "
            "raise it, make the batch smaller or name more values"
        )
