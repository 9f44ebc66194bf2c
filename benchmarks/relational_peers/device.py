"""Compiles, checks the memory of, and times functions of JAX on the default device."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import re
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from harness.timing import Contender, rounds

SYNC_S = 0.03  # device time between two waits of the host, each of which costs about 1 ms
SHORT_S = 0.003  # calls shorter than this are repeated inside one program
REPEATS = 64
LIMIT_S = 15.0  # of a case, after which no further round starts


def training(layer: Callable) -> Callable:
    """f(edges, x, weights, cotangent) -> (y, gradient of x, gradients of the weights)."""

    def step(edges, x, weights, cotangent):
        y, pull = jax.vjp(lambda x, weights: layer(edges, x, weights), x, weights)
        return y, *pull(cotangent)

    return step


def repeated(function: Callable) -> Callable:
    """f(*args) -> a scalar, after `REPEATS` calls one after another inside one program.

    The barriers make each call wait for the last one and keep all of its results, so that the
    compiler can neither hoist a call nor cut one down to the element that is used.
    """

    def run(*args):
        def step(_, total):
            held, total = jax.lax.optimization_barrier((args, total))
            results = jax.lax.optimization_barrier(jax.tree.leaves(function(*held)))
            firsts = (r[(0,) * r.ndim].astype(jnp.float32) for r in results if r.size)
            return total + sum(firsts)

        return jax.lax.fori_loop(0, REPEATS, step, jnp.float32(0))

    return run


@dataclasses.dataclass
class Program:
    """One function to measure.

    Args:
        name: of its record.
        function: of (edges, x, weights) or (edges, x, weights, cotangent).
        edges, rest: arguments before and after x.
        xs: different inputs, taken in turn.
        precision: of matrix products that say none themselves, as `jax.default_matmul_precision`.
    """

    name: str
    function: Callable
    edges: Any
    xs: Sequence[jax.Array]
    rest: tuple
    precision: str | None = None
    record: dict[str, Any] = dataclasses.field(default_factory=dict)
    _compiled: Any = None
    _repeated: Any = None

    def arguments(self, index: int) -> tuple:
        return self.edges, self.xs[index % len(self.xs)], *self.rest

    def failed(self) -> bool:
        return bool({"oom", "error"} & self.record.keys())

    def call(self, index: int = 0) -> Any:
        """One call, not waited for."""
        return self._compiled(*self.arguments(index))

    def drop(self) -> None:
        """Frees what was compiled."""
        self._compiled = self._repeated = None


def compile_all(programs: Sequence[Program], *, repeat: bool = False) -> None:
    """Compiles in parallel threads; notes peak bytes and launches, or the failure.

    A program whose repetition fails is timed call by call.
    """
    guard = functools.partial(_guard, repetition=repeat)

    def lower(program: Program) -> Any:
        function = repeated(program.function) if repeat else program.function
        with jax.default_matmul_precision(program.precision):
            return jax.jit(function).lower(*program.arguments(0))

    lowered = [(p, guard(p, lambda p=p: lower(p))) for p in programs]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        jobs = [
            (p, pool.submit(guard, p, lambda text=text: _timed(text.compile)))
            for p, text in lowered
            if text is not None
        ]
    for program, job in jobs:
        if (done := job.result()) is None:
            continue
        compiled, seconds = done
        if repeat:
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


def measure(programs: Sequence[Program], *, repeat_short: bool, count: int) -> None:
    """Fills the records: seconds, of the median round, or `oom`, or `error`.

    On a GPU calls are queued until they take `SYNC_S`; short ones run `REPEATS` times inside one
    program, since launching a program from the host takes longer than they do.
    """
    compile_all(programs)
    estimates = {}
    for program in programs:
        if not program.failed():
            seconds = _guard(program, lambda p=program: _estimate(p))
            estimates[program.name] = seconds
    short = [p for p in programs if not p.failed() and estimates[p.name] < SHORT_S]
    if repeat_short and short:
        compile_all(short, repeat=True)
    ready = [p for p in programs if not p.failed()]
    for program in ready:
        if program._repeated is not None:
            one = _guard(program, lambda p=program: _wait(p._repeated, p, 1), repetition=True)
            if one is None:
                program._repeated = None
            else:
                estimates[program.name] = one / REPEATS
    contenders = [_contender(p, estimates[p.name]) for p in ready if not p.failed()]
    seconds = rounds(contenders, count, limit_s=LIMIT_S) if contenders else {}
    for program in ready:
        if program.name in seconds:
            program.record["rounds"] = seconds[program.name]
            program.record["seconds"] = statistics.median(seconds[program.name])
            program.record["repeated"] = program._repeated is not None


def _contender(program: Program, estimate: float) -> Contender:
    inner = REPEATS if program._repeated is not None else 1
    call = program._repeated or program._compiled
    outer = max(1, min(200, round(SYNC_S / max(estimate * inner, 1e-6) + 0.5)))

    def run(index: int) -> None:
        out = None
        for i in range(outer):
            out = call(*program.arguments(index + i))
        jax.block_until_ready(out)

    return Contender(program.name, run, calls=outer * inner)


def _wait(call: Callable, program: Program, calls: int) -> float:
    """Seconds a call, the waiting for the last included."""
    begin = time.perf_counter()
    out = None
    for index in range(calls):
        out = call(*program.arguments(index))
    jax.block_until_ready(out)
    return (time.perf_counter() - begin) / calls


def _estimate(program: Program) -> float:
    _wait(program._compiled, program, 1)
    seconds = _wait(program._compiled, program, 1)
    return seconds if seconds > 0.02 else _wait(program._compiled, program, 10)


def _timed(function: Callable) -> tuple[Any, float]:
    begin = time.perf_counter()
    return function(), time.perf_counter() - begin


def _guard(program: Program, function: Callable, repetition: bool = False) -> Any:
    """The function's value; or None, the failure being noted in the program's record.

    A program can do without its repetition.
    """
    try:
        return function()
    except Exception as error:  # one rival's failure must not lose the others
        text = f"{type(error).__name__}: {error}"
        if repetition:
            program.record["repetition_failed"] = text[:300]
        elif re.search(r"RESOURCE_EXHAUSTED|[Oo]ut of memory", text):
            size = program.record.get("peak_bytes")
            program.record["oom"] = f"OOM (needs {size / 2**30:.1f} GiB)" if size else "OOM"
            program.record["oom_text"] = text[:300]
        else:
            program.record["error"] = text[:500]
        return None


_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?[\w.\-]+ = .*?\s([a-z][a-z0-9\-]*)\(")
_CALLED = re.compile(r"(?:to_apply|body|calls|true_computation|false_computation)=%?([\w.\-]+)")
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "iota"),
    *("opt-barrier", "call", "while", "conditional", "partition-id", "replica-id"),
}


def launches(text: str) -> int:
    """About how many kernels a compiled program launches: fusions, custom calls and the like.

    What a `call` or `while` runs is counted once; a custom call may launch several kernels.
    """
    computations: dict[str, list[str]] = {}
    name = entry = ""
    for line in text.splitlines():
        if line.endswith("{") and not line.startswith(" ") and "(" in line:
            name = line.removeprefix("ENTRY ").split("(")[0].strip().lstrip("%")
            computations[name] = []
            entry = name if line.startswith("ENTRY") else entry
        elif line.startswith(" ") and name:
            computations[name].append(line)

    def count(which: str) -> int:
        total = 0
        for line in computations.get(which, ()):
            if (found := _INSTRUCTION.match(line)) is None:
                continue
            kind = found.group(1)
            if kind in ("call", "while", "conditional"):
                total += sum(count(called) for called in _CALLED.findall(line))
            total += kind not in _FREE
        return total

    return count(entry)
