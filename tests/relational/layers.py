"""The layers edge by edge in NumPy, and the graphs and arguments to try them on."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxdirect.relational import RelGraph, hgt_conv, rgat_conv, rgcn_conv


@dataclasses.dataclass(frozen=True)
class Edges:
    """A graph as its edges."""

    src: np.ndarray
    dst: np.ndarray
    etype: np.ndarray
    ntype: np.ndarray
    num_relations: int
    num_types: int

    @property
    def num_nodes(self):
        return self.ntype.size

    def plan(self, **options):
        return RelGraph.from_edges(
            self.src,
            self.dst,
            self.etype,
            num_nodes=self.num_nodes,
            num_relations=self.num_relations,
            ntype=self.ntype,
            num_types=self.num_types,
            **options,
        )


def random_edges(seed, num_nodes, num_edges, num_relations=4, num_types=3, hub=0):
    """Repeated edges, self loops and (with relation `num_relations` - 1) an empty relation."""
    rng = np.random.default_rng(seed)
    src, dst = rng.integers(0, max(num_nodes, 1), (2, num_edges))
    etype = rng.integers(0, max(num_relations - 1, 1), num_edges)
    src[:hub], dst[hub : 2 * hub] = 1 % num_nodes, 0
    etype[: 2 * hub] = 0
    ntype = rng.integers(0, num_types, num_nodes)
    return Edges(src, dst, etype, ntype, num_relations, num_types)


# Name, edges: isolated nodes and repeated edges are in most of them.
GRAPHS = {
    "plain": random_edges(0, 50, 400),
    "sparse": random_edges(1, 90, 40),
    "one_relation": random_edges(2, 30, 200, num_relations=1, num_types=1),
    "hub": random_edges(3, 40, 700, hub=300),
    "no_edges": random_edges(4, 20, 0),
    "one_node": random_edges(5, 1, 5, num_types=1),
}


def rgcn(edges, x, weight, mean=True):
    out = np.zeros((edges.num_nodes, weight.shape[2]))
    triples = list(zip(edges.src, edges.dst, edges.etype, strict=True))
    count: dict = {}
    for _, dst, relation in triples:
        count[dst, relation] = count.get((dst, relation), 0) + 1
    for src, dst, relation in triples:
        out[dst] += x[src] @ weight[relation] / (count[dst, relation] if mean else 1)
    return out


def attention(edges, scores, values):
    """scores [E, H], values [E, H, d] -> [N, H * d]."""
    out = np.zeros((edges.num_nodes, *values.shape[1:]))
    for node in range(edges.num_nodes):
        into = np.flatnonzero(edges.dst == node)
        if into.size:
            weights = np.exp(scores[into] - scores[into].max(0))
            weights /= weights.sum(0)
            out[node] = (weights[:, :, None] * values[into]).sum(0)
    return out.reshape(edges.num_nodes, values.shape[1] * values.shape[2])


def rgat(edges, x, weight, att_src, att_dst, slope=0.2):
    heads = att_src.shape[1] if att_src.ndim == 3 and att_src.shape[1] != weight.shape[2] else None
    num_edges = edges.src.size

    def part(nodes, att):
        rows = np.einsum("ei,eio->eo", x[nodes], weight[edges.etype])
        if heads is None:  # [R, H * d, H]: heads are mixed
            return rows, np.einsum("eo,eoh->eh", rows, att[edges.etype])
        split = rows.reshape(num_edges, heads, rows.shape[1] // heads)
        return rows, (split * att[edges.etype]).sum(-1)

    rows, left = part(edges.src, att_src)
    _, right = part(edges.dst, att_dst)
    scores = left + right
    scores = np.where(scores > 0, scores, slope * scores)
    return attention(
        edges, scores, rows.reshape(num_edges, scores.shape[1], weight.shape[2] // scores.shape[1])
    )


def hgt(edges, x, k, q, v, a, m, p, k_bias=0, q_bias=0, v_bias=0):
    heads, head = a.shape[1:3]

    def typed(weight, bias):
        rows = np.einsum("ni,nio->no", x, weight[edges.ntype])
        rows = rows + (bias[edges.ntype] if np.ndim(bias) else bias)
        return rows.reshape(-1, heads, head)

    keys, queries, values = typed(k, k_bias), typed(q, q_bias), typed(v, v_bias)
    keys = np.einsum("ehd,ehdf->ehf", keys[edges.src], a[edges.etype])
    values = np.einsum("ehd,ehdf->ehf", values[edges.src], m[edges.etype])
    scores = (queries[edges.dst] * keys).sum(-1) * p[edges.etype] / np.sqrt(head)
    return attention(edges, scores, values)


def arguments(model, edges, in_dim, out_dim, heads, seed=0):
    """x and the weights of a layer, float64."""
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.normal(size=shape) / np.sqrt(max(in_dim, 1))

    relations, types, head = edges.num_relations, edges.num_types, out_dim // heads
    x = rng.normal(size=(edges.num_nodes, in_dim))
    if model == "rgcn":
        return [x, draw(relations, in_dim, out_dim)]
    if model == "rgat":
        parts = [rng.normal(size=(relations, heads, head)) for _ in range(2)]
        return [x, draw(relations, in_dim, out_dim), *parts]
    maps = [draw(types, in_dim, out_dim) for _ in range(3)]
    blocks = [rng.normal(size=(relations, heads, head, head)) / np.sqrt(head) for _ in range(2)]
    return [x, *maps, *blocks, rng.normal(size=(relations, heads))]


LAYERS = {"rgcn": rgcn_conv, "rgat": rgat_conv, "hgt": hgt_conv}
ORACLES = {"rgcn": rgcn, "rgat": rgat, "hgt": hgt}
