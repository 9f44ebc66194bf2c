"""The offload benchmark at tiny sizes: a whole run, and what is said of its figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from offload_peers import cases, goals, report  # noqa: E402


def test_a_whole_run(tmp_path: Path) -> None:
    file = tmp_path / "offload.json"
    command = [sys.executable, str(BENCHMARKS / "offload.py"), "--platform", "cpu", "--small"]
    command += ["--rounds", "4", "--only", "^gpt4096/policies$", "--output", str(file)]
    command += ["--without", "jax all,jax up,host input"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    (record,) = json.loads(file.read_text())["cases"].values()
    found = record["contenders"]
    moved = {"host up", "host up+qkv", "host all"}
    assert set(found) == {"keep", "recompute", "jax up+qkv", *moved}
    assert all(len(figures["rounds"]) == 4 for figures in found.values())
    assert found["host up"]["moved_bytes"] == record["value_bytes"]["up"]
    assert found["host all"]["moved_bytes"] == sum(record["value_bytes"].values())
    assert all(found[who]["same_bits"] for who in moved)
    assert all(0 < found[who]["staging_bytes"] <= 2 * 8192 for who in moved)
    assert run.stdout.count(", same bits") == len(moved)


def policies(share: float, cost: float) -> dict:
    """A record where keep takes 200 bytes over recompute's 100, and 40 move."""
    made = {
        "keep": {"peak_bytes": 300, "rounds": [2.0, 2.0]},
        "recompute": {"peak_bytes": 100, "rounds": [3.0, None]},
        "host up": {"peak_bytes": round(100 + 200 * share) - 20, "staging_bytes": 20},
    }
    made["host up"] |= {"rounds": [2 * cost, 2 * cost], "moved_bytes": 40, "same_bits": True}
    return {"contenders": made}


def test_activation_memory_counts_the_staging() -> None:
    record = policies(share=0.3, cost=1.0)
    assert report.activations(record, "host up") == pytest.approx(0.3)
    assert report.activations(record, "keep") == 1
    assert report.saved(record, "host up") == pytest.approx((300 - 140) / 40)


def test_rounds_that_one_did_not_take_part_in_do_not_count() -> None:
    assert report.over(policies(0.3, 1.0), "recompute") == pytest.approx(1.5)


@pytest.mark.parametrize(("cost", "verdict"), [(1.005, "aim"), (1.02, "ok"), (1.03, "MISSED")])
def test_goals_of_steps(cost: float, verdict: str) -> None:
    (up, *_) = goals.evaluate({"gpt4096/policies": policies(0.3, cost)})
    assert up.verdict(up.values[""]) == verdict


def test_memory_counts_only_where_the_step_does_not_suffer() -> None:
    def memory(cost: float) -> float | None:
        found = goals.evaluate({"wide8192/policies": policies(0.4, cost)})
        (goal,) = (g for g in found if "wide8192" in g.values)
        return goal.values["wide8192"]

    assert memory(1.009) == pytest.approx(0.4)
    assert memory(1.02) is None


def test_other_bits_are_a_goal_missed() -> None:
    record = policies(0.3, 1.0)
    record["contenders"]["host up"]["same_bits"] = False
    *_, bits = goals.evaluate({"gpt4096/policies": record})
    assert [bits.verdict(v) for v in bits.values.values()] == ["MISSED"]


def test_names_are_those_of_the_cases() -> None:
    names = [case.name for case in cases.all_cases()]
    assert len(set(names)) == len(names)
    assert names[0] == "gpt4096/policies"
