"""The relational graph attention layer, for flax.linen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdirect.nn._rgat import RGAT
from jaxdirect.nn._rgcn import stored_rows
from jaxdirect.nn.linen import _parameters
from jaxdirect.relational import RelGraph


class RGATConv(nn.Module):
    """The linen twin of `jaxdirect.nn.RGATConv`: same parameters, same numbers.

    Args:
        out_features: length of an output row of each head.
        num_relations: number of edge types.
        num_bases: stores every relation's weight as a combination of this many.
        num_blocks: stores every relation's weight as this many diagonal blocks.
        mod: None, `"additive"`, `"scaled"`, `"f-additive"` or `"f-scaled"`.
        attention_mechanism: `"across-relation"` or `"within-relation"`.
        attention_mode: `"additive-self-attention"` or `"multiplicative-self-attention"`.
        heads: number of heads.
        dim: scores of a head; more than 1 only with the multiplicative mode.
        concat: whether the heads' outputs lie side by side; else their mean.
        negative_slope: of the leaky rectifier.
        dropout: probability of dropping an attention weight, from the `dropout` random stream.
        edge_dim: length of an edge's row of features; None: edges have none.
        bias: whether to have `bias`.
        deterministic: whether to drop nothing; here or when called, where there is dropout.
        dtype: of the computation; None: the widest of the inputs' and parameters'.
        param_dtype: of the parameters.
        precision: as in `jaxdirect.relational.rgat_conv`.
        implementation: as in `jaxdirect.relational.rgat_conv`.

    Raises:
        ValueError: when called, if options or sizes are impossible, shapes do not fit or the graph
            has no attention part.
        TypeError: when called, if the graph is no `RelGraph`.

    Source: Busbridge et al., arXiv:1904.05811; the layer of PyTorch Geometric.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxdirect.relational import RelGraph
        >>> g = RelGraph.from_edges([0, 1, 2], [2, 2, 0], [0, 0, 1], num_nodes=3)
        >>> conv, x = RGATConv(4, 2, heads=2), jnp.ones((3, 8))
        >>> conv.apply(conv.init(jax.random.key(0), g, x), g, x).shape
        (3, 8)
    """

    out_features: int
    num_relations: int
    num_bases: int | None = None
    num_blocks: int | None = None
    mod: str | None = None
    attention_mechanism: str = "across-relation"
    attention_mode: str = "additive-self-attention"
    heads: int = 1
    dim: int = 1
    concat: bool = True
    negative_slope: float = 0.2
    dropout: float = 0.0
    edge_dim: int | None = None
    bias: bool = True
    deterministic: bool | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32
    precision: Any = None
    implementation: str = "auto"

    @nn.compact
    def __call__(
        self,
        g: RelGraph,
        x: Float[Array, "nodes in_features"],
        edge_attr: Float[Array, "edges edge_dim"] | None = None,
        *,
        return_attention_weights: bool = False,
        deterministic: bool | None = None,
    ) -> Any:
        """Attends from each node to its in-neighbours.

        Args:
            g: the graph, with `num_relations` relations, built with `attention=True`.
            x: `[num_nodes, in_features]`, the nodes' rows.
            edge_attr: `[num_edges, edge_dim]` (or `[num_edges]`), the edges' rows, in the order in
                which the edges were given.
            return_attention_weights: whether to return the attention weights too.
            deterministic: whether to drop nothing; here or as the layer's attribute.

        Returns:
            `[num_nodes, heads * dim * out_features]`, without `concat` `[num_nodes, dim *
            out_features]`; and if asked for, the weights `[num_edges, heads * dim]` as the softmax
            gives them.
        """
        layer = self._layer(jnp.shape(x)[-1])
        params = _parameters.make(self, layer.parameters(), self.param_dtype)
        drop = None
        if self.dropout and not nn.merge_param("deterministic", self.deterministic, deterministic):
            drop = nn.Dropout(self.dropout, deterministic=False)
        return layer(params, g, x, edge_attr, drop, return_attention_weights)

    def load_pyg(self, state: Mapping[str, ArrayLike]) -> dict[str, Any]:
        """The variables that hold the parameters of a `torch_geometric.nn.RGATConv`.

        Args:
            state: its `state_dict()`, as NumPy arrays or CPU tensors. Parameters of another `mod`,
                which PyG's layer always has, are left out.

        Returns:
            What `apply` takes.

        Raises:
            ValueError: the state has other names or shapes than this layer.
        """
        name = "weight" if self.num_bases is None else "basis"
        layer = self._layer(stored_rows("RGATConv", state, name))
        return _parameters.variables(layer.from_pyg(state), self.param_dtype)

    def _layer(self, in_features: int) -> RGAT:
        return RGAT(
            in_features,
            self.out_features,
            self.num_relations,
            self.num_bases,
            self.num_blocks,
            self.mod,
            self.attention_mechanism,
            self.attention_mode,
            self.heads,
            self.dim,
            self.concat,
            self.negative_slope,
            self.dropout,
            self.edge_dim,
            self.bias,
            self.dtype,
            self.precision,
            self.implementation,
        )
