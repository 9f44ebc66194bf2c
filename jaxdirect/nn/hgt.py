"""The heterogeneous graph transformer layer, for flax.nnx."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxdirect.nn import _hgt, _parameters
from jaxdirect.relational import RelGraph

Metadata = tuple[Sequence[str], Sequence[_hgt.EdgeType]] | tuple[int, int]


class HGTConv(nnx.Module):
    """Typed dot-product attention, a projection of its gelu by node type, and a gated skip.

    The parameters are those of `torch_geometric.nn.HGTConv`, those of equal shapes in one array:
    `kqv_lin.<node type>.kernel` `[in_features, 3 * out_features]` and `.bias`
    `[3 * out_features]` (keys, queries and values side by side); `k_rel` and `v_rel`
    `[num_relations, heads, d, d]` with d = out_features / heads (PyG: `[heads * num_relations, d,
    d]`); `p_rel` `[num_relations, heads]`; `out_lin.kernel` `[num_types, out_features,
    out_features]` and `.bias` `[num_types, out_features]`; `skip` `[num_types]`, used where a
    node's row is as long as its output. They begin as PyG's do.

    Args:
        in_features: length of a node's row, or a dict from node types to theirs.
        out_features: length of an output row.
        metadata: the node types' names and the edge types as (source type, name, destination
            type), in the order of the graph's numbers, as in PyG; or just how many there are.
        heads: number of heads.
        dtype: of the computation; None: the widest of the inputs' and parameters'.
        param_dtype: of the parameters.
        precision: as in `jaxdirect.relational.hgt_conv`.
        implementation: as in `jaxdirect.relational.hgt_conv`.
        rngs: for the initial parameters.

    Raises:
        ValueError: options or sizes are impossible; when called, shapes do not fit or the graph
            has no node types or no attention part.
        TypeError: when called, the graph is no `RelGraph`.

    Source: Hu et al., arXiv:2003.01332; the layer of PyTorch Geometric.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxdirect.relational import RelGraph
        >>> g = RelGraph.from_edges([0, 1], [2, 2], [0, 0], num_nodes=3, ntype=[0, 0, 1])
        >>> kinds = (["author", "paper"], [("author", "writes", "paper")])
        >>> conv = HGTConv({"author": 5, "paper": 8}, 8, kinds, heads=2, rngs=nnx.Rngs(0))
        >>> y = conv(g, {"author": jnp.ones((2, 5)), "paper": jnp.ones((1, 8))})
        >>> y["paper"].shape
        (1, 8)
        >>> HGTConv(5, 8, (2, 1), rngs=nnx.Rngs(0))(g, jnp.ones((3, 5))).shape
        (3, 8)
    """

    def __init__(
        self,
        in_features: int | Mapping[str, int],
        out_features: int,
        metadata: Metadata,
        *,
        heads: int = 1,
        dtype: Any = None,
        param_dtype: Any = jnp.float32,
        precision: Any = None,
        implementation: str = "auto",
        rngs: nnx.Rngs,
    ) -> None:
        self.layer = _hgt.build(
            in_features, out_features, metadata, heads, dtype, precision, implementation
        )
        made = _parameters.make(self.layer.parameters(), rngs, param_dtype)
        self.kqv_lin, self.out_lin = made["kqv_lin"], made["out_lin"]
        self.k_rel, self.v_rel, self.p_rel = made["k_rel"], made["v_rel"], made["p_rel"]
        self.skip = made["skip"]

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
            types that some edge type leads to. A node without in-edges gets the bias of `out_lin`,
            and its share of the skip.
        """
        return self.layer(_parameters.read(self, self.layer.parameters()), g, x)

    def load_pyg(self, state: Mapping[str, ArrayLike]) -> None:
        """Takes over the parameters of a `torch_geometric.nn.HGTConv` with the same metadata.

        Args:
            state: its `state_dict()`, as NumPy arrays or CPU tensors.

        Raises:
            ValueError: the state has other names or shapes than this layer, or the metadata has
                no names.
        """
        _parameters.write(self, self.layer.from_pyg(state))
