"""The relational graph attention layer, for flax.nnx."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdirect.nn import _parameters
from jaxdirect.nn._rgat import RGAT
from jaxdirect.relational import RelGraph


class RGATConv(nnx.Module):
    """Attention over typed edges: the score of edge (j, r, i) comes from `x_i W_r q + x_j W_r k`.

    The parameters are those of `torch_geometric.nn.RGATConv`: `weight` `[num_relations,
    in_features, heads * out_features]` (with bases `basis` `[num_bases, ...]` and `att`
    `[num_relations, num_bases]`; with blocks `[num_relations, num_blocks, in_features /
    num_blocks, heads * out_features / num_blocks]`), `q` and `k` `[heads * out_features,
    heads * dim]`, which mix heads and are the same for all relations, `bias`; with `edge_dim`
    `lin_edge.kernel` `[edge_dim, heads * out_features]` and `e` `[heads * out_features,
    heads * dim]`; `w` with `mod="additive"`, and `l1`, `b1`, `l2`, `b2` with `mod="scaled"`. They
    begin as PyG's do (but for `l2`, which PyG leaves uninitialised: 1 / out_features).

    Scores that no one asks for are never stored: with the defaults the layer is one fused
    `jaxdirect.relational.rgat_conv`. Edge features, dropout, returned weights and the other modes
    take memory for a number per edge and score.

    Args:
        in_features: length of a node's row.
        out_features: length of an output row of each head.
        num_relations: number of edge types.
        num_bases: stores every relation's weight as a combination of this many.
        num_blocks: stores every relation's weight as this many diagonal blocks.
        mod: what preserves the neighbourhood's size: None, `"additive"`, `"scaled"`,
            `"f-additive"` or `"f-scaled"`, as in PyG.
        attention_mechanism: `"across-relation"`: a softmax over all in-edges of a node;
            `"within-relation"`: one for each relation.
        attention_mode: `"additive-self-attention"` (a leaky rectifier of the parts' sum) or
            `"multiplicative-self-attention"` (their product).
        heads: number of heads.
        dim: scores of a head; more than 1 only with the multiplicative mode.
        concat: whether the heads' outputs lie side by side; else their mean.
        negative_slope: of the leaky rectifier.
        dropout: probability of dropping an attention weight; `train()` and `eval()` switch it.
        edge_dim: length of an edge's row of features; None: edges have none.
        bias: whether to have `bias`.
        dtype: of the computation; None: the widest of the inputs' and parameters'.
        param_dtype: of the parameters.
        precision: as in `jaxdirect.relational.rgat_conv`.
        implementation: as in `jaxdirect.relational.rgat_conv`.
        rngs: for the initial parameters, and for dropout.

    Raises:
        ValueError: options or sizes are impossible; when called, shapes do not fit or the graph
            has no attention part.
        TypeError: when called, the graph is no `RelGraph`.

    Source: Busbridge et al., arXiv:1904.05811; the layer of PyTorch Geometric.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxdirect.relational import RelGraph
        >>> g = RelGraph.from_edges([0, 1, 2], [2, 2, 0], [0, 0, 1], num_nodes=3)
        >>> conv = RGATConv(8, 4, 2, heads=2, edge_dim=1, rngs=nnx.Rngs(0))
        >>> y, alpha = conv(g, jnp.ones((3, 8)), jnp.ones((3, 1)), return_attention_weights=True)
        >>> y.shape, alpha.shape
        ((3, 8), (3, 2))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_relations: int,
        *,
        num_bases: int | None = None,
        num_blocks: int | None = None,
        mod: str | None = None,
        attention_mechanism: str = "across-relation",
        attention_mode: str = "additive-self-attention",
        heads: int = 1,
        dim: int = 1,
        concat: bool = True,
        negative_slope: float = 0.2,
        dropout: float = 0.0,
        edge_dim: int | None = None,
        bias: bool = True,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        implementation: str = "auto",
        rngs: nnx.Rngs,
    ) -> None:
        self.layer = RGAT(
            in_features,
            out_features,
            num_relations,
            num_bases,
            num_blocks,
            mod,
            attention_mechanism,
            attention_mode,
            heads,
            dim,
            concat,
            negative_slope,
            dropout,
            edge_dim,
            bias,
            dtype,
            precision,
            implementation,
        )
        made = _parameters.make(self.layer.parameters(), rngs, param_dtype)
        self.q, self.k = made["q"], made["k"]
        self.weight, self.basis, self.att = (made.get(name) for name in ("weight", "basis", "att"))
        self.bias = made.get("bias")
        self.lin_edge, self.e = made.get("lin_edge"), made.get("e")
        self.w = made.get("w")
        self.l1, self.b1, self.l2, self.b2 = (made.get(name) for name in ("l1", "b1", "l2", "b2"))
        self.dropout = nnx.Dropout(dropout, rngs=rngs) if dropout else None

    def __call__(
        self,
        g: RelGraph,
        x: Float[Array, "nodes in_features"],
        edge_attr: Float[Array, "edges edge_dim"] | None = None,
        *,
        return_attention_weights: bool = False,
        deterministic: bool | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> Any:
        """Attends from each node to its in-neighbours.

        Args:
            g: the graph, with `num_relations` relations, built with `attention=True`.
            x: `[num_nodes, in_features]`, the nodes' rows.
            edge_attr: `[num_edges, edge_dim]` (or `[num_edges]`), the edges' rows, in the order in
                which the edges were given.
            return_attention_weights: whether to return the attention weights too.
            deterministic: whether to drop nothing; None: as `train()` or `eval()` said.
            rngs: for dropout instead of the layer's own.

        Returns:
            `[num_nodes, heads * dim * out_features]`, without `concat` `[num_nodes, dim *
            out_features]`; and if asked for, the weights `[num_edges, heads * dim]` as the softmax
            gives them. A node without in-edges gets the bias.
        """
        params = _parameters.read(self, self.layer.parameters())
        drop = None
        if deterministic is None and self.dropout is not None:
            deterministic = self.dropout.deterministic
        if self.dropout is not None and not deterministic:
            drop = functools.partial(self.dropout, deterministic=False, rngs=rngs)
        return self.layer(params, g, x, edge_attr, drop, return_attention_weights)

    def load_pyg(self, state: Mapping[str, ArrayLike]) -> None:
        """Takes over the parameters of a `torch_geometric.nn.RGATConv`.

        Args:
            state: its `state_dict()`, as NumPy arrays or CPU tensors. Parameters of another `mod`,
                which PyG's layer always has, are left out.

        Raises:
            ValueError: the state has other names or shapes than this layer.
        """
        _parameters.write(self, self.layer.from_pyg(state))
