"""The benchmarks' runner: budgets, files that are gone on with, cases that never end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from harness import worker  # noqa: E402

# Cases are named for what they do; a torch case is measured by another process.
SCRIPT = """
import argparse, dataclasses, os, signal, sys, time
from harness import command, watch

def main():
    options = command.parse(command.parser("Sleeps.", "again", "goals"), None)
    command.environment(options)
    return watch.watched(run, options)

def run(options, begins):
    from harness import runner

    @dataclasses.dataclass
    class Case:
        name: str
        kind: str = "layer"
        tier: int = 0
        seconds: float = 1.0
        params = dataclasses.asdict

    class Sleeper(runner.Benchmark):
        name, peer = "sleeper", "torch"

        def cases(self):
            given = [Case("torch/quick", "torch"), Case("hang"), Case("quick"), Case("die")]
            return [*given, Case("raise"), Case("large", tier=1, seconds=1e6), Case("rest", tier=2)]

        def introduction(self):
            return "sleeps"

        def measure(self, case):
            if case.name == "hang":
                time.sleep(600)
            if case.name == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if case.name == "raise" or self.options.platform == "auto":
                raise ValueError("as asked")
            return {"contenders": {w: {"at": time.time()} for w in ("a", "b") if self.takes(w)}}

        def takes(self, who):
            return who not in self.without and (not self.again or who in self.again)

        def measure_peer(self, cases, limit_s):
            yield "NOTE", f"{len(cases)} in {limit_s:g} s"
            for case in cases:
                yield case.name, {"contenders": {}}

        def line(self, name, record, peer):
            return f"{name} {sorted(record['contenders'])} {'with' if peer else 'without'} peer"

    return runner.run(Sleeper, options, begins)

sys.exit(main())
"""


def run(*arguments: str, platform: str = "cpu") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, "--platform", platform, *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=BENCHMARKS,
    )


def test_cases_that_do_not_end_are_given_up(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    done = run("--limit", "2", "--budget", "100", "--output", str(output))
    assert done.returncode == 1, done.stderr
    data = json.loads(output.read_text())
    errors = {name: record.get("error") for name, record in data["cases"].items()}
    assert errors == {
        "torch/quick": None,
        "hang": "took more than 2 s",
        "quick": None,
        "die": "its process died",
        "raise": "ValueError: as asked",
    }
    assert len(data["runs"]) == 3
    assert data["runs"][0]["notes"] == ["1 in 0 s"]  # the peer's share of the budget
    assert "quick ['a', 'b'] with peer" in done.stdout
    assert "budget of 100 s spent; 1 cases left" in done.stdout


def test_a_file_is_gone_on_with(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    first = run("--only", "^(quick|rest)$", "--output", str(output))
    assert first.returncode == 0, first.stderr
    before = json.loads(output.read_text())["cases"]
    assert set(before) == {"quick", "rest"}
    assert (
        "quick                                      done"
        in run("--list", "--resume", str(output)).stdout.splitlines()
    )
    again = run("--resume", str(output), "--again", "b", "--only", "quick|raise")
    assert again.returncode == 0, again.stderr
    after = json.loads(output.read_text())["cases"]
    assert after["rest"] == before["rest"]
    assert after["quick"]["contenders"]["a"] == before["quick"]["contenders"]["a"]
    assert after["quick"]["contenders"]["b"] != before["quick"]["contenders"]["b"]
    assert after["quick"]["runs_of_others"] == {"a": 0}
    failed = run("--resume", str(output), "--again", "b", "--only", "quick", platform="auto")
    assert failed.returncode == 1
    assert "quick                              FAILED ValueError: as asked" in failed.stdout
    assert json.loads(output.read_text())["cases"] == after  # a failure takes no figures away


def test_options_that_need_a_file() -> None:
    for arguments in (("--goals",), ("--again", "a"), ("--output", "a", "--resume", "b")):
        done = run(*arguments)
        assert done.returncode == 2
        assert "--resume" in done.stderr


def test_a_peers_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("class cuda: is_available = staticmethod(lambda: False)\n")
    (tmp_path / "fake_peer.py").write_text(
        "import os\n"
        "from harness import worker\n"
        "def measure(job, case):\n"
        "    return os._exit(3) if case['size'] == 2 else {'contenders': case['size']}\n"
        "worker.serve('Fake', lambda: os.environ.get('WHY'), measure)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    cases = [{"name": f"torch/{size}", "size": size} for size in range(4)]

    def found(**job: object) -> list:
        given = {"device": "cpu", "deadline_s": 50, "cases": cases} | job
        return list(worker.records(sys.executable, "fake_peer", given, "Fake"))

    (first, record), (second, _), note = found()
    assert (first, second) == ("torch/0", "torch/1")
    assert record.pop("wall_s") >= 0
    assert record == {"contenders": 0, "params": {"size": 0, "platform": "cpu"}}
    assert note == ("NOTE", "Fake's process ended with code 3")
    spent = "Fake's part of the budget is spent; --resume goes on"
    assert found(deadline_s=-1) == [("NOTE", spent)]
    assert found(device="cuda") == [("NOTE", "this PyTorch has no CUDA device")]
    monkeypatch.setenv("WHY", "no Fake")
    assert found() == [("NOTE", "no Fake")]
