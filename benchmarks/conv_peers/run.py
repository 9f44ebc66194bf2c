"""Runs a case: a layer with its rivals, or a network's step."""

from __future__ import annotations

import dataclasses
import functools
import gc
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import jax
from harness import programs as harness

from . import operands, ours, programs, resnet
from .cases import Case
from .problem import BUSY, L2_BYTES, OPERANDS, RESULTS, Problem, make
from .report import AUTO, OURS, XLA
from .sampled import samples

# Name, layout, function and its options.
Contender: TypeAlias = tuple[str, str, Callable, dict[str, Any]]

SYNC_S = {"cuda": 0.06, "cpu": 0.03}
NETWORK_SYNC_S = 0.3


def usual(ctx: Context, problem: Problem) -> Iterator[Contender]:
    """Ours, asked for and after dispatch, and XLA's."""
    for name, option in ((OURS, "native"), (AUTO, "auto")):
        if ours.missing() is None:
            yield name, "nhwc", ours.function(), {"implementation": option}
    for name in XLA[: 2 if ctx.platform == "cuda" else 1]:
        yield name, name.removeprefix("xla_"), jax.lax.conv_general_dilated, {}


@dataclasses.dataclass
class Context:
    """State of one benchmark process.

    Args:
        platform: "cuda" or "cpu".
        without: contenders to leave out.
        again: the only contenders to measure, or none to measure all.
        rounds: of each timing, or None for the platform's number.
        small: tiny sizes, to check the logic.
        contenders: gives those of a layer.
        unchecked: contenders without a result.
    """

    platform: str
    without: set[str]
    again: set[str]
    rounds: int | None = None
    small: bool = False
    contenders: Callable[[Context, Problem], Iterator[Contender]] = usual
    unchecked: tuple[str, ...] = ()
    _operands: tuple[tuple, operands.Operands] | None = None
    _heater: Callable[[], jax.Array] | None = None

    def takes(self, name: str) -> bool:
        """Whether a contender takes part."""
        return name not in self.without and (not self.again or name in self.again)

    @property
    def count(self) -> int:
        return self.rounds or (5 if self.platform == "cuda" else 21)

    def operands(self, case: Case) -> operands.Operands:
        """Those of the case's layer; the last ones are kept."""
        if self._operands is None or self._operands[0] != case.group:
            self._operands = None
            gc.collect()
            made = operands.Operands(make(case.params(), self.small))
            made.warm_up()
            self._operands = case.group, made
        return self._operands[1]

    def busy_clocks(self) -> None:
        """Multiplies matrices for some milliseconds: a GPU that has work lowers its clocks."""
        if self._heater is None:
            side, count = BUSY if not self.small else (64, 1)
            matrix = jax.random.normal(jax.random.key(0), (side, side), "bfloat16")
            step = jax.jit(lambda m: jax.lax.fori_loop(0, count, lambda _, x: m @ x / side**0.5, m))
            self._heater = functools.partial(step, matrix)
        jax.block_until_ready(self._heater())

    def sets(self, problem: Problem, what: str) -> int:
        """How many sets of operands a pass goes through."""
        return problem.copies(what) if self.platform == "cuda" else 2


def compiled(ctx: Context, made: operands.Operands, what: str) -> list[harness.Program]:
    """The contenders' programs of one pass."""
    problem, found = made.problem, []
    count = ctx.sets(problem, what)
    for name, layout, function, options in ctx.contenders(ctx, problem):
        if not ctx.takes(name):
            continue
        conv = programs.convolution(function, problem, layout, **options)
        one = programs.one_pass(conv, problem, what, layout)
        sets = made.sets(OPERANDS[what], count, layout)
        refusals = ours.REFUSALS if name == OURS else ()
        if ctx.platform == "cuda":
            many, inputs = programs.rotated(one), [(sets,)]
            program = harness.Program(name, many, inputs, calls=count, refusals=refusals)
        else:
            program = harness.Program(name, one, sets, refusals=refusals)
        found.append(program)
    compile_in_turn(found)
    return found


