"""HGTConv against PyG's stored outputs, its twin, and its own error messages."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pyg_outputs
import pytest
from flax import nnx

from jaxdirect import CSRGraph, sample_neighbors
from jaxdirect.nn import HGTConv
from jaxdirect.nn.linen import HGTConv as LinenHGTConv
from jaxdirect.relational import RelGraph, block

CASES = pyg_outputs.cases("hgt")
SIZES = pyg_outputs.about()["node_types"]
NAMES = list(SIZES)
KINDS = [tuple(kind) for kind in pyg_outputs.about()["edge_types"]]
NODES = sum(SIZES.values())
OUT = 8


def edges_of(case, numbers):
    """Source, destination and relation of every edge; `numbers` are those of each type's nodes."""
    parts = []
    for relation, kind in enumerate(KINDS):
        src, dst = case.arrays[f"edges/{'__'.join(kind)}"]
        parts.append((numbers[kind[0]][src], numbers[kind[2]][dst], np.full(src.size, relation)))
    return [np.concatenate(column).astype(np.int32) for column in zip(*parts, strict=True)]


def numbered(shuffle):
    """The node numbers of each type, and every node's type."""
    ntype = np.repeat(np.arange(len(NAMES), dtype=np.int32), list(SIZES.values()))
    if shuffle:
        ntype = np.random.default_rng(1).permutation(ntype)
    return {name: np.flatnonzero(ntype == t) for t, name in enumerate(NAMES)}, ntype


def graph_of(case, shuffle=False):
    numbers, ntype = numbered(shuffle)
    sizes = {"num_nodes": NODES, "num_relations": len(KINDS), "num_types": len(NAMES)}
    return RelGraph.from_edges(*edges_of(case, numbers), ntype=ntype, **sizes)


def build(case, **options):
    return HGTConv(
        case.options["in_channels"],
        OUT,
        (NAMES, KINDS),
        heads=case.options["heads"],
        **options,
        rngs=nnx.Rngs(0),
    )


compiled = nnx.jit(HGTConv.__call__)


def named(name):
    (case,) = (case for case in CASES if case.name == name)
    return case


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("case", CASES, ids=repr)
def test_pyg_and_twin_on_a_dict(case, shuffle):
    g = graph_of(case, shuffle)
    outputs = pyg_outputs.check_parity(
        build(case), lambda conv, inputs: conv(g, inputs), case, 5e-6
    )
    assert "tag" not in outputs
    twin = LinenHGTConv(OUT, (NAMES, KINDS), heads=case.options["heads"])
    own = jax.jit(twin.apply)(twin.load_pyg(case.group("state")), g, case.group("input"))
    pyg_outputs.compare(own, outputs, 1e-6)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("case", CASES[:2], ids=repr)
def test_one_array_is_the_dict(case, shuffle):
    g = graph_of(case, shuffle)
    numbers, _ = numbered(shuffle)
    conv = build(case)
    conv.load_pyg(case.group("state"))
    definition, params = nnx.split(conv)
    rows = case.group("input")
    x = np.zeros((NODES, rows["tag"].shape[1]), np.float32)
    for name in NAMES:
        x[numbers[name]] = rows[name]
    cotangents = case.group("cotangent")

    def loss(params, x, pick):
        y = nnx.merge(definition, params)(g, x)
        return sum((pick(y, name) * cotangents[name]).sum() for name in cotangents), y

    def gradient(x, pick):
        compute = jax.grad(lambda p, x: loss(p, x, pick), argnums=(0, 1), has_aux=True)
        return jax.jit(compute)(params, x)

    of_dict, by_type = gradient(jax.tree.map(jnp.asarray, rows), lambda y, name: y[name])
    of_array, y = gradient(jnp.asarray(x), lambda y, name: y[numbers[name]])
    assert y.shape == (NODES, OUT)
    for name, value in by_type.items():
        np.testing.assert_allclose(y[numbers[name]], value, atol=1e-5)
    for name in NAMES:
        ours, theirs = of_array[1][numbers[name]], of_dict[1][name]
        np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=1e-5)
    pyg_outputs.compare(*(nnx.to_pure_dict(side[0]) for side in (of_array, of_dict)), 5e-6)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_linen_parameters_have_the_same_names_and_shapes(case):
    conv = build(case)
    params = nnx.to_pure_dict(nnx.state(conv, nnx.Param))
    twin = LinenHGTConv(OUT, (NAMES, KINDS), heads=case.options["heads"])
    made = jax.eval_shape(twin.init, jax.random.key(0), graph_of(case), case.group("input"))[
        "params"
    ]
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, params)
    heads, d = case.options["heads"], OUT // case.options["heads"]
    assert params["k_rel"].shape == params["v_rel"].shape == (4, heads, d, d)
    assert params["out_lin"]["kernel"].shape == (3, OUT, OUT)
    width = case.arrays["input/tag"].shape[1]
    assert params["kqv_lin"]["tag"]["kernel"].shape == (width, 3 * OUT)
    assert (params["skip"] == 1).all()
    assert (params["p_rel"] == 1).all()


