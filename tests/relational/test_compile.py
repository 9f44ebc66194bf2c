"""Layers from a function on one edge: the same as by hand, in any form, and refusals."""

from __future__ import annotations

import operator

import compiled
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import MODELS, arguments, assert_close, with_gradients
from layers import GRAPHS, random_edges

from jaxdirect import relational
from jaxdirect.relational import hgt_conv, rgat_conv, rgcn_conv

name_of = operator.attrgetter("__name__")


@pytest.fixture(autouse=True)
def full_precision():
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(params=["plain", "hub", "no_edges"])
def edges(request):
    return GRAPHS[request.param]


def by_hand(model):
    """The hand-written layer with the arguments of a compiled one."""

    def layer(g, nodes, relations, types=None, shared=None):
        r = relations
        if model is compiled.rgcn:
            return rgcn_conv(g, nodes["x"], r["weight"], root_weight=shared["root"])
        if model is compiled.rgat:
            return rgat_conv(g, nodes["x"], r["weight"], r["a"], r["b"])
        return hgt_conv(g, nodes["x"], *(types[k] for k in "kqv"), r["a"], r["m"], r["p"])

    return layer


@pytest.mark.parametrize("model", MODELS[:3], ids=name_of)
def test_what_is_there_by_hand(model, edges):
    g = edges.plan()
    tables = arguments(model, g)
    got = with_gradients(relational.compile(model), g, tables)
    assert_close(got, with_gradients(by_hand(model), g, tables))


@pytest.mark.parametrize("model", MODELS, ids=name_of)
@pytest.mark.parametrize("form", [(True, True), (False, True)], ids=str)
def test_every_form_is_the_layer_as_it_is_written(model, form):
    compaction, reorder = form
    g = random_edges(7, 40, 300, hub=100).plan()
    tables = arguments(model, g)
    layer = relational.compile(model, compaction=compaction, reorder=reorder)
    wanted = with_gradients(layer.lower("jax"), g, tables)
    assert_close(with_gradients(layer, g, tables), wanted)


@pytest.mark.parametrize("model", MODELS, ids=name_of)
def test_products_as_they_are_written_and_in_plain_jax(model):
    g = GRAPHS["one_relation"].plan()
    tables = arguments(model, g)
    wanted = relational.compile(model).lower("jax")(g, **tables)
    for compaction in (True, False):
        layer = relational.compile(model, compaction=compaction, reorder=False)
        assert_close(layer(g, **tables), wanted)
    assert_close(relational.compile(model)(g, **tables, implementation="reference"), wanted)


def numpy_layer(e, tables):
    """Edge by edge: sums, a maximum, a mean within relations, edges' own values."""
    x, weight = (np.asarray(tables[t][n]) for t, n in (("nodes", "x"), ("relations", "weight")))
    scale = np.asarray(tables["edges"]["scale"])
    out = np.zeros((e.num_nodes, 3, weight.shape[2]), x.dtype)
    for i in range(e.num_nodes):
        into = np.flatnonzero(e.dst == i)
        found = np.array([scale[p] * (x[e.src[p]] @ weight[e.etype[p]]) for p in into])
        if not into.size:
            continue
        out[i, 0], out[i, 1] = found.sum(0), found.max(0)
        for r in np.unique(e.etype[into]):
            out[i, 2] += found[e.etype[into] == r].mean(0)
    return out


def test_as_written_is_edge_by_edge(edges):
    def function(edge, node):
        message = edge["scale"] * (edge.src.x @ edge.relation["weight"])
        return node.sum(message), node.max(message), node.mean(message, by="relation")

    g, rng = edges.plan(), np.random.default_rng(3)
    tables = {"nodes": {"x": rng.normal(size=(g.num_nodes, 4))}, "relations": {}, "edges": {}}
    tables["relations"]["weight"] = rng.normal(size=(g.num_relations, 4, 5))
    tables["edges"]["scale"] = rng.normal(size=g.num_edges)
    tables = jax.tree.map(np.float32, tables)
    layer = relational.compile(function)
    wanted = numpy_layer(edges, tables)
    for form in (layer, layer.lower("jax")):
        for got, want in zip(form(g, **tables), np.moveaxis(wanted, 1, 0), strict=True):
            np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("model", [compiled.rgcn, compiled.transformer], ids=name_of)
