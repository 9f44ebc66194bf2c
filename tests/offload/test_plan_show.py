"""What a plan prints and draws."""

from __future__ import annotations

import dataclasses
import math
import sys

import pytest
from plan_steps import FAST, clock, dear_to_recompute, light, make_light

from jaxdirect import offload
from jaxdirect.offload._candidate import Candidate
from jaxdirect.offload._cost import Rates
from jaxdirect.offload._reasons import Name
from jaxdirect.offload._table import size

__all__ = ["clock"]
GIB = 1 << 30


def candidate(policy, gib, ms, is_timed=True, budget=40):
    return Candidate(policy, int(gib * GIB), ms / 1e3, is_timed, is_timed, gib <= budget)


@pytest.fixture
def plan():
    """That of a large model, made up."""
    policy = offload.Policy(host=["up", "qkv"], keep=["attn"], recompute=["proj"])
    chosen = candidate(policy, 38.5, 1012)
    keep = candidate(offload.Policy(keep=["up", "qkv", "attn", "proj"]), 61, 1000)
    recompute = candidate(offload.Policy(recompute=["up", "qkv", "attn", "proj"]), 30, 1290)
    others = [
        candidate(offload.Policy(host=["up"], keep=["qkv", "attn", "proj"]), 44, 1004, False),
        candidate(offload.Policy(host=["up", "qkv", "attn", "proj"]), 31, 1100, False),
        candidate(offload.Policy(host=["up"], keep=["attn"]), 36, 1060),
    ]
    return offload.Plan(
        policy=policy,
        budget_bytes=40 * GIB,
        peak_bytes=chosen.peak_bytes,
        step_seconds=chosen.seconds,
        expected_peak_bytes=39 * GIB,
        expected_seconds=1.009,
        names=(
            Name("up", 12 * GIB, 12 * GIB, 12, 0.110, 0.43, "host", "moves under the compute"),
            Name("proj", 3 * GIB, 3 * GIB, 12, 0.002, 0.1, "recompute", "cheaper again"),
        ),
        keep=keep,
        recompute=recompute,
        candidates=tuple(sorted([chosen, keep, recompute, *others], key=lambda c: c.peak_bytes)),
        rates=Rates(host=54e9, disk=None, copy=2e12, flops=6e14),
        host_bytes=21 * GIB,
        disk_bytes=0,
        staging_bytes=2 * GIB,
        moves=True,
    )


def test_text(plan):
    assert (
        str(plan)
        == """\
name      bytes  compute again      move  place      reason
up    12.00 GiB       110.0 ms  430.0 ms  host       moves under the compute
proj   3.00 GiB        2.00 ms  100.0 ms  recompute  cheaper again

budget         40.00 GiB
plan           38.50 GiB  1012.0 ms  expected 39.00 GiB, 1009.0 ms
keep all       61.00 GiB  1000.0 ms  above the budget
recompute all  30.00 GiB  1290.0 ms
rates: host link 54.0 GB/s each way, device copies 2000.0 GB/s
host memory for what waits 21.00 GiB; staging on the device 2.00 GiB, \
within the peak: offload.configure(staging_bytes=2147483648)"""
    )


def test_what_a_drive_lasts(plan):
    assert plan.drive_days(1e15) == math.inf
    on_disk = dataclasses.replace(plan, disk_bytes=12 * GIB)
    days = 1.2e15 / (12 * GIB) * 1.012 / 86400  # a write of 12 GiB in every 1.012 s
    assert on_disk.drive_days(1.2e15) == pytest.approx(days)
    assert "on disk 12.00 GiB; staging" in str(on_disk)
    assert "a drive rated for 1 PB written lasts 0.909 days of such steps" in str(on_disk)


def test_figure(plan, tmp_path):
    figure = plan.figure()
    figure.savefig(tmp_path / "plan.png")
    (axes,) = figure.axes
    assert axes.get_xlabel() == "peak device memory (GiB)"
    assert axes.get_ylabel() == "step time (ms)"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["best at each size", "predicted", "measured", "budget 40.00 GiB", "plan"]
    frontier = axes.get_lines()[0].get_xydata()
    assert (38.5, 1012) in {tuple(point) for point in frontier.round(3).tolist()}
    filled = {c.get_label(): c for c in axes.collections}
    assert len(filled["measured"].get_offsets()) == 4
    assert len(filled["predicted"].get_offsets()) == 2
    assert len(filled["predicted"].get_facecolors()) == 0


def test_figure_of_a_real_plan(clock, tmp_path):
    clock(dear_to_recompute, FAST)
    plan = offload.plan(light, *make_light(), budget_bytes=1 << 30)
    plan.figure().savefig(tmp_path / "plan.png")
    assert (tmp_path / "plan.png").stat().st_size > 5000


def test_figure_without_matplotlib(plan, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'jaxdirect\[train\]'"):
        plan.figure()


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.50 KiB"), (1 << 20, "1.00 MiB"), (GIB, "1.00 GiB")],
)
def test_sizes(count, text):
    assert size(count) == text
