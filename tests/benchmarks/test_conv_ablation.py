"""The ablation of the explicit form at tiny sizes: its contenders, its tables, one whole run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jax
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from conv_peers import ablation, problem, report, run  # noqa: E402

from jaxdirect.conv._explicit import VARIANTS  # noqa: E402


@pytest.mark.parametrize("layer", ["conv1", "conv9"])
def test_every_variant_is_a_contender(monkeypatch: pytest.MonkeyPatch, layer: str) -> None:
    """As on a GPU; a CPU refuses the product's variants when they run."""
    monkeypatch.setattr(problem.Problem, "copies", lambda self, what: 2)
    (case,) = (c for c in ablation.cases(on_gpu=True) if c.layer == layer)
    ctx = run.Context("cuda", set(), set(), rounds=1, small=True)
    ctx.contenders, ctx.unchecked = ablation.contenders, (ablation.WINDOWS,)
    record = run.layer_case(ctx, case)
    found = record["contenders"]
    assert set(found) == {ablation.FULL, *VARIANTS[1:], report.OURS, report.XLA[0]}
    for name, figures in found.items():
        if name in VARIANTS[1:-1] and jax.default_backend() == "cpu":
            assert "on a GPU alone" in figures["error"]
        elif "skipped" not in figures:
            assert figures["seconds"] > 0
            assert ("accuracy" in figures) == (name != ablation.WINDOWS)
            assert not figures.get("accuracy") or report.worst_error(figures)[0] < 1e-5
    ablation.derive(record | {"params": case.params()}, is_small=True)
    assert found[ablation.FULL]["workspace_bytes"] > 0


def test_features_are_compared_by_the_product_alone() -> None:
    seconds = {"explicit": 3.0, "no product": 1.0, "base": 21.0, "without prefetch": 3.5}
    seconds |= {"jaxdirect": 1.5, "xla_nhwc": 6.0}
    (case,) = (c for c in ablation.cases(on_gpu=True) if c.layer == "conv9")
    record = {
        "params": case.params(),
        "flops": 2e12,
        "contenders": {
            name: {"seconds": value, "rounds": [value], "workspace_bytes": 7}
            for name, value in seconds.items()
        },
    }
    ablation.derive(record, is_small=False)
    assert record["ablation"]["slower"] == {"base": 10.0, "without prefetch": 1.25}
    assert record["ablation"]["peers"] == {"jaxdirect": 0.5, "xla_nhwc": 2.0}
    assert record["ablation"]["product_tflops"] == 1.0
    # 64 x 56 x 56, 3 x 3, 64 channels out, float32: the sizes of the papers.
    assert record["memory"]["im2win"] == 4 * 128 * 54 * 3 * 56 * 64
    assert record["memory"]["im2col"] == 4 * 128 * 54 * 54 * 9 * 64
    assert record["memory"]["xla"] == 7
    lines, means = ablation.tables({case.name: record})
    assert means["slower"]["base"] == pytest.approx(10)
    assert any("without prefetch 1.25x" in line for line in lines)


def test_a_run_from_end_to_end(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    command = [sys.executable, str(BENCHMARKS / "conv_ablation.py"), "--platform", "cpu"]
    command += ["--small", "--rounds", "1", "--only", "^conv9/", "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "geometric means of 1 layers" in done.stdout
    data = json.loads(output.read_text())
    (record,) = data["cases"].values()
    assert set(record["contenders"]) == {"explicit", "no product", "jaxdirect", "xla_nhwc"}
    assert record["memory"]["explicit"] >= record["memory"]["im2win"]
    assert data["means"]["peers"]["xla_nhwc"] > 0
