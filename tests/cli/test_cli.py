"""The command line: what it prints, and a sentence for every mistake."""

from __future__ import annotations

import subprocess
import sys

import pytest

from jaxdirect.cli import main, train


@pytest.mark.parametrize("module", ["jaxdirect", "jaxdirect.cli"])
def test_runs_as_a_module(module):
    command = [sys.executable, "-m", module, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert "info" in done.stdout
    assert "train" in done.stdout


def test_starts_without_the_extra():
    """What `info` and `--help` need must not include Flax and its friends."""
    code = (
        "import sys, jaxdirect.cli; "
        "bad = {'flax', 'optax', 'orbax', 'rich', 'matplotlib'} & set(sys.modules); "
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_info(capsys):
    assert main(["info", "--no-measure"]) == 0
    out = capsys.readouterr().out
    assert "cpu targets:" in out
    assert "jaxdirect_hostmem_gather" in out


def test_help_lists_the_flags(capsys):
    assert main(["train", "--help"]) == 0
    out = capsys.readouterr().out
    flags = (
        "feature-dim fanout epochs batch-size hidden seed output resume cache edges features "
        "labels data sampled layers heads validate-every node-types packages"
    )
    assert [flag for flag in flags.split() if f"--{flag} " not in out] == []


OWN = ["--edges", "e.npy", "--features", "f.npy", "--labels", "l.npy"]
MISTAKES = [
    (["--epochs", "0"], "--epochs must be at least 1, got 0"),
    (["--batch-size", "-3"], "--batch-size must be at least 1, got -3"),
    (["--hidden", "0"], "--hidden must be at least 1, got 0"),
    (["--feature-dim", "0"], "--feature-dim must be at least 1, got 0"),
    (["--seed", "-1"], "--seed must be in [0, 2^31), got -1"),
    (["--learning-rate", "0"], "--learning-rate must be above 0, got 0.0"),
    (["--learning-rate", "nan"], "--learning-rate must be above 0, got nan"),
    (["--dropout", "1"], "--dropout must be in [0, 1), got 1.0"),
    (["--cache", "1.5"], "--cache must be in [0, 1], a share, got 1.5"),
    (["--validate-every", "0"], "--validate-every must be at least 1, got 0"),
    (["--model", "hgt", "--heads", "3"], "--hidden must be a multiple of --heads, got 64 and 3"),
    (["--model", "rgcn", "--cache", "0.5"], "--cache goes with sampled batches"),
    (["--packages", "Packages"], "--packages goes with --data debian, got --data wordnet"),
    (["--node-types", "t.npy"], "--node-types goes with --edges and --model rgcn, rgat or hgt"),
    (["--data", "debian", *OWN], "--data debian and --edges are two graphs; leave one out"),
    (["--fanout", "10,"], "--fanout must be positive integers parted by commas"),
    (["--fanout", "0,5"], "got '0,5'"),
    (["--fanout", "5"], "--eval-fanout must have as many hops as --fanout, got 2 and 1"),
    (["--edges", "e.npy"], "got no --features and no --labels"),
    (["--resume"], "--resume needs --output"),
    (["--resume", "--output", "nowhere"], "--resume found no checkpoint in nowhere"),
    (["--epochs", "many"], "invalid int value: 'many'"),
    (["--model", "transformer"], "invalid choice: 'transformer'"),
    (["--device", "tpu"], "invalid choice: 'tpu'"),
]


@pytest.mark.parametrize(("flags", "message"), MISTAKES, ids=lambda value: str(value)[:40])
def test_bad_flags(flags, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *flags]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_output_is_a_file(capsys, tmp_path):
    path = tmp_path / "taken"
    path.write_text("mine")
    assert main(["train", "--output", str(path)]) == 2
    assert "--output must be a folder, got the file" in capsys.readouterr().err
    assert path.read_text() == "mine"


def test_missing_extra(capsys, monkeypatch):
    monkeypatch.setattr(train, "_is_installed", lambda name: name != "optax")
    assert main(["train"]) == 2
    message = "jaxdirect train: training needs optax; pip install 'jaxdirect[train]'\n"
    assert capsys.readouterr().err == message
