"""`jaxdirect train` on a tiny graph: it learns, continues bit for bit, and loses nothing."""

from __future__ import annotations

import json
import shutil

import jax
import numpy as np
import pytest

from jaxdirect.cli import main

EPOCHS = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three classes, neighbours of the same class, weak features."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 3
    src = rng.integers(0, 240, 1200)
    dst = (src + 3 * rng.integers(1, 80, 1200)) % 240
    features = rng.normal(size=(240, 8)).astype(np.float32)
    features[np.arange(240), labels] += 1.5
    np.save(folder / "edges.npy", np.stack([src, dst]))
    np.save(folder / "labels.npy", labels)
    np.save(folder / "features.npy", features)
    return folder


def command(data, output, *more):
    files = [f"--{name}={data / name}.npy" for name in ("edges", "features", "labels")]
    sizes = ["--hidden=16", "--batch-size=32", "--fanout=4,3", "--eval-fanout=6,6"]
    return ["train", *files, *sizes, f"--epochs={EPOCHS}", f"--output={output}", *more]


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert main(command(data, folder)) == 0
    return folder


@pytest.fixture
def copy(run, tmp_path):
    """A run that a test may damage."""
    return shutil.copytree(run, tmp_path / "copy")


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def curve(folder):
    keys = ("epoch", "loss", "train_accuracy", "valid_accuracy", "rows")
    return [[epoch[key] for key in keys] for epoch in metrics(folder)["history"]]


def test_learns_and_reports(run):
    found = metrics(run)
    losses = [epoch["loss"] for epoch in found["history"]]
    assert losses[-1] < losses[0]
    assert found["test_accuracy"] > found["floors"]["majority"] + 0.2
    assert set(found["floors"]) == {"majority", "features alone", "label vote of neighbours"}
    assert found["nodes_per_second"] > 0
    assert found["gathered_gb_per_second"] > 0
    # Seeds alone are one row each; 4 and 3 neighbours make at most 17.
    assert all(e["nodes"] < e["rows"] <= 17 * e["nodes"] for e in found["history"])
    assert (run / "training.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["2", "3"]


def test_a_cache_changes_no_number(data, run, tmp_path):
    assert main(command(data, tmp_path / "cached", "--cache", "0.3")) == 0
    assert curve(tmp_path / "cached") == curve(run)
    assert checksums(tmp_path / "cached") == checksums(run)


def test_resume_is_bit_for_bit(data, run, tmp_path, interrupt_at, capsys):
    with interrupt_at(2):
        assert main(command(data, tmp_path / "part")) == 130
    assert "interrupted; continue with the same flags and --resume" in capsys.readouterr().err
    assert main(command(data, tmp_path / "part", "--resume")) == 0
    assert curve(tmp_path / "part") == curve(run)
    assert metrics(tmp_path / "part")["test_accuracy"] == metrics(run)["test_accuracy"]
    assert checksums(tmp_path / "part") == checksums(run)


def checksums(folder):
    record = folder / "checkpoints" / str(EPOCHS - 1) / "record" / "metadata"
    return json.loads(record.read_text())["checksums"]


def refused(capsys, arguments):
    assert main(arguments) == 2
    return capsys.readouterr().err


def test_a_finished_run_is_not_overwritten(data, run, capsys):
    before = (run / "metrics.json").read_bytes()
    message = refused(capsys, command(data, run))
    assert "holds a run already; add --resume to continue it" in message
    assert (run / "metrics.json").read_bytes() == before


def test_resume_with_other_settings_or_data(data, run, tmp_path, capsys):
    message = refused(capsys, command(data, run, "--resume", "--hidden=8"))
    assert "hidden is 8, was 16" in message
    other = shutil.copytree(data, tmp_path / "other")
    labels = np.load(other / "labels.npy")
    labels[0] += 1
    np.save(other / "labels.npy", labels)
    assert "data is" in refused(capsys, command(other, run, "--resume"))


def test_corrupt_checkpoint(data, copy, capsys):
    newest = copy / "checkpoints" / str(EPOCHS - 1)
    for path in (newest / "state").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 0xFF
            path.write_bytes(content)
    message = refused(capsys, command(data, copy, "--resume"))
    assert f"cannot read checkpoint {newest}" in message
    assert "delete that folder to continue from the one before" in message
    # The remedy works.
    shutil.rmtree(newest)
    assert main(command(data, copy, "--resume")) == 0


def test_truncated_record(data, copy, capsys):
    record = copy / "checkpoints" / str(EPOCHS - 1) / "record" / "metadata"
    record.write_text(record.read_text()[:50])
    assert "cannot read checkpoint" in refused(capsys, command(data, copy, "--resume"))


def test_wrong_values_are_noticed(data, copy, capsys):
    """Arrays that read well but are not what was written."""
    record = copy / "checkpoints" / str(EPOCHS - 1) / "record" / "metadata"
    content = json.loads(record.read_text())
    name = next(iter(content["checksums"]))
    content["checksums"][name] ^= 1
    record.write_text(json.dumps(content))
    message = refused(capsys, command(data, copy, "--resume"))
    assert "an array differs from what was written" in message


def test_no_checkpoint(data, copy, capsys):
    for path in (copy / "checkpoints").iterdir():
        shutil.rmtree(path)
    assert "--resume found no checkpoint" in refused(capsys, command(data, copy, "--resume"))


def test_bad_data_files(data, tmp_path, capsys):
    other = shutil.copytree(data, tmp_path / "other")
    content = (other / "features.npy").read_bytes()
    (other / "features.npy").write_bytes(content[: len(content) // 2])
    message = refused(capsys, command(other, tmp_path / "out"))
    assert "features.npy: truncated" in message
    np.save(other / "labels.npy", np.full(240, -1))
    shutil.copy(data / "features.npy", other / "features.npy")
    assert "label" in refused(capsys, command(other, tmp_path / "out"))


def test_gpu_asked_for_but_missing(data, tmp_path, capsys, monkeypatch):
    def no_gpu(backend=None):
        raise RuntimeError(f"Unknown backend {backend}")

    platforms = jax.config.jax_platforms
    monkeypatch.setattr(jax, "local_devices", no_gpu)
    try:
        message = refused(capsys, command(data, tmp_path / "out", "--device=gpu"))
    finally:
        jax.config.update("jax_platforms", platforms)
    assert "--device gpu: " in message
    assert not (tmp_path / "out").exists()
