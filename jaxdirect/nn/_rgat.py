"""RGAT's layer for nnx and linen alike: options, parameters, and a function of arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdirect.nn import _parameters
from jaxdirect.nn._parameters import Parameter, Parameters, glorot, ones, zeros
from jaxdirect.nn._rgcn import decomposed
from jaxdirect.relational import RelGraph, _checks, rgat_conv, rgcn_conv
from jaxdirect.relational._edge_attention import edge_attention, weighted_values
from jaxdirect.relational.aggregate import in_degree
from jaxdirect.relational.rgcn import dense_weight
from jaxdirect.relational.typed_linear import Options

_NAME = "RGATConv"
_ADDITIVE, _PRODUCT = "additive-self-attention", "multiplicative-self-attention"
_ACROSS, _WITHIN = "across-relation", "within-relation"
_MODS = (None, "additive", "scaled", "f-additive", "f-scaled")
_HIGHEST = jax.lax.Precision.HIGHEST


@dataclasses.dataclass(frozen=True)
class RGAT:
    """See `jaxdirect.nn.RGATConv`."""

    in_features: int
    out_features: int
    num_relations: int
    num_bases: int | None
    num_blocks: int | None
    mod: str | None
    attention_mechanism: str
    attention_mode: str
    heads: int
    dim: int
    concat: bool
    negative_slope: float
    dropout: float
    edge_dim: int | None
    bias: bool
    dtype: Any
    precision: Any
    implementation: str

    def __post_init__(self) -> None:
        names = ("in_features", "out_features", "num_relations", "heads", "dim", "edge_dim")
        _parameters.check_sizes(_NAME, **{name: getattr(self, name) for name in names})
        for name, choices in (
            ("mod", _MODS),
            ("attention_mechanism", (_ACROSS, _WITHIN)),
            ("attention_mode", (_ADDITIVE, _PRODUCT)),
        ):
            _parameters.check_choice(_NAME, name, getattr(self, name), choices)
        _parameters.check_decomposition(
            _NAME, self.num_bases, self.num_blocks, self.in_features, self.columns
        )
        if self.attention_mode == _ADDITIVE and self.dim > 1:
            raise ValueError(
                f"{_NAME}: dim must be 1 with {_ADDITIVE!r}, got {self.dim}; use "
                f"attention_mode={_PRODUCT!r}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"{_NAME}: dropout must be in [0, 1), got {self.dropout}")
        if self.dropout and self.mod is not None:
            raise ValueError(f"{_NAME}: mod must be None with dropout, got {self.mod!r}")

    @property
    def columns(self) -> int:
        """Columns of a node's value, all heads together."""
        return self.heads * self.out_features

    def parameters(self) -> Parameters:
        """Names, initialisers and shapes."""
        columns, scores = self.columns, self.heads * self.dim
        shape = (self.num_relations, self.in_features, columns)
        shape = decomposed(shape, self.num_bases, self.num_blocks)
        made: dict[str, Any] = {name: Parameter(glorot, (columns, scores)) for name in ("q", "k")}
        if self.num_bases is None:
            made["weight"] = Parameter(glorot, shape)
        else:
            made["basis"] = Parameter(glorot, shape)
            made["att"] = Parameter(glorot, (self.num_relations, self.num_bases))
        if self.bias:
            width = self.dim * (self.columns if self.concat else self.out_features)
            made["bias"] = Parameter(zeros, (width,))
        if self.edge_dim is not None:
            made["lin_edge"] = {"kernel": Parameter(glorot, (self.edge_dim, columns))}
            made["e"] = Parameter(glorot, (columns, scores))
        out = self.out_features
        if self.mod == "additive":
            made["w"] = Parameter(ones, (out,))
        if self.mod == "scaled":
            made["l1"], made["b1"] = Parameter(ones, (1, out)), Parameter(zeros, (1, out))
            made["l2"] = Parameter(_parameters.full(1 / out), (out, out))
            made["b2"] = Parameter(zeros, (1, out))
        return made

    def from_pyg(self, state: Mapping[str, ArrayLike]) -> dict[str, Any]:
        """The parameters from a state dict of PyG's layer."""
        parameters = self.parameters()
        # PyG's layer has the parameters of every `mod`, whichever it uses.
        unused = {"w", "l1", "b1", "l2", "b2"} - set(parameters)
        used = {name: value for name, value in state.items() if name not in unused}
        given = _parameters.PygState(_NAME, used)
        made: dict[str, Any] = {name: given.take(name) for name in parameters if name != "lin_edge"}
        if self.edge_dim is not None:
            made["lin_edge"] = {"kernel": given.take("lin_edge.weight").T}
        return given.finish(made, parameters)

    def __call__(
        self,
        params: Mapping[str, Any],
        g: RelGraph,
        x: Array,
        edge_attr: Array | None,
        dropout: Callable[[Array], Array] | None,
        return_attention_weights: bool,
    ) -> Any:
        """The layer's output; `dropout` drops attention weights, None: none."""
        _parameters.check_graph(_NAME, self.num_relations, g)
        _checks.has_attention(_NAME, g)
        x = _parameters.check_features(_NAME, self.in_features, x)
        edge_attr = self._check_edges(edge_attr, g.num_edges)
        x, edge_attr, params = _parameters.promote(self.dtype, x, edge_attr, params)
        weight = dense_weight(
            _NAME,
            params["weight" if self.num_bases is None else "basis"],
            params.get("att"),
            self.num_relations,
            self.in_features,
        )
        plain = (
            self.attention_mode == _ADDITIVE
            and self.attention_mechanism == _ACROSS
            and self.mod != "f-additive"
        )
        alpha = None
        if plain and edge_attr is None and dropout is None and not return_attention_weights:
            out = self._fused(params, g, x, weight)
        else:
            alpha = self._attention(params, g, x, weight, edge_attr)
            kept = jnp.where(alpha > 0, alpha + 1, alpha) if self.mod == "f-additive" else alpha
            kept = kept if dropout is None else dropout(kept)
            out = weighted_values(g, x, weight, kept, self.heads, self._options())
            alpha = alpha.astype(x.dtype)
        out = self._modify(params, g, x, weight, out)
        return (out, alpha) if return_attention_weights else out

    def _check_edges(self, edge_attr: Any, num_edges: int) -> Array | None:
        if edge_attr is None:
            return None
        edge_attr = jnp.asarray(edge_attr)
        if self.edge_dim is None:
            raise ValueError(
                f"{_NAME}: edge_attr must be None without edge_dim, got shape "
                f"{list(edge_attr.shape)}; build the layer with edge_dim={edge_attr.shape[-1]}"
            )
        if edge_attr.ndim == 1:
            edge_attr = edge_attr[:, None]
        if edge_attr.shape != (num_edges, self.edge_dim):
            raise ValueError(
                f"{_NAME}: edge_attr must be [{num_edges}, {self.edge_dim}], a row per edge in the "
                f"order in which the edges were given, got shape {list(edge_attr.shape)}"
            )
        return edge_attr

    def _options(self) -> Options:
        return _parameters.options(_NAME, self.precision, self.implementation)

    def _fused(self, params: Mapping[str, Array], g: RelGraph, x: Array, weight: Array) -> Array:
        shape = (self.num_relations, *params["k"].shape)
        out = rgat_conv(
            g,
            x,
            weight,
            jnp.broadcast_to(params["k"], shape),
            jnp.broadcast_to(params["q"], shape),
            heads=self.heads,
            negative_slope=self.negative_slope,
            precision=self.precision,
            implementation=self.implementation,
        )
        return out.reshape(g.num_dst, self.heads, 1, self.out_features)

    def _attention(
        self,
        params: Mapping[str, Any],
        g: RelGraph,
        x: Array,
        weight: Array,
        edge_attr: Array | None,
    ) -> Float[Array, "edges scores"]:
        extra = None
        if edge_attr is not None:
            mixed = jnp.matmul(params["lin_edge"]["kernel"], params["e"], precision=_HIGHEST)
            extra = edge_attr @ mixed
        keys, queries = (
            jnp.einsum("rio,oh->rih", weight, params[name], precision=_HIGHEST)
            for name in ("k", "q")
        )
        slope = self.negative_slope if self.attention_mode == _ADDITIVE else None
        within = self.attention_mechanism == _WITHIN
        return edge_attention(g, x, keys, queries, extra, slope, within, self._options())

    def _modify(
        self, params: Mapping[str, Array], g: RelGraph, x: Array, weight: Array, out: Array
    ) -> Array:
        """What follows the weighted sum: `mod`, the heads' place or mean, the bias."""
        degree = in_degree(g).astype(out.dtype)[:, None]
        if self.mod == "additive":
            total = rgcn_conv(
                g,
                x,
                weight,
                normalize="none",
                precision=self.precision,
                implementation=self.implementation,
            )
            total = total.reshape(g.num_dst, self.heads, 1, self.out_features)
            out = out + params["w"].reshape(1, 1, 1, -1) * total
        elif self.mod == "scaled":
            hidden = jax.nn.relu(degree @ params["l1"] + params["b1"])
            out = out * (hidden @ params["l2"] + params["b2"])[:, None, None, :]
        elif self.mod == "f-scaled":
            out = out * degree[:, :, None, None]
        out = out.reshape(g.num_dst, -1) if self.concat else out.mean(1).reshape(g.num_dst, -1)
        return out + params["bias"][None] if "bias" in params else out
