"""What the offload benchmark says of its figures, from made-up records."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from offload_peers import goals, report, table


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


def test_rounds_of_different_runs_are_not_compared() -> None:
    record = policies(0.3, 1.0) | {"runs_of_others": {"recompute": 0}}
    assert report.over(record, "recompute") is None
    assert report.over(record, "host up") == pytest.approx(1)


@pytest.mark.parametrize(("cost", "verdict"), [(1.005, "aim"), (1.02, "ok"), (1.03, "MISSED")])
def test_goals_of_steps(cost: float, verdict: str) -> None:
    (up, *_) = goals.evaluate({"gpt4096/policies": policies(0.3, cost)})
    assert up.verdict(up.values[""]) == verdict


def test_memory_counts_only_where_the_step_does_not_suffer() -> None:
    def memory(cost: float) -> float | None:
        found = goals.evaluate({"wide8192/policies": policies(0.4, cost)})
        (goal,) = (g for g in found if "wide8192" in g.values and "memory at" in g.what)
        return goal.values["wide8192"]

    assert memory(1.009) == pytest.approx(0.4)
    assert memory(1.02) is None


def test_other_bits_are_a_goal_missed() -> None:
    record = policies(0.3, 1.0)
    record["contenders"]["host up"]["same_bits"] = False
    *_, bits = goals.evaluate({"gpt4096/policies": record})
    assert [bits.verdict(v) for v in bits.values.values()] == ["MISSED"]


def bounded(moved: int, **more: bool) -> dict:
    """A record where keep takes 3 s, a third of them forward, and the link 10 bytes a second."""
    ours = {"seconds": 9.0, "moved_bytes": moved, "staging_bytes": 5} | more
    found = {"keep": {"seconds": 3.0}, "recompute": {"seconds": 4.0}, "host up": ours}
    return {"link_bytes_per_s": 10.0, "forward_share": 1 / 3, "contenders": found}


@pytest.mark.parametrize(
    ("moved", "seconds"),
    [(4, 3), (15, 3), (20, 1.5 + 2), (30, 2.5 + 2.5)],  # one way: 0, 1, 1.5 and 2.5 s
)
def test_what_the_link_bounds(moved: int, seconds: float) -> None:
    record = bounded(moved)
    assert report.bound(record, "host up") == pytest.approx(seconds / 3)
    report.derive(record)
    assert record["contenders"]["host up"]["bound_over_keep"] == pytest.approx(seconds / 3)
    assert "bound_over_keep" not in record["contenders"]["keep"]


def test_what_is_computed_again_is_in_the_bound() -> None:
    assert report.bound(bounded(15, recomputes=True), "host up") == pytest.approx(4 / 3)


def planned(seconds: float) -> dict:
    """A record of a budget of 200 bytes; JAX's offload takes part in every other round."""
    found = {
        "keep": {"peak_bytes": 300, "seconds": 2.0, "rounds": [2.0, 2.0]},
        "recompute": {"peak_bytes": 100, "seconds": 3.0, "rounds": [3.0, 3.0]},
        "jax all": {"peak_bytes": 200, "seconds": 2.4, "rounds": [2.4, None]},
        "jax up": {"peak_bytes": 201, "seconds": 2.2, "rounds": [2.2, None]},
    }
    ours = {"budget_bytes": 200, "seconds": seconds, "rounds": [seconds, seconds]}
    ours["over_keep"] = seconds / 2
    return {"contenders": found | {f"planned {share}": ours for share in (30, 53)}}


def test_a_plan_is_judged_by_the_best_that_fits() -> None:
    record = planned(2.0)
    assert report.fitting_peer(record, "planned 30") == "jax all"
    assert report.fitting_peer(record, "planned 70") is None
    found = {goal.what: goal for goal in goals.evaluate({"gpt4096/budgets": record})}
    peers = found["planned: best peer that fits over ours"]
    assert peers.values == {"30 %": pytest.approx(1.2), "50 %": None, "70 %": None}
    assert peers.verdict(peers.values["30 %"]) == "aim"


@pytest.mark.parametrize(("seconds", "verdict"), [(2.02, "aim"), (2.06, "ok"), (2.1, "MISSED")])
def test_goal_of_the_planned_step(seconds: float, verdict: str) -> None:
    found = {goal.what: goal for goal in goals.evaluate({"gpt4096/budgets": planned(seconds)})}
    step = found["planned for 47 % less activation memory: step"]
    assert step.verdict(step.values[""]) == verdict


def test_a_refused_budget_has_a_row() -> None:
    record = planned(2.0)
    record["contenders"]["planned 50"] = {"budget_bytes": 1, "skipped": "plan: no policy found"}
    assert "plan: no policy found" in table.line("gpt4096/budgets", record)


def test_the_largest_batch_that_is_as_fast() -> None:
    def ours(multiple: float, seconds: float) -> dict:
        return {"multiple": multiple, "rounds": [seconds, seconds]}

    record = {
        "contenders": {
            "keep": ours(1, 1.0),
            "host all x1.5": ours(1.5, 1.51),
            "host all x2": ours(2, 2.1),
            "host all x2.2": {"multiple": 2.2, "skipped": "too large"},
        }
    }
    assert report.largest_multiple(record, 0.98) == 1.5
    assert report.largest_multiple(record, 0.95) == 2
    assert report.largest_multiple(record, 1.1) == 0
    assert report.largest_multiple({}, 0.98) is None


def test_a_row_of_the_disk() -> None:
    figures = {"ours_bytes_per_s": 1.9e9, "plain_bytes_per_s": 2e9, "ratio": 0.95, "direct": True}
    figures |= {"kept_seconds": 0.1, "ours": [{"seconds": 2.0}]}
    row = table.line("disk/rate", figures)
    assert "1.90 GB/s, plain 2.00 GB/s O_DIRECT: 0.95x (computing takes 5 % of ours)" in row
    (goal,) = (g for g in goals.evaluate({"disk/rate": figures}) if "disk" in g.what)
    assert goal.verdict(goal.values[""]) == "aim"
