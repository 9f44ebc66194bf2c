"""The relational graph attention layer (RGAT)."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdirect import _compat
from jaxdirect.relational import _checks
from jaxdirect.relational._attend import AttentionOptions, attend_additive
from jaxdirect.relational._pairs import (
    block_diagonal,
    by_relation,
    pad_columns,
    pad_heads,
    padded_head,
    pair_rows,
    plan_of,
    slot_rows,
    unpad_heads,
)
from jaxdirect.relational.graph import RelGraph
from jaxdirect.relational.typed_linear import Options


@dataclasses.dataclass(frozen=True)
class _Options:
    heads: int
    negative_slope: float
    reorder: bool
    linear: Options


def _by_relation(weight: Array, attention: Array, heads: int) -> Array:
    """`W_r a_r` `[num_relations, in_dim, heads]`: scores straight from the nodes' rows."""
    precision = jax.lax.Precision.HIGHEST
    if attention.shape[1] != heads or heads * attention.shape[2] != weight.shape[2]:
        return jnp.einsum("rio,roh->rih", weight, attention, precision=precision)
    num_relations, heads, head = attention.shape
    split = weight.reshape(num_relations, weight.shape[1], heads, head)
    return jnp.einsum("rihd,rhd->rih", split, attention, precision=precision)


def _score_weight(attention: Array, heads: int, head: int, padded: int) -> Array:
    """`[num_relations, heads * padded, columns]`: scores from the rows of all heads."""
    if attention.shape[1] == heads and attention.shape[2] == head:
        attention = block_diagonal(attention[..., None])
    return jnp.swapaxes(pad_heads(jnp.swapaxes(attention, 1, 2), heads, head, padded), 1, 2)


