"""What people write in plain JAX today, from the naive form to the best one known to us."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .problem import NEGATIVE_SLOPE, Problem, relation_scale

# einsum: a weight gathered for each edge, sums over ids as they come.
# loop:   one matrix product for each relation, messages in one array, sums over sorted ids.
# ragged: `jax.lax.ragged_dot` over the edges in order of relation, sums over sorted ids.
KINDS = ("einsum", "loop", "ragged")
LOOP_RELATIONS = 64  # more are unrolled into a program that takes minutes to compile
GB = 10**9
LIMIT_BYTES = 400 * GB

Layer = Callable[[dict[str, jax.Array], jax.Array, dict[str, jax.Array]], jax.Array]


def largest_bytes(kind: str, problem: Problem) -> int:
    """Bytes of the largest array between the inputs and the output."""
    n = problem.sizes()
    rows = n.edges * n.row
    if kind != "einsum":
        return rows
    return rows * n.features // (n.heads if problem.model == "hgt" else 1)


def refuse(kind: str, problem: Problem) -> str | None:
    """Why a rival is not even tried, or None."""
    size = largest_bytes(kind, problem)
    if size > LIMIT_BYTES:
        return f"OOM (estimated {size / 2**30:.0f} GiB)"
    if kind == "loop" and problem.graph.relations > LOOP_RELATIONS:
        return f"unrolls {problem.graph.relations} relations"
    return None


def build(kind: str, problem: Problem) -> tuple[Layer, dict[str, jax.Array]]:
    """A layer f(edges, x, weights) and its `edges`; the graph's edges are in relation order."""
    graph = problem.graph
    order = np.argsort(graph.dst, kind="stable").astype(np.int32)
    arrays: dict[str, Any] = {"src": graph.src, "dst": graph.dst, "etype": graph.etype}
    if kind != "einsum":
        arrays |= {"order": order, "sorted_dst": graph.dst[order]}
    if kind == "ragged":
        arrays["sizes"] = np.diff(graph.relation_ptr).astype(np.int32)
    if problem.model == "rgcn":
        arrays["scale"] = relation_scale(graph)
    make = {"rgcn": _rgcn, "rgat": _rgat, "hgt": _hgt}[problem.model]
    return make(Rival(kind, problem)), {k: jnp.asarray(v) for k, v in arrays.items()}


def take(x: jax.Array, ids: jax.Array) -> jax.Array:
    return x.at[ids].get(mode="promise_in_bounds")


