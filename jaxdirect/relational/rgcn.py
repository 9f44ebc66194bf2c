"""The relational graph convolution (RGCN)."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdirect import _compat, _gradient
from jaxdirect.relational import _checks
from jaxdirect.relational._embedding import embedding_sum, exact_scale
from jaxdirect.relational._linear_op import linear
from jaxdirect.relational._lists import TILE
from jaxdirect.relational._outer_op import outer
from jaxdirect.relational._parts import Sums
from jaxdirect.relational._sum_op import list_sum
from jaxdirect.relational.graph import RelGraph

NORMALIZATIONS = ("relation_mean", "none")


@dataclasses.dataclass(frozen=True)
class _Options:
    mean: bool
    precision: int
    implementation: str


def _scales(
    sums: Sums, options: _Options, dtype: Any
) -> tuple[Array | None, Array | None, Array | None]:
    if not options.mean:
        return None, None, None
    far, into, outof = (
        exact_scale(scale, dtype) for scale in (sums.far_scale, sums.into_scale, sums.outof_scale)
    )
    return far[:, None], into[:, None], outof[:, None]


def _summed(x: Array, sums: Sums, direct: bool, scale: Array | None, options: _Options) -> Array:
    """The sum over its list of each slot of the direct tiles, or of the others."""
    split = TILE * sums.tiles.num_direct
    return list_sum(
        x,
        sums.tiles.far,
        rows=(0, split) if direct else (split, sums.tiles.num_slots - split),
        weights=scale,
        implementation=options.implementation,
    )


def _forward(x: Array, weight: Array, sums: Sums, options: _Options) -> tuple[Array, Array]:
    far, into, _ = _scales(sums, options, weight.dtype)
    summed = _summed(x, sums, False, far, options)
    rows = linear(
        (x, True),
        weight,
        sums.tiles,
        second=(summed, False),
        num_first=sums.tiles.num_direct,
        precision=options.precision,
        implementation=options.implementation,
    )
    return list_sum(rows, sums.into, weights=into, implementation=options.implementation), summed


# Each relation's rows are transformed on its smaller side: once per (source, relation) and then
# summed, or summed per (destination, relation) and then transformed. The backward is the same on
# the transposed lists.
@_gradient.custom_vjp(3)
def _convolve(x: Array, weight: Array, sums: Sums, options: _Options) -> Array:
    return _forward(x, weight, sums, options)[0]


def _fwd(x: Array, weight: Array, sums: Sums, options: _Options) -> tuple[Array, tuple]:
    out, summed = _forward(x, weight, sums, options)
    return out, (x, summed, weight, sums)


def _bwd(options: _Options, residual: tuple, cotangent: Array) -> tuple[Array, Array, None]:
    x, summed, weight, sums = residual
    far, _, outof = _scales(sums, options, weight.dtype)
    tiles = sums.tiles
    summed_cotangent = _summed(cotangent, sums, True, far, options)
    rows = linear(
        (summed_cotangent, False),
        weight,
        tiles,
        second=(cotangent, True),
        num_first=tiles.num_direct,
        transposed=True,
        precision=options.precision,
        implementation=options.implementation,
    )
    x_grad = list_sum(rows, sums.outof, weights=outof, implementation=options.implementation)
    weight_grad = outer(
        (x, True),
        (summed_cotangent, False),
        tiles,
        a_second=(summed, False),
        b_second=(cotangent, True),
        num_first=tiles.num_direct,
        precision=options.precision,
        implementation=options.implementation,
    )
    return x_grad, weight_grad, None


_convolve.defvjp(_fwd, _bwd)


@functools.partial(jax.jit, static_argnums=(5,))
def _rgcn(
    x: Array | None,
    weight: Array,
    root_weight: Array | None,
    bias: Array | None,
    graph: RelGraph,
    options: _Options,
) -> Array:
    if x is None:
        out = embedding_sum(weight, graph, options.mean, options.implementation)
    else:
        out = _convolve(x, weight, graph.sums, options)
    if root_weight is not None:
        precision = (jax.lax.Precision.DEFAULT, jax.lax.Precision.HIGHEST)[options.precision]
        nodes = graph.num_dst
        root = root_weight if x is None else jnp.matmul(x[:nodes], root_weight, precision=precision)
        out = out + root
    return out if bias is None else out + bias[None]


def dense_weight(op: str, weight: Any, comp: Any, num_relations: int, in_dim: int | None) -> Array:
    """`[num_relations, in_dim, out_dim]` of a plain, basis or block-diagonal weight."""
    weight = _checks.floating(op, "weight", weight)
    if comp is not None:
        comp = _checks.floating(op, "comp", comp)
        _checks.shape(op, "comp", comp, num_relations, "bases")
        _checks.shape(op, "weight", weight, comp.shape[1], in_dim or "in_dim", "out_dim")
        _checks.same_dtype(op, weight=weight, comp=comp)
        precision = jax.lax.Precision.HIGHEST
        return jnp.einsum("rb,bio->rio", comp, weight, precision=precision)
    if weight.ndim == 4:
        _, blocks, rows, columns = weight.shape
        if in_dim is None or weight.shape[0] != num_relations or blocks * rows != in_dim:
            raise ValueError(
                f"{op}: a block-diagonal weight must be [{num_relations}, blocks, in_dim / blocks, "
                f"out_dim / blocks] with in_dim = {in_dim}, got shape {list(weight.shape)}"
            )
        same = jnp.eye(blocks, dtype=weight.dtype)
        dense = jnp.einsum("rbio,bc->rbico", weight, same)
        return dense.reshape(num_relations, blocks * rows, blocks * columns)
    _checks.shape(op, "weight", weight, num_relations, in_dim or "num_nodes", "out_dim")
    return weight


def rgcn_conv(
    g: RelGraph,
    x: Float[Array, "nodes in_dim"] | None,
    weight: Float[Array, "relations in_dim out_dim"],
    *,
    comp: Float[Array, "relations bases"] | None = None,
    root_weight: Float[Array, "in_dim out_dim"] | None = None,
    bias: Float[Array, " out_dim"] | None = None,
    normalize: str = "relation_mean",
    precision: Any = None,
    implementation: str = "auto",
) -> Float[Array, "nodes out_dim"]:
    """Relational graph convolution: `y_i = sum_r mean_{j in N_r(i)} x_j W_r + x_i W_root + b`.

    Messages are never stored per edge: each relation is transformed on its smaller side, once per
    (source, relation) or once per (destination, relation) pair; see `RelGraph.explain`.

    Args:
        g: the graph.
        x: `[num_nodes, in_dim]`; None stands for one-hot rows, so that `weight` and `root_weight`
            have a row per node.
        weight: `[num_relations, in_dim, out_dim]`; `[num_bases, in_dim, out_dim]` with `comp`; or
            block-diagonal, `[num_relations, blocks, in_dim / blocks, out_dim / blocks]`.
        comp: `[num_relations, num_bases]`: basis decomposition, `W_r = sum_b comp[r, b] weight[b]`.
        root_weight: `[in_dim, out_dim]`, of the node itself.
        bias: `[out_dim]`.
        normalize: `"relation_mean"`: the messages of each relation are averaged per node, then
            added over relations; `"none"`: all messages are added.
        precision: as `jax.lax.Precision`; for float32 on a GPU the default may use TF32, and
            `HIGHEST` means full float32 accuracy.
        implementation: `"auto"`, `"native"` or `"reference"` (plain JAX).

    Returns:
        `[num_nodes, out_dim]` in x's dtype (float16, bfloat16, float32; float64 in plain JAX on a
        GPU). Differentiable, any number of times, in x and all weights.

    Raises:
        TypeError: arguments are no floating-point arrays, or of different dtypes.
        ValueError: shapes do not fit the graph or each other, or an option is unknown.

    Source: Schlichtkrull et al., arXiv:1703.06103, equations 2 to 4; the kernels follow Hector,
        arXiv:2301.06284.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxdirect.relational import RelGraph, rgcn_conv
        >>> g = RelGraph.from_edges([0, 1, 2], [2, 2, 0], [0, 0, 1], num_nodes=3)
        >>> x = jnp.array([[1.0], [3.0], [5.0]])
        >>> rgcn_conv(g, x, jnp.array([[[1.0]], [[10.0]]])).ravel()
        Array([50.,  0.,  2.], dtype=float32)
    """
    op = "rgcn_conv"
    _checks.graph(op, g)
    if normalize not in NORMALIZATIONS:
        raise ValueError(
            f"{op}: normalize must be one of {', '.join(NORMALIZATIONS)}, got {normalize!r}"
        )
    options = _Options(
        normalize == "relation_mean",
        _checks.precision(op, precision),
        _checks.implementation(op, implementation),
    )
    if x is not None:
        x = _checks.nodes(op, "x", x, g.num_src)
    rows = g.num_src if x is None else x.shape[1]
    dense = dense_weight(op, weight, comp, g.num_relations, rows)
    out_dim = dense.shape[2]
    if root_weight is not None:
        root_weight = _checks.floating(op, "root_weight", root_weight)
        _checks.shape(op, "root_weight", root_weight, rows, out_dim)
    if bias is not None:
        bias = _checks.floating(op, "bias", bias)
        _checks.shape(op, "bias", bias, out_dim)
    _checks.same_dtype(op, x=x, weight=dense, root_weight=root_weight, bias=bias)
    with _compat.native_width(dense.dtype):
        return _rgcn(x, dense, root_weight, bias, g, options)
