"""The relational graph convolution, for flax.linen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdirect.nn import _rgcn
from jaxdirect.nn.linen import _parameters
from jaxdirect.relational import RelGraph, _checks


class RGCNConv(nn.Module):
    """The linen twin of `jaxdirect.nn.RGCNConv`: same parameters, same numbers.

    Args:
        out_features: length of an output row.
        num_relations: number of edge types.
        num_bases: stores every relation's weight as a combination of this many.
        num_blocks: stores every relation's weight as this many diagonal blocks.
        aggr: `"mean"` (per relation) or `"sum"`.
        root_weight: whether to have `root`; without it the node itself is left out.
        bias: whether to have `bias`.
        dtype: of the computation; None: the widest of the inputs' and parameters'.
        param_dtype: of the parameters.
        precision: as in `jaxdirect.relational.rgcn_conv`.
        implementation: as in `jaxdirect.relational.rgcn_conv`.

    Raises:
        ValueError: when called, if options or sizes are impossible or shapes do not fit.
        TypeError: when called, if the graph is no `RelGraph`.

    Source: Schlichtkrull et al., arXiv:1703.06103; the layer of PyTorch Geometric.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxdirect.relational import RelGraph
        >>> g = RelGraph.from_edges([0, 1, 2], [2, 2, 0], [0, 0, 1], num_nodes=3)
        >>> conv, x = RGCNConv(4, 2), jnp.ones((3, 8))
        >>> conv.apply(conv.init(jax.random.key(0), g, x), g, x).shape
        (3, 4)
    """

    out_features: int
    num_relations: int
    num_bases: int | None = None
    num_blocks: int | None = None
    aggr: str = "mean"
    root_weight: bool = True
    bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32
    precision: Any = None
    implementation: str = "auto"

    @nn.compact
    def __call__(
        self, g: RelGraph, x: Float[Array, "nodes in_features"] | None = None
    ) -> Float[Array, "nodes out_features"]:
        """Convolves each node with its in-neighbours.

        Args:
            g: the graph, with `num_relations` relations.
            x: `[num_nodes, in_features]`, the nodes' rows; None: nodes have no features, and
                `weight` and `root` have a row for each.

        Returns:
            `[num_nodes, out_features]`; a block's destinations.
        """
        _checks.graph("RGCNConv", g)
        layer = self._layer(g.num_src if x is None else jnp.shape(x)[-1])
        return layer(_parameters.make(self, layer.parameters(), self.param_dtype), g, x)

    def load_pyg(self, state: Mapping[str, ArrayLike]) -> dict[str, Any]:
        """The variables that hold the parameters of a `torch_geometric.nn.RGCNConv`.

        Args:
            state: its `state_dict()`, as NumPy arrays or CPU tensors.

        Returns:
            What `apply` takes.

        Raises:
            ValueError: the state has other names or shapes than this layer.
        """
        layer = self._layer(_rgcn.stored_rows("RGCNConv", state, "weight"))
        return _parameters.variables(layer.from_pyg(state), self.param_dtype)

    def _layer(self, in_features: int) -> _rgcn.RGCN:
        return _rgcn.RGCN(
            in_features,
            self.out_features,
            self.num_relations,
            self.num_bases,
            self.num_blocks,
            self.aggr,
            self.root_weight,
            self.bias,
            self.dtype,
            self.precision,
            self.implementation,
        )
