"""The offload benchmark at tiny sizes: a whole run, all kinds of cases."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from harness.programs import Program  # noqa: E402
from offload_peers import batch, cases, model, peers_torch, plain_io, run  # noqa: E402

MOVED = {"host up", "host up+qkv", "host up+qkv 4x"}
WITHOUT = (
    "jax all,jax up,host input,host all,host up+proj,host all 4x,planned 30,planned 50,planned 70"
)
# The programs are many and small: to compile them is all that takes time.
XLA_FLAGS = "--xla_backend_optimization_level=0"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, str]:
    """The records of all kinds of cases, and what was printed."""
    file = tmp_path_factory.mktemp("offload") / "offload.json"
    command = [sys.executable, str(BENCHMARKS / "offload.py"), "--platform", "cpu", "--small"]
    command += ["--rounds", "4", "--only", "^gpt4096/|^torch|/batch$|/rate$"]
    command += ["--without", WITHOUT, "--output", str(file)]
    environment = os.environ | {"XLA_FLAGS": XLA_FLAGS}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(file.read_text())["cases"], done.stdout


def test_policies(whole: tuple[dict, str]) -> None:
    record, printed = whole[0]["gpt4096/policies"], whole[1]
    found = record["contenders"]
    assert set(found) == {"keep", "recompute", "jax up+qkv", *MOVED}
    assert all(len(figures["rounds"]) == 4 for figures in found.values())
    assert found["host up"]["moved_bytes"] == record["value_bytes"]["up"]
    assert all(found[who]["same_bits"] for who in MOVED)
    assert record["link_bytes_per_s"] > 0
    assert 0.2 < record["forward_share"] < 0.5
    assert all(found[who]["bound_over_keep"] >= 1 for who in MOVED)
    assert printed.count(", same bits") == len(MOVED)
    assert printed.count(", bound ") == len(MOVED)


def test_a_larger_staging_is_of_its_contender_alone(whole: tuple[dict, str]) -> None:
    found = whole[0]["gpt4096/policies"]["contenders"]
    assert all(0 < found[who]["staging_bytes"] <= 2 * 8192 for who in MOVED - {"host up+qkv 4x"})
    assert found["host up+qkv 4x"]["staging_bytes"] == 4 * 2 * 8192
    assert found["host up+qkv 4x"]["peak_bytes"] == found["host up+qkv"]["peak_bytes"]


def test_every_timing_has_the_staging_of_its_contender(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    seen: dict[str, set[int]] = {"one": set(), "other": set()}
    monkeypatch.setattr(run.offload, "configure", lambda staging_bytes: sizes.append(staging_bytes))

    def rounds(contenders: list, count: int, *, before: Callable, **_: float) -> dict:
        for contender in [*contenders, *reversed(contenders)] * count:
            before(contender)
            seen[contender.name].add(sizes[-1])
        return {contender.name: [1.0] for contender in contenders}

    monkeypatch.setattr("harness.programs.rounds", rounds)
    options = argparse.Namespace(rounds=2, small=True)
    programs = [Program(name, lambda x: x + 1, [(1.0,)]) for name in seen]
    run.compile_each(programs)
    run.time_steps(run.Context("cpu", set(), set(), options), programs, {"other": 4096})
    assert seen == {"one": {0}, "other": {4096}}
    assert sizes[-1] == 0


def test_budgets(whole: tuple[dict, str]) -> None:
    found = whole[0]["gpt4096/budgets"]["contenders"]
    assert set(found) == {"keep", "recompute", "planned 53", "jax up+qkv"}
    planned, keep, least = (found[who] for who in ("planned 53", "keep", "recompute"))
    span = keep["peak_bytes"] - least["peak_bytes"]
    assert planned["budget_bytes"] == round(least["peak_bytes"] + 0.53 * span)
    assert planned["planning_s"] > 0
    assert set(planned["policy"]) == set(model.NAMES)
    assert set(planned["policy"].values()) <= {"keep", "host", "recompute"}
    assert planned["peak_bytes"] + planned["staging_bytes"] <= planned["budget_bytes"]


def test_batches(whole: tuple[dict, str]) -> None:
    record = whole[0]["wide8192/batch"]
    found = record["contenders"]
    assert set(found) == {"keep", "host up+qkv x1", "host up+qkv x2"}
    keep = found["keep"]
    assert record["activation_budget_bytes"] == keep["peak_bytes"] - keep["recompute_peak_bytes"]
    ours = found["host up+qkv x1"]
    above = ours["peak_bytes"] - ours["recompute_peak_bytes"]
    assert ours["activation_bytes"] == above + ours["staging_bytes"]
    for figures in found.values():
        fits = figures["activation_bytes"] <= record["activation_budget_bytes"]
        assert ("tokens_per_s" in figures, "skipped" in figures) == (fits, not fits)


def test_the_disk_and_what_it_does_alone(whole: tuple[dict, str]) -> None:
    record = whole[0]["disk/rate"]
    assert len(record["ours"]) == len(record["plain"]) == 4
    for ours, plain in zip(record["ours"], record["plain"], strict=True):
        assert ours["written"] == record["layers"] * record["value_bytes"]
        assert 0 <= ours["read"] <= ours["written"]
        assert (plain["written"], plain["read"]) == (ours["written"], ours["read"])
    assert record["ratio"] > 0


def test_pytorch_is_measured_or_said_to_be_missing(whole: tuple[dict, str]) -> None:
    records, printed = whole
    why = peers_torch.missing()
    if why is not None:
        assert f"note: {why}" in printed
        return
    found = records["torch/gpt4096"]
    assert found["ratio"] > 0
    assert set(found["contenders"]) == {"all saved", "save_on_cpu"}


def test_plain_writes_are_read_back(tmp_path: Path) -> None:
    size = 8192
    with plain_io.File(str(tmp_path), 3 * size, size, 2) as file:
        before = [bytes(buffer) for buffer in file._buffers]
        file.write(3 * size)
        for buffer in file._buffers:
            buffer[:] = bytes(size)
        file.read(2 * size)
        assert [bytes(buffer) for buffer in file._buffers] == before
    assert not list(tmp_path.iterdir())


def test_batches_reach_their_multiples() -> None:
    assert batch.batches(model.MODELS["wide8192"], small=False) == [16, 24, 29, 32, 36]


def test_names_are_those_of_the_cases() -> None:
    names = [case.name for case in cases.all_cases()]
    assert len(set(names)) == len(names)
    assert names[0] == "gpt4096/policies"
