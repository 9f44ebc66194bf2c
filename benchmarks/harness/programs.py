"""Compiles, checks the memory of, and times functions of JAX on the default device."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from .hlo import launches
from .timing import Contender, median, rounds

SYNC_S = 0.03  # device time between two waits of the host, each of which costs about 1 ms
LIMIT_S = 15.0  # of a case, after which no further round starts
THREADS = 8  # that compile


@dataclasses.dataclass
class Program:
    """One function to measure.

    Args:
        name: of its record.
        function: of the arguments of a call.
        inputs: arguments of different calls, taken in turn.
        precision: of matrix products that say none themselves, as `jax.default_matmul_precision`.
        calls: how many calls of what is measured one call of the function makes.
        refusals: exceptions by which the function says, when traced, that it does not cover this.
        every: takes part in every so many rounds only.
    """

    name: str
    function: Callable
    inputs: Sequence[tuple]
    precision: str | None = None
    calls: int = 1
    refusals: tuple[type[Exception], ...] = ()
    every: int = 1
    record: dict[str, Any] = dataclasses.field(default_factory=dict)
    _compiled: Any = None
    _repeated: Any = None

    def arguments(self, index: int) -> tuple:
        return self.inputs[index % len(self.inputs)]

    def failed(self) -> bool:
        return bool({"oom", "error", "skipped"} & self.record.keys())

    def call(self, index: int = 0) -> Any:
        """One call, not waited for."""
        return self._compiled(*self.arguments(index))

    def text(self) -> str:
        """What the compiler made of it."""
        return self._compiled.as_text()

    def drop(self) -> None:
        """Frees what was compiled."""
        self._compiled = self._repeated = None


def compile_all(programs: Sequence[Program], wrap: Callable | None = None) -> None:
    """Compiles in parallel threads; notes peak bytes and launches, or the failure.

    Args:
        programs: those to compile.
        wrap: gives the repetition of a function, which is compiled instead; a program can do
            without it.
    """
    guard = functools.partial(guarded, repetition=wrap is not None)

    def lower(program: Program) -> Any:
        function = program.function if wrap is None else wrap(program.function)
        with jax.default_matmul_precision(program.precision):
            return jax.jit(function).lower(*program.arguments(0))

    lowered = [(p, guard(p, lambda p=p: lower(p), refusals=p.refusals)) for p in programs]
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        jobs = [
            (p, pool.submit(guard, p, lambda text=text: _timed(text.compile)))
            for p, text in lowered
            if text is not None
        ]
    for program, job in jobs:
        if (done := job.result()) is None:
            continue
        compiled, seconds = done
        if wrap is not None:
            program._repeated = compiled
            continue
        program._compiled = compiled
        program.record["compile_s"] = seconds
        if (memory := compiled.memory_analysis()) is not None:
            parts = {
                "arguments": memory.argument_size_in_bytes,
                "outputs": memory.output_size_in_bytes,
                "temporaries": memory.temp_size_in_bytes,
            }
            program.record["memory_bytes"] = parts
            program.record["peak_bytes"] = sum(parts.values()) - memory.alias_size_in_bytes
        program.record["launches"] = launches(compiled.as_text())


def estimates(programs: Sequence[Program]) -> dict[str, float]:
    """Seconds of one call of each program that runs, by name, after warming it up."""
    found = {p.name: guarded(p, lambda p=p: _estimate(p)) for p in programs if not p.failed()}
    return {name: seconds for name, seconds in found.items() if seconds is not None}


def time_all(
    programs: Sequence[Program],
    estimate: dict[str, float],
    *,
    count: int,
    repeats: int = 1,
    sync_s: float = SYNC_S,
    limit_s: float = LIMIT_S,
    before: Callable[[Contender], object] | None = None,
) -> None:
    """Fills the records of the programs that run: `rounds`, and `seconds` of the median round.

    Args:
        programs: what takes turns.
        estimate: seconds of one call, by name.
        count: rounds.
        repeats: calls in a repetition, of the programs that have one.
        sync_s: seconds of calls that are queued before the host waits.
        limit_s: start no further round after this many seconds.
        before: called with the contender, untimed, ahead of every timing.
    """
    ready = [p for p in programs if not p.failed() and p.name in estimate]
    contenders = [_contender(p, estimate[p.name], repeats, sync_s) for p in ready]
    seconds = rounds(contenders, count, limit_s=limit_s, before=before) if contenders else {}
    for program in ready:
        program.record["rounds"] = seconds[program.name]
        program.record["seconds"] = median(seconds[program.name])


def _contender(program: Program, estimate: float, repeats: int, sync_s: float) -> Contender:
    inner = repeats if program._repeated is not None else 1
    call = program._repeated or program._compiled
    outer = max(1, min(200, round(sync_s / max(estimate * inner, 1e-6) + 0.5)))

    def run(index: int) -> None:
        out = None
        for i in range(outer):
            out = call(*program.arguments(index + i))
        jax.block_until_ready(out)

    calls = outer * inner * program.calls
    return Contender(program.name, run, calls=calls, every=program.every)


def wait(call: Callable, program: Program, calls: int) -> float:
    """Seconds a call, the waiting for the last included."""
    begin = time.perf_counter()
    out = None
    for index in range(calls):
        out = call(*program.arguments(index))
    jax.block_until_ready(out)
    return (time.perf_counter() - begin) / calls


def _estimate(program: Program) -> float:
    wait(program._compiled, program, 1)
    seconds = wait(program._compiled, program, 1)
    return seconds if seconds > 0.02 else wait(program._compiled, program, 10)


def _timed(function: Callable) -> tuple[Any, float]:
    begin = time.perf_counter()
    return function(), time.perf_counter() - begin


def guarded(
    program: Program,
    function: Callable,
    repetition: bool = False,
    refusals: tuple[type[Exception], ...] = (),
) -> Any:
    """The function's value; or None, the failure being noted in the program's record.

    A program can do without its repetition.
    """
    try:
        return function()
    except Exception as error:  # one rival's failure must not lose the others
        text = f"{type(error).__name__}: {error}"
        if repetition:
            program.record["repetition_failed"] = text[:300]
        elif isinstance(error, refusals):
            program.record["skipped"] = str(error)[:500]
        elif re.search(r"RESOURCE_EXHAUSTED|[Oo]ut of memory", text):
            size = program.record.get("peak_bytes")
            program.record["oom"] = f"OOM (needs {size / 2**30:.1f} GiB)" if size else "OOM"
            program.record["oom_text"] = text[:300]
        else:
            program.record["error"] = text[:500]
        return None