def test_padding_changes_nothing(model):
    e = random_edges(9, 30, 200)
    exact, padded = e.plan(), e.plan(pad_to={"num_nodes": 40, "num_edges": 256})
    tables = arguments(model, exact)

    def room(array, rows):
        return jnp.pad(array, ((0, rows - array.shape[0]), *((0, 0),) * (array.ndim - 1)))

    wide = dict(tables, nodes={"x": room(tables["nodes"]["x"], 40)})
    if "edges" in tables:
        wide["edges"] = {"e": room(tables["edges"]["e"], 256)}
    layer = relational.compile(model)
    got, gradients = with_gradients(lambda g, **t: layer(g, **t)[:30], padded, wide)
    wanted, wanted_gradients = with_gradients(layer, exact, tables)
    assert_close(got, wanted)
    assert_close(gradients["relations"], wanted_gradients["relations"])
    assert_close(gradients["nodes"]["x"][:30], wanted_gradients["nodes"]["x"])


@pytest.mark.parametrize("model", MODELS[:2], ids=name_of)
def test_sixteen_bits_and_bits_that_repeat(model):
    g = random_edges(5, 30, 200).plan()
    layer = relational.compile(model)
    narrow = arguments(model, g, dtype="bfloat16")
    got = layer(g, **narrow)
    assert got.dtype == jnp.bfloat16
    wide = layer.lower("jax")(g, **jax.tree.map(lambda a: a.astype("float32"), narrow))
    np.testing.assert_allclose(got.astype("float32"), wide, rtol=0.05, atol=0.05)
    once, again = (with_gradients(layer, g, arguments(model, g)) for _ in range(2))
    assert_close(once, again, rtol=0, atol=0)


def single_head(edge, node):
    rel = edge.relation
    share = node.softmax(edge.src.x @ rel.a[0] + node.x @ rel.b[0])
    return node.sum(share * (edge.src.x @ rel.weight))


def scaled_pairs(edge, node):
    rel = edge.relation
    wide = jnp.tanh(edge.src.x * rel.a[0])
    return node.sum(edge.e * wide @ rel.weight), node.mean(edge.e @ rel.weight, by="relation")


@pytest.mark.parametrize("model", [compiled.rgcn, compiled.compgcn, single_head, scaled_pairs])
def test_few_destinations_add_first_and_multiply_then(model):
    """For each (destination, relation) pair, or where the factor is shared for each node."""
    rng = np.random.default_rng(5)
    src, etype = rng.integers(0, 300, 2000), rng.integers(0, 3, 2000)
    g = relational.RelGraph.from_edges(src, rng.integers(0, 9, 2000), etype, num_nodes=300)

    def drawn(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32) / 4

    tables = {"nodes": {"x": drawn(300, 8)}, "edges": {"e": drawn(2000, 8)}}
    tables["relations"] = {"weight": drawn(3, 8, 12), "embedding": drawn(3, 8)}
    tables["relations"] |= {"a": drawn(3, 1, 8), "b": drawn(3, 1, 8)}
    tables["shared"] = {"root": drawn(8, 12), "weight": drawn(8, 12)}
    layer = relational.compile(model)
    runs = layer.explain(g, **tables).split("as it runs:")[1]
    assert ("sum over pairs" in runs) == (model is not compiled.compgcn)

    def with_gradients(layer):
        def total(tables):
            return sum(jnp.sin(out).sum() for out in jax.tree.leaves(layer(g, **tables)))

        return layer(g, **tables), jax.grad(total)(tables)

    assert_close(with_gradients(layer), with_gradients(layer.lower("jax")), rtol=2e-4, atol=2e-4)


def test_sums_of_sources_rows():
    def function(edge, node):
        return node.sum(edge.norm * edge.src.x), node.mean(edge.src.x)

    g = GRAPHS["hub"].plan()
    tables = {"nodes": {"x": jnp.sin(jnp.arange(160.0)).reshape(40, 4)}}
    tables["edges"] = {"norm": jnp.cos(jnp.arange(float(g.num_edges)))}
    total, mean = relational.compile(function)(g, **tables)
    norm = tables["edges"]["norm"]
    assert_close(total, relational.aggregate(g, tables["nodes"]["x"], norm))
    assert_close(mean, relational.aggregate(g, tables["nodes"]["x"], reduce="mean"))


def test_no_message_for_every_edge():
    g = random_edges(1, 500, 60_000, num_relations=3).plan()
    tables = arguments(compiled.rgat, g)
    tables["relations"] |= {
        "weight": jnp.ones((3, 8, 64)), "a": jnp.ones((3, 1, 64)), "b": jnp.ones((3, 1, 64))
    }  # fmt: skip
    layer = relational.compile(compiled.rgat)
    program = jax.jit(lambda g, t: layer(g, **t)).lower(g, tables).compile()
    memory = program.memory_analysis()
    assert memory.temp_size_in_bytes < g.num_edges * 64  # a quarter of a message's floats
