"""Layers on one edge, as users of `relational.compile` write them."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def rgcn(edge, node, shared):
    """Schlichtkrull et al., arXiv:1703.06103."""
    message = edge.src.x @ edge.relation.weight
    return node.mean(message, by="relation") + node.x @ shared.root


def rgat(edge, node):
    """Busbridge et al., arXiv:1904.05811, across relations."""
    weight, a, b = edge.relation.weight, edge.relation.a, edge.relation.b
    value = (edge.src.x @ weight).reshape(a.shape)
    target = (node.x @ weight).reshape(b.shape)
    score = jax.nn.leaky_relu((value * a).sum(-1) + (target * b).sum(-1), 0.2)
    return node.sum(node.softmax(score)[:, None] * value).reshape(-1)


def hgt(edge, node):
    """Hu et al., arXiv:2003.01332."""
    src, rel = edge.src, edge.relation
    heads, dim, _ = rel.a.shape
    key = (src.x @ src.type.k).reshape(heads, dim)
    value = (src.x @ src.type.v).reshape(heads, dim)
    query = (node.x @ node.type.q).reshape(heads, dim)
    score = rel.p * jnp.einsum("hd,hde,he->h", key, rel.a, query) / dim**0.5
    message = jnp.einsum("hd,hde->he", value, rel.m)
    return node.sum(node.softmax(score)[:, None] * message).reshape(-1)


def gatv2(edge, node):
    """Brody et al., arXiv:2105.14491, with weights of each relation."""
    rel = edge.relation
    value = (edge.src.x @ rel.weight).reshape(rel.att.shape)
    target = (node.x @ rel.target).reshape(rel.att.shape)
    score = (jax.nn.leaky_relu(value + target, 0.2) * rel.att).sum(-1)
    return node.sum(node.softmax(score)[:, None] * value).reshape(-1)


def compgcn(edge, node, shared):
    """Vashishth et al., arXiv:1911.03082, composition by multiplication."""
    message = (edge.src.x * edge.relation.embedding) @ shared.weight
    return jnp.tanh(node.mean(message) + node.x @ shared.root)


def rgatedgcn(edge, node, shared):
    """Bresson and Laurent, arXiv:1711.07553, with weights of each relation."""
    rel = edge.relation
    gate = jax.nn.sigmoid(node.x @ rel.a + edge.src.x @ rel.b + edge.e @ shared.c)
    total = node.sum(gate * (edge.src.x @ rel.weight))
    return jax.nn.relu(node.x @ shared.root + total / (node.sum(gate) + 1e-6))


def transformer(edge, node):
    """Shi et al., arXiv:2009.03509, with HGT's types and prior and a gated skip."""
    rel, heads = edge.relation, edge.relation.prior.shape[0]
    key = (edge.src.x @ edge.src.type.k + edge.e @ rel.e).reshape(heads, -1)
    value = (edge.src.x @ edge.src.type.v + edge.e @ rel.e).reshape(heads, -1)
    query = (node.x @ node.type.q).reshape(heads, -1)
    score = rel.prior * (query * key).sum(-1) / key.shape[-1] ** 0.5
    out = node.sum(node.softmax(score)[:, None] * value).reshape(-1)
    gate = jax.nn.sigmoid(node.x @ node.type.gate)
    return gate * out + (1 - gate) * node.x
