"""The relational graph convolution, for flax.nnx."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdirect.nn import _parameters
from jaxdirect.nn._rgcn import RGCN
from jaxdirect.relational import RelGraph


class RGCNConv(nnx.Module):
    """`y_i = sum_r mean_{j in N_r(i)} x_j W_r + x_i W_root + b`, over typed edges.

    The parameters are those of `torch_geometric.nn.RGCNConv`: `weight`
    `[num_relations, in_features, out_features]` (with bases `[num_bases, in_features,
    out_features]` and `comp` `[num_relations, num_bases]`; with blocks `[num_relations, num_blocks,
    in_features / num_blocks, out_features / num_blocks]`), `root` `[in_features, out_features]`
    and `bias` `[out_features]`, and they begin as PyG's do. The mean is taken per relation,
    whatever the sizes. (PyG with pyg-lib takes it over all in-edges on some paths.)

    Args:
        in_features: length of a node's row; the number of nodes where they have no features.
        out_features: length of an output row.
        num_relations: number of edge types.
        num_bases: stores every relation's weight as a combination of this many.
        num_blocks: stores every relation's weight as this many diagonal blocks.
        aggr: `"mean"`: the messages of each relation are averaged per node, then added over
            relations; `"sum"`: all are added.
        root_weight: whether to have `root`; without it the node itself is left out.
        bias: whether to have `bias`.
        dtype: of the computation; None: the widest of the inputs' and parameters'.
        param_dtype: of the parameters.
        precision: as in `jaxdirect.relational.rgcn_conv`.
        implementation: as in `jaxdirect.relational.rgcn_conv`.
        rngs: for the initial parameters.

    Raises:
        ValueError: options or sizes are impossible; when called, shapes do not fit.
        TypeError: when called, the graph is no `RelGraph`.

    Source: Schlichtkrull et al., arXiv:1703.06103; the layer of PyTorch Geometric.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxdirect.relational import RelGraph
        >>> g = RelGraph.from_edges([0, 1, 2], [2, 2, 0], [0, 0, 1], num_nodes=3)
        >>> RGCNConv(8, 4, 2, rngs=nnx.Rngs(0))(g, jnp.ones((3, 8))).shape
        (3, 4)
        >>> RGCNConv(3, 4, 2, rngs=nnx.Rngs(0))(g).shape
        (3, 4)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_relations: int,
        *,
        num_bases: int | None = None,
        num_blocks: int | None = None,
        aggr: str = "mean",
        root_weight: bool = True,
        bias: bool = True,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        implementation: str = "auto",
        rngs: nnx.Rngs,
    ) -> None:
        self.layer = RGCN(
            in_features,
            out_features,
            num_relations,
            num_bases,
            num_blocks,
            aggr,
            root_weight,
            bias,
            dtype,
            precision,
            implementation,
        )
        made = _parameters.make(self.layer.parameters(), rngs, param_dtype)
        self.weight = made["weight"]
        self.comp = made.get("comp")
        self.root = made.get("root")
        self.bias = made.get("bias")

    def __call__(
        self, g: RelGraph, x: Float[Array, "nodes in_features"] | None = None
    ) -> Float[Array, "nodes out_features"]:
        """Convolves each node with its in-neighbours.

        Args:
            g: the graph, with `num_relations` relations.
            x: `[num_nodes, in_features]`, the nodes' rows; None: nodes have no features, and
                `weight` and `root` have a row for each.

        Returns:
            `[num_nodes, out_features]`; a block's destinations. A node without in-edges gets
            `x_i W_root + b`.
        """
        return self.layer(_parameters.read(self, self.layer.parameters()), g, x)

    def load_pyg(self, state: Mapping[str, ArrayLike]) -> None:
        """Takes over the parameters of a `torch_geometric.nn.RGCNConv`.

        Args:
            state: its `state_dict()`, as NumPy arrays or CPU tensors.

        Raises:
            ValueError: the state has other names or shapes than this layer.
        """
        _parameters.write(self, self.layer.from_pyg(state))