def check(ctx: Context, made: operands.Operands, what: str, ready: list[harness.Program]) -> None:
    """Errors of the last results of each program of a pass, in its record."""
    checked = [p for p in ready if not p.failed() and p.name not in ctx.unchecked]
    if not checked:
        return
    last = ctx.sets(made.problem, what) - 1
    given = {o: made.get(o, last) for o in OPERANDS[what]}
    wanted = samples(made.problem, RESULTS[what], given, operands.fetch)

    def errors(program: harness.Program) -> dict[str, Any]:
        layout = program.name.removeprefix("xla_") if program.name in XLA else "nhwc"
        results = program.call(last)
        results = results[-1] if program.calls > 1 else results
        return {
            r: wanted[r].errors(operands.fetch_result(y, wanted[r].index, layout, r))
            for r, y in zip(RESULTS[what], results, strict=True)
        }

    for program in checked:
        program.record["accuracy"] = harness.guarded(program, lambda p=program: errors(p))


def compile_in_turn(ready: list[harness.Program]) -> None:
    """Compiles one of XLA's before the others, which then meet its choice of algorithms."""
    harness.compile_all([p for p in ready if p.name == XLA[0]])
    harness.compile_all([p for p in ready if p.name != XLA[0]])


def layer_case(ctx: Context, case: Case) -> dict[str, Any]:
    """Measures every contender of one pass of a layer."""
    made, what = ctx.operands(case), case.what
    problem, sets = made.problem, ctx.sets(made.problem, what)
    ready = compiled(ctx, made, what)
    check(ctx, made, what, ready)
    estimates = harness.estimates(ready)
    harness.time_all(
        ready,
        estimates,
        count=ctx.count,
        sync_s=SYNC_S[ctx.platform],
        before=(lambda _: ctx.busy_clocks()) if ctx.platform == "cuda" else None,
    )
    nbytes = sets * problem.nbytes(OPERANDS[what])
    for program in ready:
        if "memory_bytes" in program.record:
            program.record["workspace_bytes"] = program.record["memory_bytes"]["temporaries"]
            program.record["convolutions"] = programs.convolutions(program.text())
            program.record["native"] = programs.native(program.text())
        if "seconds" in program.record:
            program.record["dispatch_s"] = _dispatch(program)
    record = {
        "floors": problem.floor_s(what),
        "flops": problem.flops(what),
        "bytes": problem.moved(what),
        "sets": sets,
        "operand_bytes": nbytes,
        "past_l2": nbytes > 4 * L2_BYTES,
        "expected_convolutions": (3 if what == "training" else 1)
        * (sets if ctx.platform == "cuda" else 1),
        "contenders": {p.name: p.record for p in ready},
    }
    for program in ready:
        program.drop()
    return record


def _dispatch(program: harness.Program) -> float:
    """Seconds of a call that the host takes to start it; where the device takes less, it waits."""
    found = []
    for index in range(3):
        begin = time.perf_counter()
        out = program.call(index)
        found.append(time.perf_counter() - begin)
        jax.block_until_ready(out)
    return min(found) / program.calls


def resnet_case(ctx: Context, case: Case) -> dict[str, Any]:
    """Measures a training step of ResNet-50 by XLA's convolutions and by ours, in both layouts."""
    config = resnet.SMALL if ctx.small else resnet.RESNET50
    ready = []
    for who, function, options in (
        (OURS, None, {"implementation": "auto"}),
        ("xla", jax.lax.conv_general_dilated, {}),
    ):
        for layout in ("nhwc", "nchw"):
            name = f"{who}_{layout}"
            if not ctx.takes(name) or (function is None and ours.missing() is not None):
                continue
            conv = resnet.convolution(function or ours.function(), layout, **options)
            step = resnet.step(conv, layout, config)
            batch = 2 if ctx.small else case.batch
            inputs = [
                (resnet.init(layout, config), *resnet.batch(layout, config, batch, seed))
                for seed in range(2)
            ]
            ready.append(harness.Program(name, step, inputs))
    compile_in_turn(ready)
    estimates = harness.estimates(ready)
    harness.time_all(ready, estimates, count=ctx.count, sync_s=NETWORK_SYNC_S, limit_s=60)
    for program in ready:
        if "seconds" in program.record:
            program.record["loss"] = float(program.call()[1])
            program.record["convolutions"] = programs.convolutions(program.text())
    contenders = {p.name: p.record for p in ready}
    for program in ready:
        program.drop()
    return {"contenders": contenders}
