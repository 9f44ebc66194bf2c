"""The new layers in plain JAX, as one writes them without the library: a weight for each edge.

Sources and weights are gathered for every edge, sums are segment sums; maps by a node's type go
over slices of x, since types have consecutive ids. See "einsum" in relational_peers/peers_jax.py.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from relational_peers.peers_jax import Layer, Rival, take
from relational_peers.problem import NEGATIVE_SLOPE

from .problem import LayerProblem


def build(problem: LayerProblem) -> tuple[Layer, dict[str, jax.Array]]:
    """A layer f(edges, x, tables) and its `edges`."""
    graph = problem.graph
    arrays = {"src": graph.src, "dst": graph.dst, "etype": graph.etype}
    if problem.model == "compgcn":
        degree = np.bincount(graph.dst, minlength=graph.nodes)
        arrays["degree"] = np.maximum(degree, 1).astype(np.float32)[:, None]
    edges = {name: jnp.asarray(array) for name, array in arrays.items()} | problem.edge_table()
    make = {
        "gatv2": _gatv2,
        "compgcn": _compgcn,
        "rgatedgcn": _rgatedgcn,
        "transformer": _transformer,
    }[problem.model]
    return make(Rival("einsum", problem)), edges


def _gatv2(plain: Rival) -> Layer:
    def layer(edges, x, tables):
        rel = tables["relations"]
        values = plain.typed(edges, take(x, edges["src"]), rel["weight"])
        hidden = values + plain.typed(edges, take(x, edges["dst"]), rel["target"])
        att = take(rel["att"], edges["etype"])
        scores = (jax.nn.leaky_relu(hidden, NEGATIVE_SLOPE).reshape(att.shape) * att).sum(-1)
        return plain.attend(edges, scores, values)

    return layer


def _compgcn(plain: Rival) -> Layer:
    def layer(edges, x, tables):
        embedding = take(tables["relations"]["embedding"], edges["etype"])
        messages = (take(x, edges["src"]) * embedding) @ tables["shared"]["weight"]
        mean = plain.sum_into(edges, messages) / edges["degree"]
        return jnp.tanh(mean + x @ tables["shared"]["root"])

    return layer


def _rgatedgcn(plain: Rival) -> Layer:
    def layer(edges, x, tables):
        rel, shared = tables["relations"], tables["shared"]
        sources, targets = take(x, edges["src"]), take(x, edges["dst"])
        open_ = plain.typed(edges, targets, rel["a"]) + plain.typed(edges, sources, rel["b"])
        gates = jax.nn.sigmoid(open_ + edges["e"] @ shared["c"])
        total = plain.sum_into(edges, gates * plain.typed(edges, sources, rel["weight"]))
        return jax.nn.relu(x @ shared["root"] + total / (plain.sum_into(edges, gates) + 1e-6))

    return layer


def _transformer(plain: Rival) -> Layer:
    def layer(edges, x, tables):
        rel, types = tables["relations"], tables["types"]
        keys, values, queries, gate = (
            plain.by_node_type(x, types[name]) for name in ("k", "v", "q", "gate")
        )
        of_edge = plain.typed(edges, edges["e"], rel["e"])
        keys, values = (take(rows, edges["src"]) + of_edge for rows in (keys, values))
        width = x.shape[1] // plain.heads
        scores = (take(queries, edges["dst"]) * keys).reshape(-1, plain.heads, width).sum(-1)
        scores = take(rel["prior"], edges["etype"]) * scores / width**0.5
        gate = jax.nn.sigmoid(gate)
        return gate * plain.attend(edges, scores, values) + (1 - gate) * x

    return layer
