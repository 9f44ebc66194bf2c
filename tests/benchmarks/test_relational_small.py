"""The relational benchmark at tiny sizes: graphs, floors, rivals, sums; and one run of it all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from relational_peers import (  # noqa: E402
    floors,
    graphs,
    ours,
    peers_jax,
    shapes,
)
from relational_peers.problem import NEGATIVE_SLOPE, Problem, relation_scale  # noqa: E402


def run_benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "relational.py"), "--platform", "cpu"]
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=300, check=False
    )


def native_missing() -> str | None:
    if (why := ours.missing()) is not None:
        return why
    from jaxdirect import _ffi

    try:
        module = _ffi.require("cpu", "the benchmark")
    except Exception as error:
        return str(error)
    wanted = "jaxdirect_relational_attention"
    found = any(name.startswith(wanted) for name in module.registrations())
    return None if found and hasattr(module, "build_plan") else f"no native {wanted}"


@pytest.fixture(scope="module")
def tiny() -> graphs.Graph:
    return graphs.make("tiny")


def oracle(problem: Problem, weights: dict, x: np.ndarray) -> np.ndarray:
    """The layer edge by edge, in float64."""
    graph, heads = problem.graph, problem.heads
    w = {name: np.asarray(value, np.float64) for name, value in weights.items()}
    src, dst, etype, nodes = graph.src, graph.dst, graph.etype, graph.nodes
    split = (-1, heads, problem.features // heads)

    def by_relation(ends: np.ndarray) -> np.ndarray:
        return np.einsum("ei,eio->eo", x[ends], w["weight"][etype])

    if problem.model == "rgcn":
        counts = np.zeros((nodes, graph.relations))
        np.add.at(counts, (dst, etype), 1)
        out = np.zeros_like(x)
        np.add.at(out, dst, by_relation(src) / counts[dst, etype][:, None])
        return out
    if problem.model == "rgat":
        values, at_dst = (by_relation(ends).reshape(split) for ends in (src, dst))
        logits = (values * w["att_src"][etype]).sum(-1) + (at_dst * w["att_dst"][etype]).sum(-1)
        logits = np.where(logits > 0, logits, NEGATIVE_SLOPE * logits)
    else:
        keys, queries, values = (
            np.einsum("ni,nio->no", x, w[f"{k}_weight"][graph.ntype]).reshape(split) for k in "kqv"
        )
        keys = np.einsum("ehi,ehij->ehj", keys[src], w["a_rel"][etype])
        values = np.einsum("ehi,ehij->ehj", values[src], w["m_rel"][etype])
        logits = w["p_rel"][etype] * (queries[dst] * keys).sum(-1) / split[2] ** 0.5
    out = np.zeros((nodes, *split[1:]))
    for node in range(nodes):
        edges = np.flatnonzero(dst == node)
        if edges.size:
            share = np.exp(logits[edges] - logits[edges].max(0))
            out[node] = (share[..., None] / share.sum(0)[..., None] * values[edges]).sum(0)
    return out.reshape(nodes, -1)


@pytest.mark.parametrize("kind", peers_jax.KINDS)
@pytest.mark.parametrize(
    ("model", "heads"), [("rgcn", 1), ("rgat", 1), ("rgat", 8), ("hgt", 1), ("hgt", 8)]
)
def test_rivals_compute_the_layer(tiny: graphs.Graph, kind: str, model: str, heads: int) -> None:
    problem = Problem(model, tiny, features=16, heads=heads)
    weights, x = problem.weights(), problem.inputs()[0]
    layer, edges = peers_jax.build(kind, problem)
    out = jax.jit(layer)(edges, x, weights)
    want = oracle(problem, weights, np.asarray(x, np.float64))
    np.testing.assert_allclose(out, want, atol=1e-5 * abs(want).max())


@pytest.mark.skipif(ours.missing() is not None, reason=str(ours.missing()))
@pytest.mark.parametrize(("model", "heads"), [("rgcn", 1), ("rgat", 8), ("hgt", 8)])
def test_ours_computes_the_same(tiny: graphs.Graph, model: str, heads: int) -> None:
    if (why := native_missing()) is not None:
        pytest.skip(why)
    problem = Problem(model, tiny, features=16, heads=heads)
    weights, x = problem.weights(), problem.inputs()[0]
    plan, cost = ours.build_plan(tiny)
    assert cost["plan_bytes"] > 8 * tiny.edges
    want = oracle(problem, weights, np.asarray(x, np.float64))
    for implementation in ("native", "reference"):
        layer = ours.layer(problem, implementation, None, None)
        out = jax.jit(layer)(plan, x, weights)
        np.testing.assert_allclose(out, want, atol=1e-4 * abs(want).max())


@pytest.mark.parametrize("name", ["tiny", "aifb", "mutag", "bgs", "fb15k"])
def test_graphs_have_the_sizes_they_name(name: str) -> None:
    graph, shape = graphs.make(name), shapes.SHAPES[name]
    counts = (graph.nodes, graph.edges, graph.relations, len(graph.type_sizes))
    assert counts == (shape.nodes, shape.edges, shape.relations, len(shape.type_sizes()))
    assert graph.type_sizes.sum() == graph.nodes
    assert min(graph.src.min(), graph.dst.min()) >= 0
    assert max(graph.src.max(), graph.dst.max()) < graph.nodes
    assert (np.diff(graph.etype) >= 0).all()
    sizes = np.diff(graph.relation_ptr)
    assert np.median(sizes) == pytest.approx(shape.spread.median, rel=0.05) or name == "tiny"
    assert sizes.max() == shape.spread.largest
    for ends, unique in ((graph.src, graph.unique_src), (graph.dst, graph.unique_dst)):
        for relation in (0, graph.relations // 2, graph.relations - 1):
            own = ends[graph.etype == relation]
            assert np.unique(own).size == unique[relation]
            assert np.unique(graph.ntype[own]).size == 1
    again = graphs.make(name)
    np.testing.assert_array_equal(graph.src, again.src)
    np.testing.assert_array_equal(graph.dst, again.dst)


def test_fb15k_is_as_compact_as_the_real_one() -> None:
    graph = graphs.make("fb15k")
    assert graph.compact_rows("src") / graph.edges == pytest.approx(0.261, rel=0.05)
    assert graph.compact_rows("min") / graph.edges == pytest.approx(0.103, rel=0.05)
    assert np.bincount(graph.dst).max() > 20 * graph.edges / graph.nodes


@pytest.mark.parametrize("name", shapes.EIGHT)
def test_relation_sizes_sum_to_the_edges(name: str) -> None:
    shape = shapes.SHAPES[name]
    sizes = shape.relation_sizes()
    assert sizes.sum() * (2 if shape.inverses else 1) == shape.edges
    assert len(sizes) * (2 if shape.inverses else 1) == shape.relations
    assert sizes.min() >= 1


# Microseconds of a fused RGCN layer at 64 float32 features, without weights: no L2, perfect L2.
QUOTED = {
    "aifb": (3, 0.9),
    "mutag": (10, 3),
    "fb15k": (35, 2.6),
    "bgs": (42, 11),
    "biokg": (267, 18),
    "wikikg2": (1019, 294),
    "mag": (1265, 242),
}


@pytest.mark.parametrize("name", QUOTED)
def test_forward_floor_is_the_quoted_one(name: str) -> None:
    shape = shapes.SHAPES[name]
    n = floors.Sizes(
        shape.nodes, shape.edges, shape.relations, 1, shape.nodes, shape.nodes, features=64
    )
    for perfect, quoted in zip((False, True), QUOTED[name], strict=True):
        nbytes = floors.forward("rgcn", n, perfect) - floors.weight_bytes("rgcn", n)
        assert nbytes / floors.HBM_BYTES_PER_S * 1e6 == pytest.approx(quoted, rel=0.06, abs=0.5)


@pytest.mark.parametrize("model", ["rgcn", "rgat", "hgt"])
def test_weight_bytes_are_those_of_the_weights(tiny: graphs.Graph, model: str) -> None:
    problem = Problem(model, tiny, heads=8)
    nbytes = sum(w.nbytes for w in problem.weights().values())
    assert floors.weight_bytes(model, problem.sizes()) == nbytes
    for name in ("forward", "backward"):
        floor = problem.floors()[name]
        assert floor["perfect_l2_bytes"] < floor["no_reuse_bytes"]


def test_relation_scale_sums_to_one_by_destination_and_relation(tiny: graphs.Graph) -> None:
    total = np.zeros((tiny.nodes, tiny.relations))
    np.add.at(total, (tiny.dst, tiny.etype), relation_scale(tiny))
    np.testing.assert_allclose(total[total > 0], 1, rtol=1e-6)


def test_list_names_every_part() -> None:
    done = run_benchmark("--list", "--only", ".", "--rivals", "all")
    assert done.returncode == 0, done.stderr
    parts = {line.split("/")[0] for line in done.stdout.split()}
    assert parts == {
        "plan",
        "pyg",
        "rgcn",
        "rgat",
        "hgt",
        "typed_linear",
        "aggregate",
        "edge_softmax",
    }


def test_a_tiny_graph_runs_from_end_to_end(tmp_path: Path) -> None:
    if (why := native_missing()) is not None:
        pytest.skip(why)
    output = tmp_path / "figures.json"
    common = ("--graphs", "tiny", "--rivals", "all", "--without", "pyg", "--rounds", "2")
    only = "^(plan/tiny|(rgcn/tiny/f32/d64/h1|hgt/tiny/f32/d64/h8)(/none.*)?)$"
    first = run_benchmark(*common, "--only", only, "--output", str(output))
    assert first.returncode == 0, first.stdout + first.stderr
    data = json.loads(output.read_text())
    assert "rgcn/tiny/f32/d64/h1/none" in data["cases"]
    assert data["cases"]["plan/tiny"]["graph"]["edges"] == shapes.SHAPES["tiny"].edges
    record = data["cases"]["hgt/tiny/f32/d64/h8"]
    assert set(record["contenders"]) == {"jaxdirect", "reference", *peers_jax.KINDS}
    for passes in record["contenders"].values():
        assert {"forward", "training", "backward"} == passes.keys()
    assert max(record["difference"].values()) < 1e-4
    assert data["runs"][0]["packages"]["jax"]
    assert data["goals"]
    second = run_benchmark(*common, "--only", only, "--resume", str(output))
    assert second.returncode == 0
    assert json.loads(output.read_text())["cases"] == data["cases"]
    again = ("--again", "jaxdirect,reference", "--only", "^hgt/tiny/f32/d64/h8$")
    third = run_benchmark(*common, *again, "--resume", str(output))
    assert third.returncode == 0
    later = json.loads(output.read_text())["cases"]["hgt/tiny/f32/d64/h8"]
    assert later["run"] == 2
    assert later["runs_of_others"] == dict.fromkeys(peers_jax.KINDS, 0)
    assert later["contenders"]["loop"] == record["contenders"]["loop"]
    assert later["contenders"]["jaxdirect"] != record["contenders"]["jaxdirect"]


def test_a_spent_budget_starts_nothing(tmp_path: Path) -> None:
    if ours.missing() is not None:
        pytest.skip(str(ours.missing()))
    output = tmp_path / "figures.json"
    done = run_benchmark("--graphs", "tiny", "--budget", "0.01", "--output", str(output))
    assert done.returncode == 0, done.stderr
    assert "budget of 0 s spent" in done.stdout
    assert json.loads(output.read_text())["cases"] == {}
