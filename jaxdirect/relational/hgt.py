"""The heterogeneous graph transformer layer (HGT)."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdirect import _compat
from jaxdirect.relational import _checks
from jaxdirect.relational._attend import AttentionOptions, attend_dot
from jaxdirect.relational._pairs import (
    add_bias,
    block_diagonal,
    by_relation,
    lookup,
    pad_heads,
    padded_head,
    pair_rows,
    plan_of,
    unpad_heads,
)
from jaxdirect.relational.graph import RelGraph
from jaxdirect.relational.typed_linear import Options, linear_by_tiles


@dataclasses.dataclass(frozen=True)
class _Options:
    heads: int
    reorder: bool
    linear: Options


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Weights:
    k: Array
    q: Array
    v: Array
    a: Array
    m: Array
    p: Array
    k_bias: Array | None
    q_bias: Array | None
    v_bias: Array | None


def _times_head_blocks(rows: Array, blocks: Array) -> Array:
    """`[P, n, heads * d]` times `[P, heads, d, d]`, head by head."""
    pairs, n, columns = rows.shape
    heads, head, _ = blocks.shape[1:]
    split = rows.reshape(pairs, n, heads, head)
    product = jnp.einsum("pnhd,phde->pnhe", split, blocks, precision=jax.lax.Precision.HIGHEST)
    return product.reshape(pairs, n, columns)


def _pair_rows(x: Array, w: _Weights, graph: RelGraph, options: _Options, padded: int) -> Array:
    """Keys and values of each (source, relation) pair, `[slots, 2 * heads * padded]`."""
    plan = plan_of(graph)
    heads, head = options.heads, w.a.shape[-1]
    # Keys and values are heads of one map. The score's factors go into it: they cost nothing there.
    a = (w.a * (w.p[:, :, None, None] / math.sqrt(head))).astype(x.dtype)
    blocks = by_relation(jnp.concatenate([a, w.m], 1), graph)
    typed = jnp.concatenate([w.k, w.v], 2)
    if options.reorder:
        weight = _times_head_blocks(lookup(typed, plan.pair_type), blocks)
    else:
        x = linear_by_tiles(x, typed, graph.node_tiles, options.linear)
        weight = block_diagonal(blocks)
    weight = pad_heads(weight, 2 * heads, head, padded)
    rows = pair_rows(x, weight, plan.src_tiles, plan.src_rows, options.linear)
    if w.k_bias is None and w.v_bias is None:
        return rows
    none = jnp.zeros((w.k.shape[0], heads * head), x.dtype)
    given = [none if bias is None else bias for bias in (w.k_bias, w.v_bias)]
    moved = lookup(jnp.concatenate(given, 1), plan.pair_type)[:, None]
    moved = _times_head_blocks(moved, blocks)[:, 0]
    return add_bias(rows, pad_heads(moved, 2 * heads, head, padded), plan.src_tiles)


@functools.partial(jax.jit, static_argnums=(3,))
def _hgt(x: Array, w: _Weights, graph: RelGraph, options: _Options) -> Array:
    heads, head = options.heads, w.a.shape[-1]
    padded = padded_head(head, x.dtype)
    rows = _pair_rows(x, w, graph, options, padded)
    queries = linear_by_tiles(
        x, pad_heads(w.q, heads, head, padded), graph.node_tiles, options.linear
    )
    if w.q_bias is not None:
        queries = queries + lookup(pad_heads(w.q_bias, heads, head, padded), graph.ntype)
    queries = queries[: graph.num_dst]
    attention = AttentionOptions(heads, heads * padded, 0.0, options.linear.implementation)
    out = attend_dot(rows, queries, plan_of(graph), graph.incoming, attention)
    return unpad_heads(out, heads, head, padded)


def hgt_conv(
    g: RelGraph,
    x: Float[Array, "nodes in_dim"],
    k_weight: Float[Array, "types in_dim out_dim"],
    q_weight: Float[Array, "types in_dim out_dim"],
    v_weight: Float[Array, "types in_dim out_dim"],
    a_rel: Float[Array, "relations heads head_dim head_dim"],
    m_rel: Float[Array, "relations heads head_dim head_dim"],
    p_rel: Float[Array, "relations heads"],
    *,
    k_bias: Float[Array, "types out_dim"] | None = None,
    q_bias: Float[Array, "types out_dim"] | None = None,
    v_bias: Float[Array, "types out_dim"] | None = None,
    reorder: bool = True,
    precision: Any = None,
    implementation: str = "auto",
) -> Float[Array, "nodes out_dim"]:
    """Heterogeneous graph transformer: typed dot-product attention over all in-edges of a node.

    With K, Q, V the typed linear maps of the nodes' rows, edge e = (j, r, i) and head h have the
    score `p_rel[r, h] <Q_i, K_j a_rel[r, h]>_h / sqrt(head_dim)` and the message `V_j m_rel[r, h]`.
    Keys and messages are computed once per (source, relation) pair.

    Args:
        g: the graph, built with `ntype` and `attention=True`.
        x: `[num_nodes, in_dim]`.
        k_weight: `[num_types, in_dim, heads * head_dim]`, by the source's type.
        q_weight: the same shape, by the destination's type.
        v_weight: the same shape, by the source's type.
        a_rel: `[num_relations, heads, head_dim, head_dim]`, of the keys.
        m_rel: the same shape, of the messages.
        p_rel: `[num_relations, heads]`, priors of the scores.
        k_bias: `[num_types, heads * head_dim]`, and so `q_bias` and `v_bias`.
        q_bias: see k_bias.
        v_bias: see k_bias.
        reorder: whether to multiply the weights with one another first (linear operator
            reordering), so that no keys and values of nodes are stored.
        precision: as `jax.lax.Precision`; for float32 on a GPU the default may use TF32, and
            `HIGHEST` means full float32 accuracy.
        implementation: `"auto"`, `"native"` or `"reference"` (plain JAX).

    Returns:
        `[num_nodes, heads * head_dim]` in x's dtype; 0 where no edge comes in. Differentiable,
        any number of times, in x and all weights. Activation, output projection and skip are the
        layer's: `jaxdirect.nn.HGTConv`.

    Raises:
        TypeError: arguments are no floating-point arrays, or of different dtypes.
        ValueError: shapes do not fit, an option is unknown, or the graph has no node types or no
            attention part.

    Source: Hu et al., arXiv:2003.01332, equations 3 to 5; reordering and compaction as in Hector,
        arXiv:2301.06284, section 3.2.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxdirect.relational import RelGraph, hgt_conv
        >>> g = RelGraph.from_edges([0, 1], [2, 2], [0, 0], num_nodes=3, ntype=[0, 0, 1])
        >>> w, block = jnp.ones((2, 1, 1)), jnp.ones((1, 1, 1, 1))
        >>> x = jnp.array([[1.0], [3.0], [0.0]])
        >>> hgt_conv(g, x, w, w, w, block, block, jnp.ones((1, 1))).ravel()
        Array([0., 0., 2.], dtype=float32)
    """
    op = "hgt_conv"
    _checks.graph(op, g)
    _checks.has_attention(op, g)
    if g.node_tiles is None:
        raise ValueError(f"{op}: the graph has no node types; build it with ntype=")
    x = _checks.nodes(op, "x", x, g.num_src)
    given: dict[str, Any] = {
        name: None if value is None else _checks.floating(op, name, value)
        for name, value in dict(
            k_weight=k_weight,
            q_weight=q_weight,
            v_weight=v_weight,
            a_rel=a_rel,
            m_rel=m_rel,
            p_rel=p_rel,
            k_bias=k_bias,
            q_bias=q_bias,
            v_bias=v_bias,
        ).items()
    }
    _check_shapes(op, g, x.shape[1], given)
    _checks.same_dtype(op, x=x, **given)
    heads = given["p_rel"].shape[1]
    linear = Options(_checks.precision(op, precision), _checks.implementation(op, implementation))
    with _compat.native_width(x.dtype):
        return _hgt(x, _Weights(*given.values()), g, _Options(heads, bool(reorder), linear))


def _check_shapes(op: str, g: RelGraph, in_dim: int, given: dict[str, Any]) -> None:
    relations = g.num_relations
    _checks.shape(op, "p_rel", given["p_rel"], relations, "heads")
    _checks.shape(op, "a_rel", given["a_rel"], relations, given["p_rel"].shape[1], "d", "d")
    _, heads, head, _ = given["a_rel"].shape
    for name in ("a_rel", "m_rel"):
        _checks.shape(op, name, given[name], relations, heads, head, head)
    for name in ("k", "q", "v"):
        weight, bias = given[f"{name}_weight"], given[f"{name}_bias"]
        _checks.shape(op, f"{name}_weight", weight, g.num_types, in_dim, heads * head)
        if bias is not None:
            _checks.shape(op, f"{name}_bias", bias, g.num_types, heads * head)
