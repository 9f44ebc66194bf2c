"""The benchmark of compiled layers at tiny sizes: cases, plain forms, goals; and one run of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from compile_peers import benchmark, cases, contenders, goals, report  # noqa: E402
from compile_peers.problem import MODELS, NEW, LayerProblem  # noqa: E402
from relational_peers import graphs, ours  # noqa: E402


def native_missing() -> str | None:
    if (why := benchmark.missing()) is not None:
        return why
    from jaxdirect import _ffi

    try:
        _ffi.require("cpu", "the benchmark")
    except Exception as error:
        return str(error)
    return None


pytestmark = pytest.mark.skipif(native_missing() is not None, reason=str(native_missing()))


def run_benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "compile.py"), "--platform", "cpu"]
    return subprocess.run(
        [*command, "--graphs", "tiny", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("model", NEW)
def test_plain_computes_the_layer(model: str) -> None:
    graph = graphs.make("tiny")
    problem = LayerProblem(model, graph, features=16, heads=4)
    plan, _ = ours.build_plan(graph)
    x, tables = problem.inputs()[0], problem.tables()
    layer, edges = contenders.build(contenders.PLAIN, problem, plan)
    oracle, its_edges = contenders.oracle(problem, plan)
    want = np.asarray(jax.jit(oracle)(its_edges, x, tables))
    np.testing.assert_allclose(jax.jit(layer)(edges, x, tables), want, atol=1e-5 * abs(want).max())


def test_a_short_budget_reaches_the_most_important_first() -> None:
    found = cases.every(None, "cuda")
    assert len({case.name for case in found}) == len(found)
    core = [case for case in found if case.tier < 2]
    assert list(dict.fromkeys(case.kind for case in core)) == ["layer", "ablation", "new", "first"]
    assert [case.tier for case in core] == sorted(case.tier for case in core)
    assert {case.graph for case in core if case.kind == "ablation"} == {"fb15k", "biokg"}
    assert {case.model for case in core if case.kind == "first"} == set(MODELS)


def test_what_a_cpu_could_not_hold_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = LayerProblem("gatv2", graphs.make("tiny"), heads=8)
    assert contenders.refuse(contenders.PLAIN, problem, "cpu") is None
    monkeypatch.setattr(contenders.os, "sysconf", lambda name: 4096)
    assert contenders.refuse(contenders.PLAIN, problem, "cpu") == "OOM (estimated 0.0 GiB)"
    assert contenders.refuse(contenders.COMPILED, problem, "cpu") is None
    assert contenders.refuse(contenders.PLAIN, problem, "cuda") is None


def figures(kind: str, model: str, graph: str, **seconds: float | None) -> dict:
    """A record of steps; None is out of memory."""

    def step(s: float | None) -> dict:
        return {"oom": "OOM"} if s is None else {"seconds": s, "rounds": [s] * 3, "peak_bytes": 0}

    heads = 8 if model in cases.ATTENTION else 1
    return {
        "params": {"kind": kind, "model": model, "graph": graph, "heads": heads},
        "contenders": {name: {"training": step(s)} for name, s in seconds.items()},
    }


def test_goals_are_judged_and_losses_said() -> None:
    forms = dict(zip(contenders.FORMS, (8.0, 4.0, 2.0, 5.0), strict=True))
    cold = {"compiled": {"training": {"cold_s": 3.0, "warm_s": 0.01}}}
    data = {
        "rgat/aifb": figures("layer", "rgat", "aifb", compiled=1.0, hand=2.0),
        "rgat/mag": figures("layer", "rgat", "mag", compiled=2.0, hand=1.0),
        "rgat/mag/ablation": figures("ablation", "rgat", "mag", **forms),
        "gatv2/aifb": figures("new", "gatv2", "aifb", compiled=1.0, plain=30.0),
        "gatv2/mag": figures("new", "gatv2", "mag", compiled=1.0, plain=None),
        "first/gatv2": {"params": {"kind": "first"}, "contenders": cold},
    }
    found = {goal.what: goal for goal in goals.evaluate(data)}
    assert found["step: hand / compiled, geomean"].values["rgat"] == pytest.approx(1)
    worst = found["step: hand / compiled, worst graph"]
    assert worst.values["rgat/mag"] == 0.5
    assert "rgat/mag 0.5x MISSED" in worst.line()
    assert found["rgat step: none / best form"].values == {"mag": 4, "geomean": pytest.approx(4)}
    assert found["step: plain / compiled, geomean"].values["gatv2"] == pytest.approx(30)
    assert "gatv2 3 s MISSED" in found["first step, cold"].line()
    assert goals.coverage(data) == {"compiled": (2, 2), "plain": (1, 2)}
    assert "plain OOM" in report.line("gatv2/mag", data["gatv2/mag"])
    assert "R 2000.000 ms (4.00x)" in report.line("rgat/mag/ablation", data["rgat/mag/ablation"])


def test_a_tiny_graph_runs_from_end_to_end(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    only = ("--rounds", "2", "--only", "^(rgat/tiny(/ablation)?|compgcn/tiny|first/compgcn)$")
    done = run_benchmark(*only, "--output", str(output))
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads(output.read_text())
    found = data["cases"]
    names = ["rgat/tiny", "rgat/tiny/ablation", "compgcn/tiny", "first/compgcn"]
    assert list(found) == names
    assert set(found["rgat/tiny"]["contenders"]) == {"compiled", "hand"}
    assert set(found["rgat/tiny/ablation"]["contenders"]) == set(contenders.FORMS)
    assert set(found["compgcn/tiny"]["contenders"]) == {
        "compiled",
        "plain",
        "lowered",
        "reference",
    }
    for name in names[:3]:
        assert found[name]["difference"].keys() == found[name]["contenders"].keys()
        for apart in found[name]["difference"].values():
            assert max(apart.values()) < 1e-4
    assert {"forward", "training", "backward"} == found["rgat/tiny"]["contenders"]["hand"].keys()
    first = found["first/compgcn"]["contenders"]["compiled"]["training"]
    assert first["cold_s"] > first["trace_s"] > 0
    assert data["goals"]
