"""Runs a benchmark: its cases within a budget, a record in the file and a printed row of each."""

from __future__ import annotations

import argparse
import gc
import os
import re
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from . import command, machine
from .results import Results, keep_others

Record = dict[str, Any]


class Case(Protocol):
    """A row: about what it takes, and how important it is (tier 0 the most, 2 no core table)."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def seconds(self) -> float: ...

    @property
    def tier(self) -> int: ...

    def params(self) -> Record: ...


def fits(case: Case, later: Sequence[Case], left_s: float) -> bool:
    """Whether a case may start with that many seconds left.

    One that is less important than some that come later must leave time for all of those.
    """
    reserved = sum(c.seconds for c in later if c.tier < case.tier)
    return case.seconds + reserved <= left_s


class Benchmark:
    """What a benchmark is to the runner; one object a process.

    Attributes:
        name: of the script.
        packages: whose versions are noted.
        peer: the kind of cases that a process of its own measures, if any. They come first, named
            "<peer>/<name>", so that neither library holds memory that the other needs.
        share: of the budget, that they may take.
        notes: what goes into the file beside the figures.
    """

    name = ""
    packages: Sequence[str] = ()
    peer = ""
    share = 0.0

    def __init__(self, options: argparse.Namespace, platform: str):
        self.options, self.platform = options, platform
        self.without, self.again = command.names(options.without), command.names(options.again)
        self.notes: Any = []

    def cases(self) -> Iterable[Any]:
        """All there are, in the order in which they run; of equal names the first counts."""
        raise NotImplementedError

    def start(self) -> Record:
        """Makes ready to measure; what this process's entry in the file has of its own."""
        return {}

    def introduction(self) -> str:
        """What is printed after the machine."""
        raise NotImplementedError

    def measure(self, case: Any) -> Record:
        """The record of a case."""
        raise NotImplementedError

    def measure_peer(self, cases: list[Any], limit_s: float) -> Iterator[tuple[str, Record | str]]:
        """Names and records of the peer's cases, or ("NOTE", text)."""
        raise NotImplementedError

    def derive(self, record: Record) -> None:
        """Adds what follows from a record's figures."""

    def line(self, name: str, record: Record, peer: Record | None) -> str:
        """The row of a case; `peer` is the record of the same case in the peer's process."""
        raise NotImplementedError

    def failed(self, record: Record) -> bool:
        """Whether the process should end with 1 because of a record."""
        return "error" in record

    def judge(self, results: Results) -> None:
        """Prints the goals, losses included, and keeps them in the file."""

    def note(self, text: str) -> None:
        """Prints a line that also goes into the file."""
        self.notes.append(text)
        print(f"note: {text}", flush=True)


def run(kind: type[Benchmark], options: argparse.Namespace, begins: Callable[[str], object]) -> int:
    """Runs the selected cases; returns 1 if one failed."""
    benchmark = kind(options, command.platform(options, kind.name))
    results = Results(options.resume or options.output, resume=options.resume is not None)
    if options.goals:
        benchmark.judge(results)
        return 0
    cases = select(benchmark)
    if options.list:
        for case in cases:
            print(f"{case.name:<42} {'done' if results.done(case.name) else ''}".rstrip())
        return 0
    about = machine.environment(benchmark.platform, len(os.sched_getaffinity(0)), kind.packages)
    about |= {"notes": benchmark.notes, "cases": [c.name for c in cases]} | benchmark.start()
    results.begin(about)
    driver = f" (driver {about['gpu'].get('driver_version')})" if about["gpu"] else ""
    print(f"{kind.name}: {about['device']}{driver}, {about['cpu']}, commit {about['commit'][:10]}")
    print(benchmark.introduction(), flush=True)
    failed = Runner(benchmark, results, begins).run(_todo(benchmark, cases, results))
    if benchmark.platform == "cuda":
        about["gpu_after"] = machine.gpu_state()
    about["seconds"] = time.monotonic() - options.started
    benchmark.judge(results)
    results.write()
    return int(failed > 0)


def select(benchmark: Benchmark) -> list[Any]:
    """The cases that the options ask for."""
    only, named = benchmark.options.only, {}
    for case in benchmark.cases():
        if case.kind not in benchmark.without:
            named.setdefault(case.name, case)
    if only is None:
        return [c for c in named.values() if c.tier < 2]
    return [c for c in named.values() if re.search(only, c.name)]


def _todo(benchmark: Benchmark, cases: list[Any], results: Results) -> list[Any]:
    cases = [c for c in cases if c.name not in benchmark.options.finished]
    if not benchmark.again:
        return [c for c in cases if not results.done(c.name)]
    # Of those that have contenders; the peer has a process of its own.
    found = [c for c in cases if c.kind != benchmark.peer and results.done(c.name)]
    return [c for c in found if "contenders" in results.data["cases"][c.name]]


class Runner:
    """One process's way through its cases.

    Args:
        benchmark: what is measured.
        results: the file.
        begins: told the name of each case before it is measured.
    """

    def __init__(self, benchmark: Benchmark, results: Results, begins: Callable[[str], object]):
        self.benchmark, self.results, self.begins = benchmark, results, begins

    def left_s(self) -> float:
        """Of the budget."""
        options = self.benchmark.options
        spent = time.monotonic() - options.started
        return float("inf") if options.budget is None else options.budget - spent

    def run(self, todo: list[Any]) -> int:
        """Measures the cases that fit the budget; how many failed."""
        peer, name = self.benchmark.peer, self.benchmark.name
        for lost, why in self.benchmark.options.lost.items():
            self.keep(lost, {"error": why})
        first = [c for c in todo if peer and c.kind == peer]
        own = [c for c in todo if c not in first]
        if first:
            share = self.benchmark.share if own else 1.0
            limit_s = min(self.left_s() * share, 1e9)
            for case, record in self.benchmark.measure_peer(first, limit_s):
                if isinstance(record, str):
                    self.benchmark.note(record)
                else:
                    self.benchmark.derive(record)
                    self.keep(case, record)
        failed, skipped = 0, 0
        for index, case in enumerate(own):
            if fits(case, own[index + 1 :], self.left_s()):
                self.begins(case.name)
                failed += self.measure(case)
            else:
                skipped += 1
        self.begins("")
        if skipped:
            budget = self.benchmark.options.budget
            print(f"{name}: budget of {budget:.0f} s spent; {skipped} cases left to --resume")
        return failed

    def measure(self, case: Any) -> bool:
        """Measures one case; whether it failed."""
        begin = time.monotonic()
        try:
            record = self.benchmark.measure(case)
            if self.benchmark.again:
                keep_others(record, self.results.data["cases"][case.name])
            self.benchmark.derive(record)
        except Exception as error:  # one case's failure must not lose the others
            record = {"error": f"{type(error).__name__}: {error}"}
            traceback.print_exc()
        gc.collect()
        record.setdefault("params", case.params() | {"platform": self.benchmark.platform})
        record["wall_s"] = time.monotonic() - begin
        self.keep(case.name, record)
        return self.benchmark.failed(record)

    def keep(self, name: str, record: Record) -> None:
        """Prints the row of a case and keeps its record; a failure does not replace figures."""
        if not ("error" in record and self.results.done(name)):
            self.results.add(name, record)
        peer = self.results.data["cases"].get(f"{self.benchmark.peer}/{name}")
        failure = f"{name:<34} FAILED {str(record.get('error'))[:300]}"
        line = failure if "error" in record else self.benchmark.line(name, record, peer)
        print(line, flush=True)
