"""RGATConv against PyG's stored outputs, its twin, and its own error messages."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pyg_outputs
import pytest
from flax import nnx
from pyg_outputs import NODES, RELATIONS

from jaxdirect import CSRGraph, sample_neighbors
from jaxdirect.nn import RGATConv
from jaxdirect.nn.linen import RGATConv as LinenRGATConv
from jaxdirect.relational import RelGraph, block

CASES = pyg_outputs.cases("rgat")
# Those that have a path without attention weights.
FUSED = ("plain", "one_head", "mean_of_heads", "bases", "blocks", "additive", "scaled", "f_scaled")
PRODUCT = "multiplicative-self-attention"
WITHIN = "within-relation"


def graph_of(case, **options):
    src, dst = case.arrays["edges"]
    sizes = {"num_nodes": NODES, "num_relations": RELATIONS}
    return RelGraph.from_edges(src, dst, case.arrays["etype"], **sizes, **options)


compiled = nnx.jit(RGATConv.__call__, static_argnames="return_attention_weights")


def build(**options):
    return RGATConv(6, 4, RELATIONS, **{"heads": 2, **options}, rngs=nnx.Rngs(0))


@pytest.fixture
def graph():
    return graph_of(CASES[0])


@pytest.fixture
def x(rng):
    return jnp.asarray(rng.normal(size=(NODES, 6)), jnp.float32)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_pyg_and_twin(case):
    """Outputs, attention weights and gradients, where the weights are asked for."""
    g = graph_of(case)
    conv = build(**case.options)

    def call(conv, inputs):
        y, alpha = conv(g, inputs["x"], inputs.get("edge_attr"), return_attention_weights=True)
        return {"y": y, "alpha": alpha}

    outputs = pyg_outputs.check_parity(conv, call, case, 5e-6)
    twin = LinenRGATConv(4, RELATIONS, **{"heads": 2, **case.options})
    own = jax.jit(twin.apply, static_argnames="return_attention_weights")(
        twin.load_pyg(case.group("state")),
        g,
        case.arrays["input/x"],
        case.arrays.get("input/edge_attr"),
        return_attention_weights=True,
    )
    pyg_outputs.compare(dict(zip(("y", "alpha"), own, strict=True)), outputs, 1e-6)


@pytest.mark.parametrize("case", [case for case in CASES if case.name in FUSED], ids=repr)
def test_pyg_and_twin_without_attention_weights(case):
    g = graph_of(case)
    conv = build(**case.options)
    outputs = pyg_outputs.check_parity(
        conv, lambda conv, inputs: {"y": conv(g, inputs["x"])}, case, 5e-6
    )
    twin = LinenRGATConv(4, RELATIONS, **{"heads": 2, **case.options})
    y = jax.jit(twin.apply)(twin.load_pyg(case.group("state")), g, case.arrays["input/x"])
    pyg_outputs.compare(y, outputs["y"], 1e-6)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_linen_parameters_have_the_same_names_and_shapes(case):
    params = nnx.to_pure_dict(nnx.state(build(**case.options), nnx.Param))
    twin = LinenRGATConv(4, RELATIONS, **{"heads": 2, **case.options})
    g, x = graph_of(case), case.arrays["input/x"]
    made = jax.eval_shape(twin.init, jax.random.key(0), g, x)["params"]
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, params)


@pytest.mark.parametrize(
    ("name", "compaction"), [("within_edges", "none"), ("product_edges", "src")]
)
def test_every_compaction_and_a_padded_graph(name, compaction):
    (case,) = (case for case in CASES if case.name == name)
    conv = build(**case.options)
    conv.load_pyg(case.group("state"))
    x, edge_attr = case.arrays["input/x"], case.arrays.get("input/edge_attr")
    g = graph_of(case, compaction=compaction)
    pyg_outputs.compare(compiled(conv, g, x, edge_attr), case.arrays["output/y"], 5e-6)
    num_edges = case.arrays["etype"].size
    room = {"num_nodes": NODES + 3, "num_edges": num_edges + 70}
    g = graph_of(case, compaction=compaction, pad_to=room)
    x = np.concatenate([x, np.full((3, 6), 7, np.float32)])
    if edge_attr is not None:
        edge_attr = np.pad(edge_attr, ((0, 70), (0, 0)), constant_values=5)
    y, alpha = compiled(conv, g, x, edge_attr, return_attention_weights=True)
    pyg_outputs.compare(y[:NODES], case.arrays["output/y"], 5e-6)
    pyg_outputs.compare(alpha[:num_edges], case.arrays["output/alpha"], 5e-6)


@pytest.mark.parametrize("mechanism", ["across-relation", WITHIN])
def test_attention_weights_of_a_node_add_up(rng, mechanism):
    """A hub with far more in-edges than a slot holds, many of one relation."""
    num_edges = 500
    src, dst = rng.integers(0, 20, (2, num_edges)).astype(np.int32)
    dst[:300] = 3
    etype = np.where(np.arange(num_edges) < 200, 0, rng.integers(0, 3, num_edges))
    g = RelGraph.from_edges(src, dst, etype, num_nodes=20, num_relations=3)
    conv = RGATConv(6, 4, 3, heads=2, attention_mechanism=mechanism, rngs=nnx.Rngs(0))
    x = jnp.asarray(rng.normal(size=(20, 6)) * 30, jnp.float32)
    alpha = np.asarray(compiled(conv, g, x, return_attention_weights=True)[1])
    groups = dst if mechanism != WITHIN else dst * 3 + etype
    sums = np.zeros((60, 2))
    np.add.at(sums, groups, alpha)
    np.testing.assert_allclose(sums[np.unique(groups)], 1, rtol=1e-5)
    assert (alpha >= 0).all()


@pytest.mark.parametrize("options", [{}, {"attention_mechanism": WITHIN}, {"mod": "scaled"}])
def test_a_block_is_the_graph_of_its_edges(rng, options):
    """Sampling every neighbour gives the whole graph's rows of the seeds."""
    case = CASES[0]
    src, dst = case.arrays["edges"]
    order = np.argsort(dst, kind="stable")
    indptr = np.searchsorted(dst[order], np.arange(NODES + 1)).astype(np.int32)
    csr = CSRGraph(jnp.asarray(indptr), jnp.asarray(src[order]))
    seeds = jnp.array([3, 0, NODES - 1])
    fanout = int(np.diff(indptr).max()) + 1
    hop = sample_neighbors(csr, seeds, fanout, jax.random.key(0))
    planned = jax.jit(functools.partial(block, num_relations=RELATIONS))
    g = planned(hop, case.arrays["etype"][order])
    conv = build(**options)
    x = jnp.asarray(case.arrays["input/x"])
    nodes = jnp.concatenate([seeds, hop.neighbors.reshape(-1)])
    expected, _ = compiled(conv, graph_of(case), x, return_attention_weights=True)
    y, alpha = compiled(conv, g, x[nodes], return_attention_weights=True)
    np.testing.assert_allclose(y, expected[seeds], atol=1e-5)
    assert not alpha[(hop.neighbors < 0).reshape(-1)].any()
    np.testing.assert_allclose(compiled(conv, g, x[nodes]), y, atol=1e-5)


