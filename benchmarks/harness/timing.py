"""Interleaved timing: every contender once a round, ratios taken within a round."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to do a case's work.

    Args:
        name: column name in the report.
        run: `run(round)` does `calls` calls on that round's inputs and returns when they are done.
        calls: how many calls one `run` makes.
        every: take part in every `every`-th round only (for peers that are slow and steady).
    """

    name: str
    run: Callable[[int], object]
    calls: int = 1
    every: int = 1


def rounds(
    contenders: Sequence[Contender],
    count: int,
    *,
    limit_s: float = 60.0,
    before: Callable[[Contender], object] | None = None,
) -> dict[str, list[float | None]]:
    """Seconds per call of each contender in each round, after one untimed run of each.

    Args:
        contenders: run in turn, A B C A B C ...; the order of a pair alternates between rounds.
        count: rounds; at least 5 are made even past the limit.
        limit_s: start no further round after this many seconds.
        before: called with the contender, untimed, ahead of every timing.

    Returns:
        One list per contender, a number for each round it took part in, else None.
    """
    for contender in contenders:
        contender.run(0)
    seconds: dict[str, list[float | None]] = {c.name: [] for c in contenders}
    begin = time.perf_counter()
    for index in range(count):
        if index >= 5 and time.perf_counter() - begin > limit_s:
            break
        for contender in contenders if index % 2 == 0 else reversed(contenders):
            if index % contender.every:
                seconds[contender.name].append(None)
                continue
            if before is not None:
                before(contender)
            start = time.perf_counter()
            contender.run(index + 1)
            seconds[contender.name].append((time.perf_counter() - start) / contender.calls)
    return seconds


def median(values: Sequence[float | None]) -> float:
    """Median of the rounds taken."""
    return statistics.median(v for v in values if v is not None)


def paired_ratio(peer: Sequence[float | None], ours: Sequence[float | None]) -> float:
    """Median over rounds of peer time / our time: above 1 means we are faster."""
    return statistics.median(
        p / o for p, o in zip(peer, ours, strict=True) if p is not None and o is not None
    )