class Rival:
    """The two steps in which the rivals differ: typed maps, and sums into destinations."""

    def __init__(self, kind: str, problem: Problem):
        self.kind, self.problem = kind, problem
        self.ptr = [int(p) for p in problem.graph.relation_ptr]
        self.type_ptr = [0, *np.cumsum(problem.graph.type_sizes).tolist()]
        self.nodes, self.heads = problem.graph.nodes, problem.heads

    def typed(self, edges, rows: jax.Array, weight: jax.Array) -> jax.Array:
        """rows [E, i] times weight [R, i, o] by the edge's relation -> [E, o]."""
        if self.kind == "einsum":
            return jnp.einsum("ei,eio->eo", rows, take(weight, edges["etype"]))
        if self.kind == "ragged":
            return jax.lax.ragged_dot(rows, weight, edges["sizes"])
        parts = zip(self.ptr[:-1], self.ptr[1:], strict=True)
        return jnp.concatenate([rows[a:b] @ weight[r] for r, (a, b) in enumerate(parts)])

    def typed_heads(self, edges, rows: jax.Array, weight: jax.Array) -> jax.Array:
        """rows [E, H * i] times weight [R, H, i, i], head by head -> [E, H * i]."""
        relations, heads, width, _ = weight.shape
        if self.kind == "einsum":
            split = rows.reshape(-1, heads, width)
            out = jnp.einsum("ehi,ehij->ehj", split, take(weight, edges["etype"]))
            return out.reshape(rows.shape)
        eye = jnp.eye(heads, dtype=weight.dtype)
        whole = jnp.einsum("rhij,hg->rhigj", weight, eye).reshape(relations, heads * width, -1)
        return self.typed(edges, rows, whole)

    def by_destination(self, edges, rows: jax.Array) -> tuple[jax.Array, jax.Array, bool]:
        """Rows in the order in which they are summed, their destinations, whether sorted."""
        if self.kind == "einsum":
            return rows, edges["dst"], False
        return take(rows, edges["order"]), edges["sorted_dst"], True

    def sum_into(self, edges, messages: jax.Array) -> jax.Array:
        """messages [E, ...] -> [N, ...]."""
        rows, dst, in_order = self.by_destination(edges, messages)
        return jax.ops.segment_sum(rows, dst, self.nodes, indices_are_sorted=in_order)

    def attend(self, edges, logits: jax.Array, values: jax.Array) -> jax.Array:
        """logits [E, H] and values [E, H * i] -> [N, H * i], softmax over a node's in-edges."""
        logits, dst, in_order = self.by_destination(edges, logits)
        values, _, _ = self.by_destination(edges, values)
        most = jax.ops.segment_max(logits, dst, self.nodes, indices_are_sorted=in_order)
        share = jnp.exp(logits - jax.lax.stop_gradient(take(most, dst)))
        total = jax.ops.segment_sum(share, dst, self.nodes, indices_are_sorted=in_order)
        share = share / take(total, dst)
        weighted = (values.reshape(*share.shape, -1) * share[..., None]).reshape(values.shape)
        return jax.ops.segment_sum(weighted, dst, self.nodes, indices_are_sorted=in_order)

    def by_node_type(self, x: jax.Array, weight: jax.Array) -> jax.Array:
        """x [N, i] times weight [T, i, o] by the node's type; types have consecutive ids."""
        parts = zip(self.type_ptr[:-1], self.type_ptr[1:], strict=True)
        return jnp.concatenate([x[a:b] @ weight[t] for t, (a, b) in enumerate(parts)])


def _rgcn(rival: Rival) -> Layer:
    def layer(edges, x, weights):
        messages = rival.typed(edges, take(x, edges["src"]), weights["weight"])
        return rival.sum_into(edges, messages * edges["scale"][:, None].astype(x.dtype))

    return layer


def _rgat(rival: Rival) -> Layer:
    def layer(edges, x, weights):
        weight, heads = weights["weight"], rival.heads
        values = rival.typed(edges, take(x, edges["src"]), weight)
        split = values.reshape(-1, heads, values.shape[1] // heads)
        from_src = (split * take(weights["att_src"], edges["etype"])).sum(-1)
        if rival.kind == "einsum":
            at_dst = rival.typed(edges, take(x, edges["dst"]), weight).reshape(split.shape)
            from_dst = (at_dst * take(weights["att_dst"], edges["etype"])).sum(-1)
        else:  # the weight times the vector first: H numbers an edge instead of a row
            relations, features, _ = weight.shape
            maps = weight.reshape(relations, features, heads, -1)
            folded = jnp.einsum("rihd,rhd->rih", maps, weights["att_dst"])
            from_dst = rival.typed(edges, take(x, edges["dst"]), folded)
        logits = jax.nn.leaky_relu(from_src + from_dst, NEGATIVE_SLOPE)
        return rival.attend(edges, logits, values)

    return layer


def _hgt(rival: Rival) -> Layer:
    def layer(edges, x, weights):
        keys, queries, values = (rival.by_node_type(x, weights[f"{k}_weight"]) for k in "kqv")
        keys = rival.typed_heads(edges, take(keys, edges["src"]), weights["a_rel"])
        values = rival.typed_heads(edges, take(values, edges["src"]), weights["m_rel"])
        queries = take(queries, edges["dst"])
        width = x.shape[1] // rival.heads
        scores = (queries * keys).reshape(-1, rival.heads, width).sum(-1)
        logits = scores * take(weights["p_rel"], edges["etype"]) / width**0.5
        return rival.attend(edges, logits, values)

    return layer