@functools.partial(jax.jit, static_argnums=(6,))
def _rgat(
    x: Array,
    weight: Array,
    att_src: Array,
    att_dst: Array,
    bias: Array | None,
    graph: RelGraph,
    options: _Options,
) -> Array:
    plan = plan_of(graph)
    heads, head = options.heads, weight.shape[2] // options.heads
    padded = padded_head(head, x.dtype)
    values = pad_heads(weight, heads, head, padded)
    targets = x[: graph.num_dst]
    if options.reorder:
        scores = [_by_relation(weight, attention, heads) for attention in (att_src, att_dst)]
    else:
        scores = [_score_weight(each, heads, head, padded) for each in (att_src, att_dst)]
    # Rows keep 32-byte steps.
    from_src, from_dst = (pad_columns(each, -(-heads // 8) * 8) for each in scores)
    if options.reorder:
        # Parts of the scores come out of the same product as the values.
        rows_weight = by_relation(jnp.concatenate([values, from_src], 2), graph)
        rows = pair_rows(x, rows_weight, plan.src_tiles, plan.src_rows, options.linear)
        queries = pair_rows(targets, from_dst, plan.dst_tiles, plan.dst_rows, options.linear)
    else:
        rows_weight, from_src = by_relation(values, graph), by_relation(from_src, graph)
        rows = pair_rows(x, rows_weight, plan.src_tiles, plan.src_rows, options.linear)
        parts = slot_rows(rows, from_src, plan.src_tiles, options.linear)
        rows = jnp.concatenate([rows, parts], 1)
        queries = pair_rows(targets, values, plan.dst_tiles, plan.dst_rows, options.linear)
        queries = slot_rows(queries, from_dst, plan.dst_tiles, options.linear)
    attention = AttentionOptions(
        heads, heads * padded, options.negative_slope, options.linear.implementation
    )
    out = attend_additive(rows, queries, plan, graph.incoming, attention)
    out = unpad_heads(out, heads, head, padded)
    return out if bias is None else out + bias[None]


def rgat_conv(
    g: RelGraph,
    x: Float[Array, "nodes in_dim"],
    weight: Float[Array, "relations in_dim out_dim"],
    att_src: Float[Array, "relations heads head_dim"],
    att_dst: Float[Array, "relations heads head_dim"],
    *,
    heads: int | None = None,
    bias: Float[Array, " out_dim"] | None = None,
    negative_slope: float = 0.2,
    reorder: bool = True,
    precision: Any = None,
    implementation: str = "auto",
) -> Float[Array, "nodes out_dim"]:
    """Relational graph attention over all in-edges of a node, all relations together.

    The score of edge e = (j, r, i) and head h is `leaky_relu(<x_j W_r, att_src[r]>_h +
    <x_i W_r, att_dst[r]>_h)`; its value is `x_j W_r`. Scores are computed from `W_r att` (linear
    operator reordering), values once per (source, relation) pair (compaction), softmax and sum in
    one pass over the edges.

    Args:
        g: the graph, built with `attention=True`.
        x: `[num_nodes, in_dim]`.
        weight: `[num_relations, in_dim, heads * head_dim]`.
        att_src: `[num_relations, heads, head_dim]`, or `[num_relations, heads * head_dim, heads]`
            where heads are mixed, as in PyG.
        att_dst: the same shape.
        heads: number of heads; needed only where att is `[num_relations, n, 1]`, which may mean n
            heads of one column or one head whose n columns are mixed.
        bias: `[heads * head_dim]`.
        negative_slope: of the leaky rectifier, not negative.
        reorder: whether to multiply W_r by att first (linear operator reordering), so that scores
            need no transformed rows of the destinations.
        precision: as `jax.lax.Precision`; for float32 on a GPU the default may use TF32, and
            `HIGHEST` means full float32 accuracy.
        implementation: `"auto"`, `"native"` or `"reference"` (plain JAX).

    Returns:
        `[num_nodes, heads * head_dim]` in x's dtype; 0 (plus bias) where no edge comes in.
        Differentiable, any number of times, in x and all weights.

    Raises:
        TypeError: arguments are no floating-point arrays, or of different dtypes.
        ValueError: shapes do not fit, an option is unknown, or the graph has no attention part.

    Source: Busbridge et al., arXiv:1904.05811; reordering and compaction as in Hector,
        arXiv:2301.06284, section 3.2.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxdirect.relational import RelGraph, rgat_conv
        >>> g = RelGraph.from_edges([0, 1, 2], [2, 2, 0], [0, 0, 1], num_nodes=3)
        >>> x, weight = jnp.array([[1.0], [3.0], [5.0]]), jnp.ones((2, 1, 1))
        >>> rgat_conv(g, x, weight, jnp.zeros((2, 1, 1)), jnp.zeros((2, 1, 1))).ravel()
        Array([5., 0., 2.], dtype=float32)
    """
    op = "rgat_conv"
    _checks.graph(op, g)
    _checks.has_attention(op, g)
    x = _checks.nodes(op, "x", x, g.num_src)
    weight = _checks.floating(op, "weight", weight)
    _checks.shape(op, "weight", weight, g.num_relations, x.shape[1], "heads * head_dim")
    att_src, att_dst = (
        _checks.floating(op, name, value)
        for name, value in (("att_src", att_src), ("att_dst", att_dst))
    )
    heads = _heads(op, g.num_relations, weight.shape[2], att_src, heads)
    _checks.shape(op, "att_dst", att_dst, *att_src.shape)
    if bias is not None:
        bias = _checks.floating(op, "bias", bias)
        _checks.shape(op, "bias", bias, weight.shape[2])
    _checks.same_dtype(op, x=x, weight=weight, att_src=att_src, att_dst=att_dst, bias=bias)
    if not negative_slope >= 0:
        raise ValueError(f"{op}: negative_slope must not be negative, got {negative_slope}")
    linear = Options(_checks.precision(op, precision), _checks.implementation(op, implementation))
    options = _Options(heads, float(negative_slope), bool(reorder), linear)
    with _compat.native_width(x.dtype):
        return _rgat(x, weight, att_src, att_dst, bias, g, options)


def _heads(op: str, num_relations: int, out_dim: int, attention: Array, heads: int | None) -> int:
    fits = []
    if attention.ndim == 3 and attention.shape[0] == num_relations:
        _, rows, columns = attention.shape
        if rows * columns == out_dim and rows:
            fits.append(rows)
        if rows == out_dim and columns and out_dim % columns == 0:
            fits.append(columns)
    if heads is not None:
        fits = [fit for fit in fits if fit == heads]
    if not fits:
        raise ValueError(
            f"{op}: att_src must be [{num_relations}, heads, head_dim] or [{num_relations}, "
            f"{out_dim}, heads] with heads * head_dim = {out_dim}"
            f"{'' if heads is None else f' and heads = {heads}'}, got shape {list(attention.shape)}"
        )
    if len(set(fits)) > 1:
        raise ValueError(
            f"{op}: att_src of shape {list(attention.shape)} may mean {fits[0]} heads of one "
            f"column or one head of {out_dim} mixed columns; say which with heads="
        )
    return fits[0]
