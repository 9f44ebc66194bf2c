"""The heterogeneous graph transformer layer, for flax.linen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdirect.nn import _hgt
from jaxdirect.nn._node_types import stored_row_lengths
from jaxdirect.nn.linen import _parameters
from jaxdirect.relational import RelGraph


class HGTConv(nn.Module):
    """The linen twin of `jaxdirect.nn.HGTConv`: same parameters, same numbers.

    Args:
        out_features: length of an output row.
        metadata: the node types' names and the edge types as (source type, name, destination
            type), in the order of the graph's numbers; or just how many there are.
        heads: number of heads.
        dtype: of the computation; None: the widest of the inputs' and parameters'.
        param_dtype: of the parameters.
        precision: as in `jaxdirect.relational.hgt_conv`.
        implementation: as in `jaxdirect.relational.hgt_conv`.

    Raises:
        ValueError: when called, if options or sizes are impossible, shapes do not fit, or the
            graph has no node types or no attention part.
        TypeError: when called, if the graph is no `RelGraph`.

    Source: Hu et al., arXiv:2003.01332; the layer of PyTorch Geometric.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxdirect.relational import RelGraph
        >>> g = RelGraph.from_edges([0, 1], [2, 2], [0, 0], num_nodes=3, ntype=[0, 0, 1])
        >>> conv, x = HGTConv(8, (2, 1), heads=2), jnp.ones((3, 5))
        >>> conv.apply(conv.init(jax.random.key(0), g, x), g, x).shape
        (3, 8)
    """

    out_features: int
    metadata: Any
    heads: int = 1
    dtype: Any = None
    param_dtype: Any = jnp.float32
    precision: Any = None
    implementation: str = "auto"

    @nn.compact
    def __call__(
        self,
        g: RelGraph,
        x: Float[Array, "nodes in_features"] | Mapping[str, Float[Array, "_ _"]],
    ) -> Any:
        """Attends from each node to its in-neighbours.

        Args:
            g: the graph, with the layer's node types and relations, built with `attention=True`.
            x: `[num_nodes, in_features]`, the nodes' rows; or a dict from node types to the rows
                of the nodes of each, in the order of the nodes' numbers.

        Returns:
            `[num_nodes, out_features]` (a block's destinations); for a dict a dict, of the node
            types that some edge type leads to.
        """
        if isinstance(x, Mapping):
            layer = self._layer({name: jnp.shape(rows)[-1] for name, rows in x.items()})
        else:
            layer = self._layer(jnp.shape(x)[-1])
        return layer(_parameters.make(self, layer.parameters(), self.param_dtype), g, x)

    def load_pyg(self, state: Mapping[str, ArrayLike]) -> dict[str, Any]:
        """The variables that hold the parameters of a `torch_geometric.nn.HGTConv`.

        Args:
            state: its `state_dict()`, as NumPy arrays or CPU tensors.

        Returns:
            What `apply` takes.

        Raises:
            ValueError: the state has other names or shapes than this layer, or the metadata has
                no names.
        """
        layer = self._layer(stored_row_lengths("HGTConv", self.metadata, state))
        return _parameters.variables(layer.from_pyg(state), self.param_dtype)

    def _layer(self, in_features: int | dict[str, int]) -> _hgt.HGT:
        return _hgt.build(
            in_features,
            self.out_features,
            self.metadata,
            self.heads,
            self.dtype,
            self.precision,
            self.implementation,
        )
