"""The host-table benchmark at tiny sizes: its peers are right, its files resume, its sums hold."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from harness import timing  # noqa: E402
from harness.results import judge  # noqa: E402
from hostmem_peers import graphs, loader, native, report, rivals, sage  # noqa: E402
from hostmem_peers.context import Context  # noqa: E402

needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="needs a C++ compiler"
)


def run_benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "hostmem.py"), "--platform", "cpu", "--small"]
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def context() -> Context:
    return Context("cpu", small=True, threads=2)


@pytest.fixture(scope="module")
def graph(context: Context) -> graphs.HostGraph:
    return graphs.power_law(context, 2_000, 20.0)


@needs_compiler
def test_selected_cases_run_and_resume(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    only = "^(uniform/16GiB/128|odd/400|unaligned/512|sampler/1000|batch/powerlaw/400/1000|cpu/.*/512/1000)$"  # noqa: E501
    first = run_benchmark("--only", only, "--output", str(output))
    assert first.returncode == 0, first.stdout + first.stderr
    data = json.loads(output.read_text())
    assert set(data["cases"]) == {
        "uniform/16GiB/128",
        "odd/400",
        "unaligned/512",
        "sampler/1000",
        "batch/powerlaw/400/1000",
        "cpu/gather/512/1000",
    }
    uniform = data["cases"]["uniform/16GiB/128"]
    nbytes = uniform["params"]["ids"] * 128
    assert uniform["gb_per_s"]["auto"] == pytest.approx(nbytes / uniform["time_s"] / 1e9)
    assert {"given", "sorted", "cpp", "cpu_best", "numpy"} <= uniform["ratio"].keys()
    assert data["cases"]["sampler/1000"]["edges_per_s"]["jaxdirect"] > 0
    assert data["runs"][0]["link_bytes_per_s"]["sequential"] > 0
    assert data["runs"][0]["packages"]["jax"]

    second = run_benchmark("--only", only + "|^odd/1172$", "--resume", str(output))
    assert second.returncode == 0, second.stdout + second.stderr
    resumed = json.loads(output.read_text())
    assert resumed["cases"]["odd/1172"]["run"] == 1
    assert resumed["cases"]["odd/400"] == data["cases"]["odd/400"]


@needs_compiler
def test_epoch_case_compares_all_loops(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    done = run_benchmark("--only", "^epoch/", "--output", str(output))
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads(output.read_text())["cases"]["epoch/sage"]
    direct = {"jaxdirect", "graph_on_gpu", "hot_on_gpu"}
    assert set(record["seconds"]) == direct | {"cpu", "cpu_distinct"}
    assert set(record["split_s_per_step"]["jaxdirect"]) == {"sample", "gather", "compute"}
    best = min(("cpu", "cpu_distinct"), key=record["seconds"].get)
    assert record["ratio"]["cpu_best"] == record["ratio"][best]


def test_a_budget_that_is_spent_stops_before_the_first_case(tmp_path: Path) -> None:
    done = run_benchmark("--only", "^uniform/", "--budget", "1", "--output", str(tmp_path / "f"))
    assert done.returncode == 0
    assert "budget of 1 s spent" in done.stdout
    assert json.loads((tmp_path / "f").read_text())["cases"] == {}


def test_list_names_every_part() -> None:
    done = run_benchmark("--list", "--only", ".")
    parts = {line.split("/")[0] for line in done.stdout.split()}
    assert parts == {
        "uniform",
        "odd",
        "unaligned",
        "contention",
        "batch",
        "sampler",
        "epoch",
        "cpu",
    }


def test_ratio_is_the_median_over_rounds_of_peer_over_ours() -> None:
    assert timing.paired_ratio([2.0, None, 9.0, 4.0], [1.0, 5.0, 3.0, 1.0]) == 3.0
    assert timing.median([3.0, None, 1.0, 2.0]) == 2.0


def test_rounds_interleave_and_respect_every() -> None:
    order: list[str] = []
    contenders = [
        timing.Contender("a", lambda i: order.append(f"a{i}"), calls=2),
        timing.Contender("b", lambda i: order.append(f"b{i}"), every=2),
    ]
    seconds = timing.rounds(contenders, 3)
    assert order == ["a0", "b0", "a1", "b1", "a2", "a3", "b3"]
    assert [v is None for v in seconds["b"]] == [False, True, False]


def test_goals_missed_are_said() -> None:
    record = {"time_s": 1.0, "share": 0.9, "ratio": {"given": 1.2}}
    record["goals"] = judge(record, [("share", 0.95), ("ratio.given", 1.0), ("ratio.x", 1)])
    assert [g["met"] for g in record["goals"]] == [False, True]
    assert "MISSED share 0.9 < 0.95" in report.line("case", record)


@needs_compiler
@pytest.mark.parametrize("row_bytes", [64, 400, 1024])
@pytest.mark.parametrize("streaming", [False, True])
def test_cpu_gather_is_numpy_take(row_bytes: int, streaming: bool) -> None:
    rng = np.random.default_rng(0)
    table = rng.random((1_000, row_bytes // 4), np.float32)
    ids = rng.integers(-5, 1_005, 5_000)
    out = np.full((ids.size, row_bytes // 4), np.nan, np.float32)
    native.gather(out.ctypes.data, table, ids, streaming=streaming, threads=3)
    inside = (ids >= 0) & (ids < 1_000)
    np.testing.assert_array_equal(out, np.where(inside[:, None], table[ids % 1_000], 0))


@needs_compiler
def test_staged_gather_fills_every_chunk(context: Context) -> None:
    rng = np.random.default_rng(1)
    work = rivals.Work(rng.random((300, 32), np.float32), rng.integers(0, 300, (2, 777), np.int32))
    staging = rivals.Staging(context, work.call_bytes, chunk_bytes=128 * 100)
    for contender in rivals.threaded(context, work, staging):
        contender.run(1)
        np.testing.assert_array_equal(staging.rows(128), work.table[work.ids[1]])


@needs_compiler
def test_cpu_sampler_draws_distinct_edges_uniformly(graph: graphs.HostGraph) -> None:
    seeds = np.concatenate([np.arange(graph.nodes), [-1]]).astype(np.int32)
    degree = np.append(np.diff(graph.indptr), 0)
    position = np.arange(graph.indices.size, dtype=np.int32)  # edges named by their position
    drawn, count = native.sample(graph.indptr, position, seeds, 10, seed=3, threads=2)
    assert count == np.minimum(degree, 10).sum() == (drawn >= 0).sum()
    for row, seed in zip(drawn, seeds, strict=True):
        chosen = row[row >= 0]
        assert np.unique(chosen).size == chosen.size
        if seed >= 0:
            assert (chosen >= graph.indptr[seed]).all()
            assert (chosen < graph.indptr[seed + 1]).all()
    hub = int(np.argmax(degree))
    many, _ = native.sample(
        graph.indptr, position, np.full(20_000, hub, np.int32), 10, seed=5, threads=2
    )
    hits = np.bincount(many.reshape(-1) - graph.indptr[hub], minlength=degree[hub])
    expected = many.size / degree[hub]
    assert abs(hits - expected).max() < 6 * expected**0.5


@needs_compiler
@pytest.mark.parametrize("distinct", [False, True])
def test_loader_batches_hold_the_rows_of_their_ids(
    context: Context, graph: graphs.HostGraph, distinct: bool
) -> None:
    model = sage.Model(batch=16, fanouts=(3, 4), features=8)
    table = np.random.default_rng(2).random((graph.nodes, 8), np.float32)
    made = loader.Loader(context, graph, table, model, distinct)
    times = np.zeros(2)
    count = made._make(0, graph.seeds(1, 16, seed=1)[0], 9, times)
    ids, inverse = made._ids[0]
    rows = made._rows[0][:count]
    valid = ids >= 0
    if distinct:
        assert count == np.unique(ids[valid]).size
        rows = rows[inverse]
    np.testing.assert_array_equal(rows[valid], table[ids[valid]])
    assert (times > 0).all()


def test_power_law_has_the_degrees_it_says(graph: graphs.HostGraph) -> None:
    degree = np.diff(graph.indptr)
    assert degree.min() >= 3
    assert degree.max() > 20 * np.median(degree)
    assert graph.indices.min() >= 0
    assert graph.indices.max() < graph.nodes
    # Neighbours are drawn in proportion to degree: the hub is drawn about degree times.
    hub = int(np.argmax(degree))
    assert (graph.indices == hub).sum() == pytest.approx(degree[hub], rel=0.2)
