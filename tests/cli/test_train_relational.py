"""`jaxdirect train --model rgcn|rgat|hgt` on a graph whose classes only the relations tell."""

from __future__ import annotations

import json

import numpy as np
import pytest

from jaxdirect.cli import main
from jaxdirect.cli.train import job
from jaxdirect.cli.train.dataset import fingerprint, load
from jaxdirect.cli.train.options import Options
from jaxdirect.data import Graph, RelationalGraph

MODELS = ("rgcn", "rgat", "hgt")
NODES, EPOCHS = 600, 40


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Even nodes show one of four classes in their features. An odd node, whose class is asked for,
    hears from two of each class: from those of its own by relation 0, from the others by 1."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, NODES)
    shown, asked = np.arange(0, NODES, 2), np.arange(1, NODES, 2)
    features = np.zeros((NODES, 8), np.float32)
    features[shown] = rng.normal(size=(shown.size, 8)) * 0.1
    features[shown, labels[shown]] += 1
    features[asked, 7] = 1
    kin = [shown[labels[shown] == label] for label in range(4)]
    src = np.concatenate([rng.choice(kin[label], (asked.size, 2)) for label in range(4)])
    dst = np.repeat(np.tile(asked, 4), 2)
    src, etype = src.reshape(-1), (labels[src.reshape(-1)] != labels[dst]).astype(int)
    np.savez(folder / "edges.npz", src=src, dst=dst, etype=etype)
    np.save(folder / "node_types.npy", np.arange(NODES) % 2)
    np.save(folder / "features.npy", features)
    np.save(folder / "labels.npy", np.where(np.arange(NODES) % 2 == 1, labels, -1))
    return folder


def command(data, output, model, *more):
    files = [f"--edges={data / 'edges.npz'}"]
    files += [f"--{name}={data / name}.npy" for name in ("features", "labels")]
    if model == "hgt":
        files.append(f"--node-types={data / 'node_types.npy'}")
    hops = ["--layers=1", "--fanout=6", "--eval-fanout=6"]  # the class takes one hop to tell
    sizes = ["--hidden=16", "--heads=2", "--batch-size=32", *hops]
    return ["train", f"--model={model}", *files, *sizes, f"--output={output}", *more]


@pytest.fixture
def no_floors(monkeypatch):
    """They take longer than the training."""
    monkeypatch.setattr(job, "measure_floors", lambda *_: {})


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize(
    ("model", "sampled"), [*((model, False) for model in MODELS), ("hgt", True)]
)
def test_relations_tell_what_graphsage_cannot(model, sampled, data, tmp_path):
    more = ["--sampled", "--epochs=20"] if sampled else [f"--epochs={EPOCHS}"]
    assert main(command(data, tmp_path / "run", model, *more)) == 0
    found = metrics(tmp_path / "run")
    assert found["test_accuracy"] > 0.9
    assert found["test_accuracy"] > found["floors"]["GraphSAGE, relations ignored"] + 0.2
    assert set(found["floors"]) == {
        "majority",
        "features alone",
        "label vote of neighbours",
        "naive Bayes on relations and labels of neighbours",
        "naive Bayes on relations and neighbours",
        "GraphSAGE, relations ignored",
    }
    every = 1 if sampled else 10
    assert [epoch["epoch"] + 1 for epoch in found["history"]] == list(
        range(every, found["settings"]["epochs"] + 1, every)
    )
    assert found["history"][-1]["loss"] < found["history"][0]["loss"]


@pytest.mark.parametrize("sampled", [False, True], ids=["whole", "sampled"])
@pytest.mark.usefixtures("no_floors")
def test_resume_is_bit_for_bit(sampled, data, tmp_path, interrupt_at, capsys):
    more = ["--epochs=5", "--validate-every=2", *(["--sampled"] if sampled else [])]
    assert main(command(data, tmp_path / "whole", "rgat", *more)) == 0
    with interrupt_at(4):
        assert main(command(data, tmp_path / "part", "rgat", *more)) == 130
    assert "interrupted; continue with" in capsys.readouterr().err
    assert main(command(data, tmp_path / "part", "rgat", *more, "--resume")) == 0
    for run in ("whole", "part"):
        assert [epoch["epoch"] for epoch in metrics(tmp_path / run)["history"]] == [1, 3, 4]
    whole, part = (metrics(tmp_path / run) for run in ("whole", "part"))
    assert whole["test_accuracy"] == part["test_accuracy"]
    assert [e["loss"] for e in whole["history"]] == [e["loss"] for e in part["history"]]
    record = "checkpoints/4/record/metadata"
    checksums = [
        json.loads((tmp_path / run / record).read_text())["checksums"] for run in ("whole", "part")
    ]
    assert checksums[0] == checksums[1]


def test_other_node_types_are_other_data():
    def found(*ntype):
        graph = RelationalGraph([0], [1], [0], num_nodes=2, ntype=ntype or None)
        return fingerprint(graph, np.zeros((2, 1), np.float32))["data"]

    assert len({found(), found(0, 1), found(1, 0)}) == 3


@pytest.mark.usefixtures("no_floors")
def test_a_cache_changes_no_number(data, tmp_path):
    for run, more in (("plain", []), ("cached", ["--cache=0.3"])):
        sampled = ["--sampled", "--epochs=1", *more]
        assert main(command(data, tmp_path / run, "rgcn", *sampled)) == 0
    losses = [metrics(tmp_path / run)["history"][0]["loss"] for run in ("plain", "cached")]
    assert losses[0] == losses[1]


@pytest.mark.usefixtures("no_floors")
def test_debian(tmp_path):
    """Packages whose section follows the field by which they point to a hub."""
    fields = {"editors": "Depends", "games": "Enhances"}
    lines = []
    for number in range(200):
        section = sorted(fields)[number % 2]
        lines += [
            f"Package: p{number}",
            f"Section: {section}",
            f"{fields[section]}: hub{number % 3}",
            "Description: a thing",
            "",
        ]
    (tmp_path / "Packages").write_text("\n".join(lines))
    more = ["--data=debian", f"--packages={tmp_path / 'Packages'}", "--epochs=10"]
    small = ["--hidden=8", "--feature-dim=16", f"--output={tmp_path / 'run'}"]
    assert main(["train", "--model=rgcn", *more, *small]) == 0
    assert metrics(tmp_path / "run")["test_accuracy"] == 1
    # GraphSAGE gets the same graph without relations.
    options = Options(data="debian", packages=tmp_path / "Packages", feature_dim=16)
    graph, features = load(options)
    assert isinstance(graph, Graph)
    assert features.shape == (graph.num_nodes, 16)


def test_bad_node_types(data, tmp_path, capsys):
    np.save(tmp_path / "types.npy", np.zeros(5, int))
    wrong = [f"--node-types={tmp_path / 'types.npy'}"]
    assert main(command(data, tmp_path / "run", "rgcn", *wrong)) == 2
    assert "ntype must have one entry per node (600), got 5" in capsys.readouterr().err
