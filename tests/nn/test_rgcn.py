"""RGCNConv against PyG's stored outputs, its twin, and its own error messages."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pyg_outputs
import pytest
from flax import nnx
from pyg_outputs import NODES, RELATIONS

from jaxdirect.nn import RGCNConv
from jaxdirect.nn.linen import RGCNConv as LinenRGCNConv
from jaxdirect.relational import RelGraph

CASES = pyg_outputs.cases("rgcn")


def graph_of(case):
    src, dst = case.arrays["edges"]
    return RelGraph.from_edges(
        src, dst, case.arrays["etype"], num_nodes=NODES, num_relations=RELATIONS
    )


def options_of(case):
    options = dict(case.options)
    in_features = options.pop("in_channels", 6)
    if options.get("aggr") == "add":
        options["aggr"] = "sum"
    return in_features, options


def build(**options):
    return RGCNConv(6, 4, RELATIONS, **options, rngs=nnx.Rngs(0))


@pytest.fixture
def graph():
    return graph_of(CASES[0])


@pytest.fixture
def x(rng):
    return jnp.asarray(rng.normal(size=(NODES, 6)), jnp.float32)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_pyg_and_twin(case):
    in_features, options = options_of(case)
    g = graph_of(case)
    conv = RGCNConv(in_features, 4, RELATIONS, **options, rngs=nnx.Rngs(0))

    def call(conv, inputs):
        return {"y": conv(g, inputs.get("x"))}

    y = pyg_outputs.check_parity(conv, call, case, 2e-6)["y"]
    twin = LinenRGCNConv(4, RELATIONS, **options)
    variables = twin.load_pyg(case.group("state"))
    own = jax.jit(twin.apply)(variables, g, case.arrays.get("input/x"))
    pyg_outputs.compare(own, y, 1e-6)


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_linen_parameters_have_the_same_names_and_shapes(case):
    in_features, options = options_of(case)
    conv = RGCNConv(in_features, 4, RELATIONS, **options, rngs=nnx.Rngs(0))
    params = nnx.to_pure_dict(nnx.state(conv, nnx.Param))
    twin = LinenRGCNConv(4, RELATIONS, **options)
    g, x = graph_of(case), case.arrays.get("input/x")
    made = jax.eval_shape(twin.init, jax.random.key(0), g, x)["params"]
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, params)


def test_parameters_begin_as_pygs():
    state = nnx.to_pure_dict(nnx.state(RGCNConv(200, 100, 3, rngs=nnx.Rngs(0)), nnx.Param))
    shapes = {"weight": (3, 200, 100), "root": (200, 100), "bias": (100,)}
    assert jax.tree.map(jnp.shape, state) == shapes
    for name in ("weight", "root"):
        assert abs(state[name]).max() == pytest.approx(np.sqrt(6 / 300), rel=1e-2)
        assert state[name].std() == pytest.approx(np.sqrt(2 / 300), rel=2e-2)
    assert not state["bias"].any()


def test_a_node_without_in_edges_gets_itself_and_the_bias(graph, x):
    conv = build()
    conv.bias[...] = jnp.arange(4.0)
    expected = np.asarray(x)[-1] @ np.asarray(conv.root[...]) + np.arange(4)
    np.testing.assert_allclose(conv(graph, x)[-1], expected, rtol=1e-5, atol=1e-6)


def test_jit_and_training_step(graph, x):
    conv = build(num_bases=2)
    before = conv(graph, x)

    @nnx.jit
    def step(conv, g, x):
        loss, gradient = nnx.value_and_grad(lambda conv: (conv(g, x) ** 2).mean())(conv)
        nnx.update(conv, jax.tree.map(lambda p, d: p - 0.1 * d, nnx.state(conv), gradient))
        return loss

    losses = [float(step(conv, graph, x)) for _ in range(5)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] == pytest.approx(float((before**2).mean()), rel=1e-5)


def test_dtypes(graph, x):
    low = build(param_dtype=jnp.bfloat16)
    assert low.weight.dtype == jnp.bfloat16
    assert low(graph, x).dtype == jnp.float32
    assert low(graph, x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    mixed = build(dtype=jnp.bfloat16)
    assert mixed.weight.dtype == jnp.float32
    y = mixed(graph, x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), build()(graph, x), atol=5e-2)


def test_no_edges(x):
    none = np.zeros(0, np.int32)
    g = RelGraph.from_edges(none, none, none, num_nodes=NODES, num_relations=RELATIONS)
    conv = build()
    np.testing.assert_allclose(conv(g, x), x @ conv.root[...], rtol=1e-5, atol=1e-6)


def test_errors(graph, x):
    for options, message in (
        ({"aggr": "max"}, r"aggr must be one of mean, sum, got 'max'"),
        ({"num_bases": 2, "num_blocks": 2}, r"num_bases and num_blocks exclude each other"),
        ({"num_blocks": 4}, r"num_blocks must divide .* 6 and 4, got 4"),
        ({"num_bases": 0}, r"num_bases must be a positive integer, got 0"),
    ):
        with pytest.raises(ValueError, match=rf"RGCNConv: {message}"):
            build(**options)
        with pytest.raises(ValueError, match=rf"RGCNConv: {message}"):
            LinenRGCNConv(4, RELATIONS, **options).init(jax.random.key(0), graph, x)
    with pytest.raises(ValueError, match=r"in_features must be a positive integer, got 0"):
        RGCNConv(0, 4, RELATIONS, rngs=nnx.Rngs(0))
    conv = build()
    with pytest.raises(TypeError, match=r"RGCNConv: the graph must be a RelGraph, got tuple"):
        conv((1, 2), x)
    with pytest.raises(ValueError, match=r"x must be floating-point \[num_nodes, 6\], got float32"):
        conv(graph, x[:, :5])
    with pytest.raises(ValueError, match=r"x must be floating-point \[num_nodes, 6\], got int32"):
        conv(graph, jnp.arange(NODES))
    with pytest.raises(ValueError, match=r"in_features must be the graph's 9 nodes, got 6"):
        conv(graph)
    with pytest.raises(ValueError, match=r"num_blocks needs node features, got x=None"):
        RGCNConv(NODES, 6, RELATIONS, num_blocks=3, rngs=nnx.Rngs(0))(graph)
    with pytest.raises(ValueError, match=r"must have the layer's 3 relations, got 4"):
        RGCNConv(6, 4, 3, rngs=nnx.Rngs(0))(graph, x)


def test_errors_of_the_import():
    case = CASES[0]
    state = case.group("state")
    with pytest.raises(ValueError, match=r"RGCNConv.load_pyg: the state has no comp"):
        build(num_bases=2).load_pyg(state)
    with pytest.raises(ValueError, match=r"load_pyg: the layer has no place for root"):
        build(root_weight=False).load_pyg(state)
    with pytest.raises(ValueError, match=r"load_pyg: weight must be \[4, 5, 4\], got shape"):
        RGCNConv(5, 4, RELATIONS, rngs=nnx.Rngs(0)).load_pyg(state)
    with pytest.raises(ValueError, match=r"RGCNConv.load_pyg: the state has no weight"):
        LinenRGCNConv(4, RELATIONS).load_pyg({})
