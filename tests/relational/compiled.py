"""Layers written on one edge, as users would write them, and arguments for them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def rgcn(edge, node, shared):
    message = edge.src.x @ edge.relation.weight
    return node.mean(message, by="relation") + node.x @ shared.root


def rgat(edge, node):
    weight, a, b = edge.relation.weight, edge.relation.a, edge.relation.b
    value = (edge.src.x @ weight).reshape(a.shape)
    target = (node.x @ weight).reshape(b.shape)
    score = jax.nn.leaky_relu((value * a).sum(-1) + (target * b).sum(-1), 0.2)
    return node.sum(node.softmax(score)[:, None] * value).reshape(-1)


def hgt(edge, node):
    src, rel = edge.src, edge.relation
    heads, dim, _ = rel.a.shape
    key = (src.x @ src.type.k).reshape(heads, dim)
    value = (src.x @ src.type.v).reshape(heads, dim)
    query = (node.x @ node.type.q).reshape(heads, dim)
    score = rel.p * jnp.einsum("hd,hde,he->h", key, rel.a, query) / dim**0.5
    message = jnp.einsum("hd,hde->he", value, rel.m)
    return node.sum(node.softmax(score)[:, None] * message).reshape(-1)


def gatv2(edge, node):
    rel = edge.relation
    value = (edge.src.x @ rel.weight).reshape(rel.att.shape)
    target = (node.x @ rel.target).reshape(rel.att.shape)
    score = (jax.nn.leaky_relu(value + target, 0.2) * rel.att).sum(-1)
    return node.sum(node.softmax(score)[:, None] * value).reshape(-1)


def compgcn(edge, node, shared):
    message = (edge.src.x * edge.relation.embedding) @ shared.weight
    return jnp.tanh(node.mean(message) + node.x @ shared.root)


def rgatedgcn(edge, node, shared):
    rel = edge.relation
    gate = jax.nn.sigmoid(node.x @ rel.a + edge.src.x @ rel.b + edge.e @ shared.c)
    total = node.sum(gate * (edge.src.x @ rel.weight))
    return jax.nn.relu(node.x @ shared.root + total / (node.sum(gate) + 1e-6))


def transformer(edge, node):
    rel, heads = edge.relation, edge.relation.prior.shape[0]
    key = (edge.src.x @ edge.src.type.k + edge.e @ rel.e).reshape(heads, -1)
    value = (edge.src.x @ edge.src.type.v + edge.e @ rel.e).reshape(heads, -1)
    query = (node.x @ node.type.q).reshape(heads, -1)
    score = rel.prior * (query * key).sum(-1) / key.shape[-1] ** 0.5
    out = node.sum(node.softmax(score)[:, None] * value).reshape(-1)
    gate = jax.nn.sigmoid(node.x @ node.type.gate)
    return gate * out + (1 - gate) * node.x


MODELS = (rgcn, rgat, hgt, gatv2, compgcn, rgatedgcn, transformer)
HEADS, DIM, WIDTH = 2, 6, 12


def arguments(model, g, seed=0, dtype="float32"):
    """Tables for a model on a graph."""
    rng = np.random.default_rng(seed)

    def drawn(*shape):
        scale = np.sqrt(shape[-2]) if len(shape) > 1 else 1
        return jnp.asarray(rng.normal(size=shape) / max(scale, 1), dtype)

    relations, types = g.num_relations, g.num_types
    width = WIDTH if model is transformer else 8
    made = {"nodes": {"x": drawn(g.num_src, width)}}
    linear = [drawn(relations, 8, WIDTH) for _ in range(3)]
    heads = [drawn(relations, HEADS, DIM) for _ in range(2)]
    edges = {"e": drawn(g.num_edges, 5)}
    if model is rgcn:
        made |= {"relations": {"weight": linear[0]}, "shared": {"root": drawn(8, WIDTH)}}
    elif model is rgat:
        made["relations"] = {"weight": linear[0], "a": heads[0], "b": heads[1]}
    elif model is hgt:
        made["types"] = {name: drawn(types, 8, WIDTH) for name in "kqv"}
        made["relations"] = {name: drawn(relations, HEADS, DIM, DIM) for name in "am"}
        made["relations"]["p"] = drawn(relations, HEADS)
    elif model is gatv2:
        made["relations"] = {"weight": linear[0], "target": linear[1], "att": heads[0]}
    elif model is compgcn:
        made["relations"] = {"embedding": drawn(relations, 8)}
        made["shared"] = {"weight": drawn(8, WIDTH), "root": drawn(8, WIDTH)}
    elif model is rgatedgcn:
        made["relations"] = dict(zip(("a", "b", "weight"), linear, strict=True))
        made |= {"edges": edges, "shared": {"c": drawn(5, WIDTH), "root": drawn(8, WIDTH)}}
    else:
        made["relations"] = {"prior": drawn(relations, HEADS), "e": drawn(relations, 5, WIDTH)}
        made["types"] = {name: drawn(types, WIDTH, WIDTH) for name in ("k", "v", "q", "gate")}
        made["edges"] = edges
    return made


def with_gradients(layer, g, tables, **options):
    """What a layer gives, and the gradient of a sum over it in every table."""

    def total(tables):
        out = layer(g, **tables, **options)
        return (out * jnp.cos(jnp.arange(out.size, dtype=out.dtype)).reshape(out.shape)).sum()

    return layer(g, **tables, **options), jax.grad(total)(tables)


def assert_close(got, wanted, **tolerance):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, **({"rtol": 2e-5, "atol": 1e-5} | tolerance))
