"""How the relational benchmark times, counts and judges; no layer of ours needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from harness.runner import fits  # noqa: E402
from relational_peers import cases, device, goals, graphs, peers_jax, report  # noqa: E402
from relational_peers.problem import Problem  # noqa: E402


def test_repeated_program_does_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "SHORT_S", 100.0)
    monkeypatch.setattr(device, "REPEATS", 3)
    problem = Problem("rgcn", graphs.make("tiny"), features=16)
    layer, edges = peers_jax.build("loop", problem)
    rest, common = problem.weights(), {"edges": edges, "xs": problem.inputs()}
    programs = [
        device.Program("a/forward", layer, rest=(rest,), **common),
        device.Program(
            "a/training", device.training(layer), rest=(rest, problem.cotangent()), **common
        ),
    ]
    device.measure(programs, repeat_short=True, count=2)
    for program in programs:
        record = program.record
        assert record["repeated"]
        assert record["seconds"] > 0
        assert record["peak_bytes"] >= record["memory_bytes"]["arguments"]
        # A loop whose body was hoisted or cut down would have lost its scatters.
        assert "while" in program._repeated.as_text()
        lost = program._compiled.as_text().count("scatter") > 0
        assert lost == (program._repeated.as_text().count("scatter") > 0)


def test_launches_counts_fusions_calls_and_loops() -> None:
    text = """HloModule jit_f
%fused (p: f32[2]) -> f32[2] {
  %p = f32[2]{0} parameter(0)
  ROOT %a = f32[2]{0} add(%p, %p)
}
%body (t: (f32[2])) -> (f32[2]) {
  %t = (f32[2]{0}) parameter(0)
  %c = f32[2]{0} custom-call(%t), custom_call_target="x"
  ROOT %r = (f32[2]{0}) tuple(%c)
}
ENTRY %main (p: f32[2]) -> f32[2] {
  %p = f32[2]{0} parameter(0)
  %f = f32[2]{0} fusion(%p), kind=kLoop, calls=%fused
  %w = (f32[2]{0}) while(%f), condition=%cond, body=%body
  ROOT %g = f32[2]{0} copy(%f)
}
"""
    assert device.launches(text) == 3


def test_budget_keeps_time_for_what_matters_more() -> None:
    core = [c for c in cases.gpu_cases() if c.tier < 2 and c.kind != "pyg"]
    extra = next(c for c in core if c.tier == 1)
    later = core[core.index(extra) + 1 :]
    reserved = sum(c.seconds for c in later if c.tier == 0)
    assert fits(extra, later, reserved + extra.seconds + 1)
    assert not fits(extra, later, reserved)
    assert fits(core[0], core[1:], core[0].seconds)
    names = [c.name for c in cases.gpu_cases()]
    assert len(set(names)) == len(names)


def figures(ours_s: float, reference_s: float, peer_s: float | None) -> dict:
    """A record in which training takes three times the forward pass."""

    def passes(seconds: float | None) -> dict:
        if seconds is None:
            return {"forward": {"oom": "OOM"}, "training": {"oom": "OOM"}}
        both = {"forward": seconds, "training": 3 * seconds}
        memory = {"arguments": 100, "outputs": 0, "temporaries": 200}
        return {
            name: {"seconds": s, "rounds": [s] * 3, "peak_bytes": 300, "memory_bytes": memory}
            for name, s in both.items()
        }

    floor = {"no_reuse_bytes": 1000, "no_reuse_s": 1e-3, "perfect_l2_s": 1e-4}
    names = {"jaxdirect": ours_s, "reference": reference_s, "ragged": peer_s}
    record = {
        "floors": {name: floor for name in report.PASSES},
        "memory_beside_arguments": {"forward": 100, "training": 100},
        "contenders": {name: passes(seconds) for name, seconds in names.items()},
        "params": {"platform": "cuda"},
    }
    report.derive(record)
    return record


def test_goals_are_judged_and_losses_said() -> None:
    data = {
        "rgcn/mag/f32/d64/h1": figures(1e-3, 4e-3, None),
        "rgcn/am/f32/d64/h1": figures(3e-3, 4e-3, 60e-3),
        "pyg/rgcn/mag/f32/d64/h1": {
            "contenders": {"RGCNConv": {"forward": {"seconds": 0.04}, "training": {"oom": "OOM"}}}
        },
    }
    ours_of = data["rgcn/mag/f32/d64/h1"]["contenders"]["jaxdirect"]
    assert ours_of["backward"]["seconds"] == pytest.approx(2e-3)
    assert ours_of["training"]["times_memory"] == 1.5
    found = {goal.what: goal for goal in goals.evaluate(data)}
    forward = found["rgcn forward / floor"]
    assert forward.record()["verdicts"] == {
        **dict.fromkeys(("bgs", "biokg", "wikikg2"), "-"),
        "mag": "aim",
        "am": "MISSED",
    }
    assert "am 3x MISSED" in forward.line()
    best = found["forward: best peer / ours, geomean"].values["rgcn"]
    assert best == pytest.approx((40 * 20) ** 0.5)
    own = found["training: own reference / ours, geomean"].values["all"]
    assert own == pytest.approx((4 * 4 / 3) ** 0.5)
    assert goals.coverage(data)["ragged"] == (1, 2)
    row = report.line("rgcn/am", data["rgcn/am/f32/d64/h1"])
    assert "best rival 20.00x ragged" in row
    assert "3.00x floor" in row


def test_goals_of_a_file_can_be_judged_alone(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    run = {"platform": "cuda"}
    data = {"format": 1, "runs": [run], "cases": {"rgcn/mag/f32/d64/h1": figures(1e-3, 4e-3, 1e-2)}}
    output.write_text(json.dumps(data))
    command = [sys.executable, str(BENCHMARKS / "relational.py"), "--platform", "cpu"]
    done = subprocess.run(
        [*command, "--goals", "--resume", str(output)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "mag 1x aim" in done.stdout
