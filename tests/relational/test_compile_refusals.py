"""What `compile` refuses, and what it says of a layer."""

from __future__ import annotations

import re

import compiled
import jax
import jax.numpy as jnp
import pytest
from compiled import arguments
from layers import random_edges

from jaxdirect import relational

G = random_edges(0, 30, 200).plan()
X = {"nodes": {"x": jnp.ones((30, 4))}}
VARIED = {"nodes": {"x": jnp.sin(jnp.arange(120.0)).reshape(30, 4)}}


def refused(function, error, message, **tables):
    with pytest.raises(error, match=message):
        relational.compile(function)(G, **(X | tables))


@pytest.mark.parametrize("function", [3, lambda: 0, lambda edge, node, shared, more: 0])
def test_what_is_no_function_of_an_edge_and_a_node(function):
    with pytest.raises(TypeError, match="compile: "):
        relational.compile(function)


def test_results_of_an_edge():
    def layer(edge, node):
        return node.x, jnp.sin(edge.src.x)  # this line is named

    line = layer.__code__.co_firstlineno + 1
    name = re.escape(f"{__file__}:{line} (in ")
    refused(
        layer,
        ValueError,
        f"result 1 has a value for each source at {name}.*layer.; a layer returns",
    )


def test_names_that_no_table_has():
    refused(
        lambda edge, node: node.sum(edge.relation.weight),
        *(AttributeError, "edge.relation has no 'weight'; given: none"),
    )
    refused(
        lambda edge, node: node.sum(edge.src.y), AttributeError, "edge.src has no 'y'; given: x"
    )


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"relations": {"w": jnp.ones((5, 2))}}, r"relations\['w'\] needs a row for each relation"),
        (
            {"types": {"w": jnp.ones(())}},
            r"types\['w'\] needs .* node type, \[3, ...\], got .*\[\]",
        ),
        ({"edges": {"w": jnp.ones((30, 2))}}, r"edges\['w'\] needs a row for each edge, \[200"),
    ],
)
def test_tables_of_other_sizes(tables, message):
    refused(lambda edge, node: node.x, ValueError, message, **tables)


def test_a_table_that_is_no_dict():
    refused(lambda edge, node: node.x, TypeError, "nodes must be a dict", nodes=jnp.ones((30, 4)))


def test_side_effects():
    def layer(edge, node):
        jax.debug.print("{}", edge.src.x)
        return node.x

    refused(layer, ValueError, "no side effects")


def test_reductions_where_there_are_none():
    def looped(edge, node):
        return jax.lax.fori_loop(0, 2, lambda _, x: node.sum(edge.src.x) + x, node.x)

    refused(looped, ValueError, "a reduction over edges inside .*reduce outside of loops")
    refused(lambda edge, node: node.sum(3), TypeError, "takes floating-point values, got int32")
    refused(
        lambda edge, node: node.mean(edge.src.x, by="type"), ValueError, "by=None or 'relation'"
    )


def test_graphs_that_do_not_fit():
    layer = relational.compile(lambda edge, node: node.x)
    with pytest.raises(TypeError, match="the graph must be a RelGraph"):
        layer(3, **X)
    plain = random_edges(0, 30, 200).plan(attention=False)
    with pytest.raises(ValueError, match="no attention part"):
        layer(plain, **X)
    with pytest.raises(ValueError, match="lower takes 'jax', got 'cuda'"):
        layer.lower("cuda")


def test_values_of_nodes_alone_and_constants():
    layer = relational.compile(lambda edge, node: (node.x + 1, jnp.ones(2)))
    x, ones = layer(G, **X)
    assert (x == 2).all()
    assert ones.shape == (30, 2)


def test_operations_of_every_kind():
    def function(edge, node):
        x = jnp.copy(edge.src.x)
        pairs = jnp.stack([jnp.sort(x), jnp.flip(x)]).T  # a permutation alone
        looped = jax.lax.fori_loop(0, 2, lambda _, y: jnp.cos(y), pairs)
        return node.sum(looped.T[0]) + node.max(jnp.concatenate([x[:2], x[2:] * 2]))

    layer = relational.compile(function)
    got, wanted = layer(G, **VARIED), layer.lower("jax")(G, **VARIED)
    compiled.assert_close(got, wanted)


def test_functions_inside_and_over_heads():
    def function(edge, node):
        each = jax.vmap(lambda row: node.sum(jax.jit(jnp.sin)(row)))
        return each(edge.src.x.reshape(2, 2)).reshape(-1)

    got = relational.compile(function)(G, **X)
    wanted = relational.compile(lambda edge, node: node.sum(jnp.sin(edge.src.x)))(G, **X)
    assert (got == wanted).all()


def test_explain_shows_both_programs_and_what_they_cost():
    tables = arguments(compiled.rgat, G)
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tables)
    layer = relational.compile(compiled.rgat)
    text = layer.explain(G, **shapes)
    assert text == layer.explain(G, **tables)
    written, runs = text.split("as it runs:")
    assert "200 edges" in written
    assert "dot_general" in written
    assert "dot_general" not in runs
    assert "source pairs" in runs
    assert re.search(r"abc,bc->ab +%\d+, %\d+", runs), "weights are multiplied first"
    assert re.search(r"\nC\+R .* <- runs$", text)
