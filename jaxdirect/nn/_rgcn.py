"""RGCN's layer for nnx and linen alike: options, parameters, and a function of arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from jaxdirect.nn import _parameters
from jaxdirect.nn._parameters import Parameter, Parameters, glorot
from jaxdirect.relational import RelGraph, rgcn_conv

_NORMALIZE = {"mean": "relation_mean", "sum": "none"}
_NAME = "RGCNConv"


def decomposed(
    shape: tuple[int, int, int], num_bases: int | None, num_blocks: int | None
) -> tuple[int, ...]:
    """The shape of a weight `[num_relations, rows, columns]` that is stored decomposed."""
    num_relations, rows, columns = shape
    if num_bases is not None:
        return (num_bases, rows, columns)
    if num_blocks is not None:
        return (num_relations, num_blocks, rows // num_blocks, columns // num_blocks)
    return shape


def stored_rows(layer: str, state: Mapping[str, ArrayLike], name: str) -> int:
    """The rows of a state's weight, stored as `decomposed` says."""
    shape = np.shape(_parameters.PygState(layer, state).take(name))
    return shape[1] * shape[2] if len(shape) == 4 else shape[1]


@dataclasses.dataclass(frozen=True)
class RGCN:
    """See `jaxdirect.nn.RGCNConv`."""

    in_features: int
    out_features: int
    num_relations: int
    num_bases: int | None
    num_blocks: int | None
    aggr: str
    root_weight: bool
    bias: bool
    dtype: Any
    precision: Any
    implementation: str

    def __post_init__(self) -> None:
        _parameters.check_sizes(
            _NAME,
            in_features=self.in_features,
            out_features=self.out_features,
            num_relations=self.num_relations,
        )
        _parameters.check_choice(_NAME, "aggr", self.aggr, tuple(_NORMALIZE))
        _parameters.check_decomposition(
            _NAME, self.num_bases, self.num_blocks, self.in_features, self.out_features
        )

    def parameters(self) -> Parameters:
        """Names, initialisers and shapes."""
        rows, columns = self.in_features, self.out_features
        shape = decomposed((self.num_relations, rows, columns), self.num_bases, self.num_blocks)
        made = {"weight": Parameter(glorot, shape)}
        if self.num_bases is not None:
            made["comp"] = Parameter(glorot, (self.num_relations, self.num_bases))
        if self.root_weight:
            made["root"] = Parameter(glorot, (rows, columns))
        if self.bias:
            made["bias"] = Parameter(_parameters.zeros, (columns,))
        return made

    def from_pyg(self, state: Mapping[str, ArrayLike]) -> dict[str, Any]:
        """The parameters from a state dict of PyG's layer."""
        given, parameters = _parameters.PygState(_NAME, state), self.parameters()
        return given.finish({name: given.take(name) for name in parameters}, parameters)

    def __call__(self, params: Mapping[str, Any], g: RelGraph, x: Array | None) -> Array:
        """The layer's output."""
        _parameters.check_graph(_NAME, self.num_relations, g)
        if x is not None:
            x = _parameters.check_features(_NAME, self.in_features, x)
        elif self.num_blocks is not None:
            raise ValueError(
                f"{_NAME}: num_blocks needs node features, got x=None; use num_bases instead"
            )
        elif self.in_features != g.num_src:
            raise ValueError(
                f"{_NAME}: without node features in_features must be the graph's {g.num_src} "
                f"nodes, got {self.in_features}"
            )
        x, params = _parameters.promote(self.dtype, x, params)
        return rgcn_conv(
            g,
            x,
            params["weight"],
            comp=params.get("comp"),
            root_weight=params.get("root"),
            bias=params.get("bias"),
            normalize=_NORMALIZE[self.aggr],
            precision=self.precision,
            implementation=self.implementation,
        )
