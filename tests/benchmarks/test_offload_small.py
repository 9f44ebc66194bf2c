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
    command += ["--rounds", "4", "--only", "^gpt4096/up,qkv/keep$", "--output", str(file)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    (record,) = json.loads(file.read_text())["cases"].values()
    assert record["same_bits"] is True
    assert set(record["contenders"]) == {
        *("keep", "same_names", "jaxdirect", "recompute", "jax_offload")
    }
    assert all(len(found["rounds"]) == 4 for found in record["contenders"].values())
    assert record["staging_bytes"] > 0
    assert "same bits" in run.stdout


def test_activation_memory_counts_the_staging() -> None:
    peaks = {"keep": 300, "recompute": 100, "jaxdirect": 140}
    record = {
        "staging_bytes": 20,
        "contenders": {
            name: {"peak_bytes": size, "rounds": [2.0, 2.0]} for name, size in peaks.items()
        },
    }
    assert report.activations(record, "jaxdirect") == pytest.approx(0.3)
    assert report.activations(record, "keep") == 1
    record["contenders"]["jaxdirect"]["rounds"] = [2.04, 2.06]
    assert report.over(record, "jaxdirect") == pytest.approx(1.025)
    (up, *_, bits) = goals.evaluate({"gpt4096/up/keep": record | {"same_bits": False}})
    assert up.verdict(up.values["gpt4096"]) == "ok"
    assert bits.verdict(bits.values["gpt4096/up/keep"]) == "MISSED"


def test_names_are_those_of_the_cases() -> None:
    names = [case.name for case in cases.all_cases()]
    assert len(set(names)) == len(names)
    assert names[0] == "gpt4096/up/keep"