def test_dropout_nnx(graph, x):
    conv = build(dropout=0.5)
    kept = build()(graph, x)
    conv.eval()
    np.testing.assert_array_equal(conv(graph, x), kept)
    np.testing.assert_array_equal(conv(graph, x, deterministic=True), kept)
    conv.train()
    first, second = conv(graph, x), conv(graph, x)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, kept)
    same = [conv(graph, x, rngs=nnx.Rngs(dropout=1)) for _ in range(2)]
    np.testing.assert_array_equal(*same)
    # The weights that come back are those before dropout, as in PyG.
    _, alpha = conv(graph, x, return_attention_weights=True)
    _, before = conv(graph, x, return_attention_weights=True, deterministic=True)
    np.testing.assert_array_equal(alpha, before)


def test_dropout_keeps_the_mean(graph, x):
    conv = build(dropout=0.3, bias=False)
    keys = jax.random.split(jax.random.key(0), 400)
    many = jax.lax.map(lambda key: conv(graph, x, rngs=nnx.Rngs(dropout=key)), keys)
    deviation = np.asarray(many.std(0)) / np.sqrt(len(keys))
    error = np.abs(many.mean(0) - conv(graph, x, deterministic=True))
    assert (error <= 5 * deviation + 1e-5).all()


def test_dropout_linen(graph, x):
    conv = LinenRGATConv(4, RELATIONS, heads=2, dropout=0.5)
    params = conv.init(jax.random.key(0), graph, x, deterministic=True)

    def run(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return conv.apply(params, graph, x, deterministic=False, rngs=rngs)

    np.testing.assert_array_equal(run(1), run(1))
    assert not np.array_equal(run(1), run(2))
    plain = LinenRGATConv(4, RELATIONS, heads=2).apply(params, graph, x)
    np.testing.assert_array_equal(conv.apply(params, graph, x, deterministic=True), plain)
    with pytest.raises(ValueError, match="deterministic"):
        conv.apply(params, graph, x)


def test_a_node_without_in_edges_gets_the_bias(graph, x):
    for options in ({}, {"attention_mode": PRODUCT}, {"attention_mechanism": WITHIN}):
        conv = build(**options)
        conv.bias[...] = jnp.arange(8.0)
        np.testing.assert_array_equal(conv(graph, x)[-1], np.arange(8))


def test_no_edges(x):
    none = np.zeros(0, np.int32)
    g = RelGraph.from_edges(none, none, none, num_nodes=NODES, num_relations=RELATIONS)
    for mechanism in ("across-relation", WITHIN):
        conv = build(attention_mechanism=mechanism)
        y, alpha = conv(g, x, return_attention_weights=True)
        assert alpha.shape == (0, 2)
        np.testing.assert_array_equal(y, np.zeros((NODES, 8)))


def test_one_column_of_edge_features(graph, x):
    conv = build(edge_dim=1)
    edge = jnp.arange(graph.num_edges, dtype=jnp.float32)
    np.testing.assert_array_equal(conv(graph, x, edge), conv(graph, x, edge[:, None]))
    np.testing.assert_array_equal(conv(graph, x), conv(graph, x, None))


def test_dtypes(graph, x):
    low = build(param_dtype=jnp.bfloat16)
    assert low.weight.dtype == jnp.bfloat16
    half = x.astype(jnp.bfloat16)
    reference = build()
    for conv in (low, reference):
        conv.load_pyg(CASES[0].group("state"))
    for options in ({}, {"return_attention_weights": True}):
        got = low(graph, half, **options)
        expected = reference(graph, x, **options)
        for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            assert ours.dtype == jnp.bfloat16
            np.testing.assert_allclose(ours.astype(jnp.float32), theirs, atol=1e-1)
    assert build(dtype=jnp.bfloat16)(graph, x).dtype == jnp.bfloat16


def test_errors(graph, x):
    for options, message in (
        ({"mod": "other"}, r"mod must be one of None, additive, scaled, f-additive, f-scaled"),
        ({"attention_mechanism": "x"}, r"attention_mechanism must be one of across-relation"),
        ({"attention_mode": "x"}, r"attention_mode must be one of additive-self-attention"),
        ({"dim": 2}, r"dim must be 1 with 'additive-self-attention', got 2"),
        ({"dropout": 1.5}, r"dropout must be in \[0, 1\), got 1.5"),
        ({"dropout": 0.5, "mod": "scaled"}, r"mod must be None with dropout, got 'scaled'"),
        ({"heads": 0}, r"heads must be a positive integer, got 0"),
        ({"num_blocks": 4}, r"num_blocks must divide .* 6 and 8, got 4"),
    ):
        with pytest.raises(ValueError, match=rf"RGATConv: {message}"):
            build(**options)
        twin = LinenRGATConv(4, RELATIONS, **{"heads": 2, **options})
        with pytest.raises(ValueError, match=rf"RGATConv: {message}"):
            twin.init(jax.random.key(0), graph, x)
    with pytest.raises(ValueError, match=r"edge_attr must be None without edge_dim"):
        build()(graph, x, jnp.zeros((graph.num_edges, 3)))
    with pytest.raises(ValueError, match=r"edge_attr must be \[30, 3\], .* got shape \[29, 3\]"):
        build(edge_dim=3)(graph, x, jnp.zeros((29, 3)))
    with pytest.raises(ValueError, match=r"x must be floating-point \[num_nodes, 6\]"):
        build()(graph, x[:, :5])
    with pytest.raises(ValueError, match=r"RGATConv: the graph has no attention part"):
        build()(graph_of(CASES[0], attention=False), x)
    with pytest.raises(ValueError, match=r"RGATConv.load_pyg: the state has no e\b"):
        build(edge_dim=3).load_pyg(CASES[0].group("state"))