def test_numbers_instead_of_names(rng):
    case = named("skip")
    conv = HGTConv(OUT, OUT, (3, 4), heads=2, rngs=nnx.Rngs(0))
    y = conv(graph_of(case), jnp.ones((NODES, OUT)))
    same = HGTConv(OUT, OUT, (NAMES, KINDS), heads=2, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(same(graph_of(case), jnp.ones((NODES, OUT))), y)
    with pytest.raises(ValueError, match=r"HGTConv.load_pyg: PyG names node and edge types"):
        conv.load_pyg(case.group("state"))
    with pytest.raises(ValueError, match=r"HGTConv.load_pyg: PyG names node and edge types"):
        LinenHGTConv(OUT, (3, 4)).load_pyg(case.group("state"))


def test_a_node_without_in_edges_gets_the_bias_and_its_share_of_the_skip():
    case = named("skip")
    conv = build(case)
    conv.load_pyg(case.group("state"))
    rows = case.group("input")
    gate = 1 / (1 + np.exp(-case.arrays["state/skip.paper"]))
    expected = gate * case.arrays["state/out_lin.lins.paper.bias"] + (1 - gate) * rows["paper"][-1]
    np.testing.assert_allclose(conv(graph_of(case), rows)["paper"][-1], expected, atol=1e-6)


def test_a_block_is_the_graph_of_its_edges():
    """Sampling every neighbour gives the whole graph's rows of the seeds."""
    case = named("skip")
    numbers, ntype = numbered(shuffle=True)
    src, dst, etype = edges_of(case, numbers)
    order = np.argsort(dst, kind="stable")
    indptr = np.searchsorted(dst[order], np.arange(NODES + 1)).astype(np.int32)
    csr = CSRGraph(jnp.asarray(indptr), jnp.asarray(src[order]))
    seeds = jnp.asarray(numbers["paper"][:3])
    hop = sample_neighbors(csr, seeds, int(np.diff(indptr).max()), jax.random.key(0))
    nodes = jnp.concatenate([seeds, hop.neighbors.reshape(-1)])
    planned = jax.jit(functools.partial(block, num_relations=len(KINDS), num_types=len(NAMES)))
    g = planned(hop, etype[order], ntype=ntype[np.asarray(nodes)])
    conv = build(case)
    conv.load_pyg(case.group("state"))
    x = np.zeros((NODES, OUT), np.float32)
    for name in NAMES:
        x[numbers[name]] = case.group("input")[name]
    y = compiled(conv, g, jnp.asarray(x)[nodes])
    np.testing.assert_allclose(y, case.group("output")["paper"][:3], atol=1e-5)
    with pytest.raises(ValueError, match=r"HGTConv: x must be one array for a block"):
        conv(g, case.group("input"))


def test_jit_with_the_graph_as_an_argument():
    case = named("widths")
    conv = build(case)
    conv.load_pyg(case.group("state"))
    y = compiled(conv, graph_of(case, True), case.group("input"))
    pyg_outputs.compare(y, case.group("output"), 5e-6)


@pytest.mark.parametrize("name", ["skip", "widths"])
def test_dtypes(name):
    case = named(name)
    g, rows = graph_of(case), case.group("input")
    low, full = build(case, param_dtype=jnp.bfloat16), build(case)
    low.load_pyg(case.group("state"))
    full.load_pyg(case.group("state"))
    assert {p.dtype for p in jax.tree.leaves(nnx.state(low, nnx.Param))} == {jnp.dtype("bfloat16")}
    got = compiled(low, g, jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), rows))
    expected = compiled(full, g, rows)
    for kind, value in expected.items():
        assert got[kind].dtype == jnp.bfloat16
        np.testing.assert_allclose(got[kind].astype(jnp.float32), value, atol=1e-1)


def test_errors():
    case = named("widths")
    g, rows = graph_of(case), case.group("input")
    rngs = nnx.Rngs(0)
    with pytest.raises(ValueError, match=r"heads must divide out_features, got 3 heads"):
        HGTConv(4, 8, (NAMES, KINDS), heads=3, rngs=rngs)
    with pytest.raises(ValueError, match=r"in_features must name the node types author, paper, "):
        HGTConv({"author": 4}, 8, (NAMES, KINDS), rngs=rngs)
    with pytest.raises(ValueError, match=r"edge types must be \(source type, name, destination"):
        HGTConv(4, 8, (NAMES, [("author", "writes", "book")]), rngs=rngs)
    with pytest.raises(ValueError, match=r"metadata must be \(node types, edge types\)"):
        HGTConv(4, 8, NAMES, rngs=rngs)
    conv = build(case)
    with pytest.raises(ValueError, match=r"x must be a dict, because in_features differ: 5, 8, 3"):
        conv(g, jnp.zeros((NODES, 5)))
    with pytest.raises(ValueError, match=r"x must have the node types author, paper, tag, got"):
        conv(g, {"author": rows["author"]})
    with pytest.raises(ValueError, match=r"x must have a row per node of each type \(4, 6, 3\)"):
        conv(g, rows | {"tag": rows["tag"][:2]})
    with pytest.raises(ValueError, match=r"HGTConv \(paper\): x must be .* \[num_nodes, 8\]"):
        conv(g, rows | {"paper": rows["paper"][:, :7]})
    none = RelGraph.from_edges([0], [1], [0], num_nodes=NODES, num_relations=4)
    with pytest.raises(ValueError, match=r"must have the layer's 3 node types, got 0"):
        conv(none, rows)
    state = {k: v for k, v in case.group("state").items() if not k.startswith("p_rel")}
    with pytest.raises(ValueError, match=r"load_pyg: the state has no p_rel.author__writes__paper"):
        conv.load_pyg(state)
