"""HGT's layer for nnx and linen alike: options, parameters, and a function of arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from jaxdirect.nn import _parameters
from jaxdirect.nn._node_types import NodeOrder, row_lengths, stored_row_lengths, type_rows
from jaxdirect.nn._parameters import Parameter, Parameters, ones, uniform
from jaxdirect.relational import RelGraph, _checks, hgt_conv
from jaxdirect.relational._edge_attention import dot_attention
from jaxdirect.relational.typed_linear import Options, linear_by_tiles

_NAME = "HGTConv"

EdgeType = tuple[str, str, str]


@dataclasses.dataclass(frozen=True)
class HGT:
    """See `jaxdirect.nn.HGTConv`."""

    widths: tuple[int, ...]
    out_features: int
    names: tuple[str, ...]
    edge_types: int | tuple[EdgeType, ...]
    heads: int
    dtype: Any
    precision: Any
    implementation: str

    def __post_init__(self) -> None:
        _parameters.check_sizes(
            _NAME,
            out_features=self.out_features,
            heads=self.heads,
            num_relations=self.num_relations,
            **{f"in_features of {name}": width for name, width in self._widths().items()},
        )
        if self.out_features % self.heads:
            raise ValueError(
                f"{_NAME}: heads must divide out_features, got {self.heads} heads and "
                f"out_features = {self.out_features}"
            )
        for kind in self._kinds():
            if len(kind) != 3 or kind[0] not in self.names or kind[2] not in self.names:
                raise ValueError(
                    f"{_NAME}: edge types must be (source type, name, destination type) of the "
                    f"node types {', '.join(self.names)}, got {kind!r}"
                )

    def _widths(self) -> dict[str, int]:
        return dict(zip(self.names, self.widths, strict=True))

    def _kinds(self) -> tuple[EdgeType, ...]:
        return () if isinstance(self.edge_types, int) else self.edge_types

    @property
    def num_relations(self) -> int:
        """Number of edge types."""
        return self.edge_types if isinstance(self.edge_types, int) else len(self.edge_types)

    def parameters(self) -> Parameters:
        """Names, initialisers and shapes."""
        types, out, relations = len(self.names), self.out_features, self.num_relations
        head = out // self.heads
        by_relation = Parameter(uniform(head), (relations, self.heads, head, head))
        return {
            "kqv_lin": {
                name: {
                    "kernel": Parameter(uniform(width), (width, 3 * out)),
                    "bias": Parameter(uniform(width), (3 * out,)),
                }
                for name, width in self._widths().items()
            },
            "k_rel": by_relation,
            "v_rel": by_relation,
            "p_rel": Parameter(ones, (relations, self.heads)),
            "out_lin": {
                "kernel": Parameter(uniform(out), (types, out, out)),
                "bias": Parameter(uniform(out), (types, out)),
            },
            "skip": Parameter(ones, (types,)),
        }

    def from_pyg(self, state: Mapping[str, ArrayLike]) -> dict[str, Any]:
        """The parameters from a state dict of PyG's layer."""
        stored_row_lengths(_NAME, (self.names, self.edge_types), state)
        given = _parameters.PygState(_NAME, state)
        relations, heads = self.num_relations, self.heads
        made: dict[str, Any] = {
            "kqv_lin": {
                name: {
                    "kernel": given.take(f"kqv_lin.lins.{name}.weight").T,
                    "bias": given.take(f"kqv_lin.lins.{name}.bias"),
                }
                for name in self.names
            },
            "p_rel": np.concatenate(
                [given.take(f"p_rel.{'__'.join(kind)}") for kind in self._kinds()]
            ),
            "out_lin": {
                "kernel": np.stack(
                    [given.take(f"out_lin.lins.{name}.weight").T for name in self.names]
                ),
                "bias": np.stack([given.take(f"out_lin.lins.{name}.bias") for name in self.names]),
            },
            "skip": np.concatenate([given.take(f"skip.{name}") for name in self.names]),
        }
        for name in ("k_rel", "v_rel"):
            # PyG counts head by head; a weight per head and relation.
            weight = given.take(f"{name}.weight")
            made[name] = weight.reshape(heads, relations, *weight.shape[1:]).swapaxes(0, 1)
        return given.finish(made, self.parameters())

    def __call__(
        self, params: Mapping[str, Any], g: RelGraph, x: Array | Mapping[str, Array]
    ) -> Array | dict[str, Array]:
        """The layer's output: a dict for a dict."""
        self._check_graph(g)
        return (
            self._on_dict(params, g, x) if isinstance(x, Mapping) else self._on_array(params, g, x)
        )

    def _on_array(self, params: Mapping[str, Any], g: RelGraph, x: Array) -> Array:
        width = self.widths[0]
        if any(other != width for other in self.widths):
            raise ValueError(
                f"{_NAME}: x must be a dict, because in_features differ: "
                f"{', '.join(map(str, self.widths))}; got one array"
            )
        x = _parameters.check_features(_NAME, width, x)
        x, params = _parameters.promote(self.dtype, x, params)
        out = self._project(params, g, self._convolve(params, g, x))
        if width != self.out_features:
            return out
        gate = jax.nn.sigmoid(params["skip"])[:, None]
        gate = type_rows(gate, g, self._options())
        return gate * out + (1 - gate) * x[: g.num_dst]

    def _on_dict(
        self, params: Mapping[str, Any], g: RelGraph, x: Mapping[str, Array]
    ) -> dict[str, Array]:
        order = NodeOrder(_NAME, self.names, g, x)
        for name, width in self._widths().items():
            _parameters.check_features(f"{_NAME} ({name})", width, x[name])
        x, params = _parameters.promote(self.dtype, dict(x), params)
        if len(set(self.widths)) == 1:
            out = self._convolve(params, g, order.join(x))
        else:
            out = self._convolve_projected(params, g, order.join(self._kqv(params, x)))
        parts = order.split(self._project(params, g, out))
        for number, (name, width) in enumerate(self._widths().items()):
            if width == self.out_features:
                gate = jax.nn.sigmoid(params["skip"][number])
                parts[name] = gate * parts[name] + (1 - gate) * x[name]
        reached = {kind[2] for kind in self._kinds()} or set(self.names)
        return {name: rows for name, rows in parts.items() if name in reached}

    def _check_graph(self, g: RelGraph) -> None:
        _parameters.check_graph(_NAME, self.num_relations, g)
        _checks.has_attention(_NAME, g)
        if g.node_tiles is None or g.num_types != len(self.names):
            raise ValueError(
                f"{_NAME}: the graph must have the layer's {len(self.names)} node types, got "
                f"{g.num_types}; build it with ntype= and num_types={len(self.names)}"
            )

    def _options(self) -> Options:
        return _parameters.options(_NAME, self.precision, self.implementation)

    def _convolve(self, params: Mapping[str, Any], g: RelGraph, x: Array) -> Array:
        lins = [params["kqv_lin"][name] for name in self.names]
        k, q, v = jnp.split(jnp.stack([lin["kernel"] for lin in lins]), 3, axis=2)
        k_bias, q_bias, v_bias = jnp.split(jnp.stack([lin["bias"] for lin in lins]), 3, axis=1)
        return hgt_conv(
            g,
            x,
            k,
            q,
            v,
            params["k_rel"],
            params["v_rel"],
            params["p_rel"],
            k_bias=k_bias,
            q_bias=q_bias,
            v_bias=v_bias,
            precision=self.precision,
            implementation=self.implementation,
        )

    def _kqv(self, params: Mapping[str, Any], x: Mapping[str, Array]) -> dict[str, Array]:
        """Keys, values and queries of each type's nodes, whose rows differ in length."""
        made = {}
        for name, lin in params["kqv_lin"].items():
            k, q, v = jnp.split(lin["kernel"], 3, axis=1)
            k_bias, q_bias, v_bias = jnp.split(lin["bias"], 3)
            kernel, bias = jnp.concatenate([k, v, q], 1), jnp.concatenate([k_bias, v_bias, q_bias])
            made[name] = jnp.matmul(x[name], kernel, precision=self.precision) + bias[None]
        return made

    def _convolve_projected(self, params: Mapping[str, Any], g: RelGraph, rows: Array) -> Array:
        keys_values, queries = jnp.split(rows, [2 * self.out_features], axis=1)
        by_relation = (params[name] for name in ("k_rel", "v_rel", "p_rel"))
        return dot_attention(g, keys_values, queries, *by_relation, self._options())

    def _project(self, params: Mapping[str, Any], g: RelGraph, out: Array) -> Array:
        options, lin = self._options(), params["out_lin"]
        activated = jax.nn.gelu(out, approximate=False)
        projected: Any = linear_by_tiles(activated, lin["kernel"], g.node_tiles, options)
        return projected + type_rows(lin["bias"], g, options)


def build(
    in_features: Any,
    out_features: int,
    metadata: Any,
    heads: int,
    dtype: Any,
    precision: Any,
    implementation: str,
) -> HGT:
    """The layer from what users give; a number n of node types names them "0" to "n - 1"."""
    if not isinstance(metadata, Sequence) or len(metadata) != 2:
        raise ValueError(
            f"{_NAME}: metadata must be (node types, edge types) or their numbers, got {metadata!r}"
        )
    types, kinds = metadata
    names = tuple(map(str, range(types)) if isinstance(types, int) else types)
    widths = row_lengths(_NAME, in_features, names)
    kinds = kinds if isinstance(kinds, int) else tuple(tuple(kind) for kind in kinds)
    return HGT(widths, out_features, names, kinds, heads, dtype, precision, implementation)
