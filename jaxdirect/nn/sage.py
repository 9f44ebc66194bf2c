"""GraphSAGE's convolution over sampled neighbourhoods, for flax.nnx."""

from __future__ import annotations

from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from jaxdirect.nn import _aggregate


class SAGEConv(nnx.Module):
    """`lin_l(aggregate of the neighbours) + lin_r(the node itself)`, on dense neighbourhoods.

    Every node has K rows of neighbours, as `sample_neighbors` gives them, so that shapes are
    static under `jit`. Rows that `valid` leaves out contribute nothing, whatever they hold
    (NaN too). A node without neighbours aggregates to zeros, so its output is
    `lin_l`'s bias plus `lin_r(x_self)`.

    The parameters are those of `torch_geometric.nn.SAGEConv`, in Flax's layout: `lin_l.kernel`
    `[in_features, out_features]` and `lin_l.bias` `[out_features]` act on the aggregate,
    `lin_r.kernel` `[in_features, out_features]`, without a bias, on the node. (PyG stores the
    transposed kernels.)

    Args:
        in_features: length of a node's row.
        out_features: length of an output row.
        aggr: `"mean"`, `"max"` or `"sum"`.
        normalize: whether to scale output rows to length 1.
        root_weight: whether to have `lin_r`; without it the node itself is left out.
        bias: whether `lin_l` has a bias.
        rngs: for the initial parameters.

    Raises:
        ValueError: aggr is unknown; when called, shapes do not fit.

    Source: Hamilton, Ying, Leskovec, arXiv:1706.02216; the layer of PyTorch Geometric.

    Example:
        >>> import jax.numpy as jnp
        >>> conv = SAGEConv(8, 4, rngs=nnx.Rngs(0))
        >>> counts = jnp.array([5, 0])
        >>> conv(jnp.ones((2, 8)), jnp.ones((2, 5, 8)), counts).shape
        (2, 4)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        aggr: str = "mean",
        normalize: bool = False,
        root_weight: bool = True,
        bias: bool = True,
        rngs: nnx.Rngs,
    ) -> None:
        _aggregate.check_aggregation("SAGEConv", aggr)
        self.in_features = in_features
        self.aggr = aggr
        self.normalize = normalize
        self.lin_l = nnx.Linear(in_features, out_features, use_bias=bias, rngs=rngs)
        self.lin_r = (
            nnx.Linear(in_features, out_features, use_bias=False, rngs=rngs)
            if root_weight
            else None
        )

    def __call__(
        self,
        x_self: Float[Array, "*batch in_features"],
        x_neighbors: Float[Array, "*batch K in_features"],
        valid: Int[Array, "*batch"] | Bool[Array, "*batch K"],
    ) -> Float[Array, "*batch out_features"]:
        """Convolves each node with its neighbours.

        Args:
            x_self: `[*batch, in_features]`, the nodes' rows.
            x_neighbors: `[*batch, K, in_features]`, their neighbours' rows.
            valid: which of the K rows are neighbours: counts `[*batch]` (the first that many),
                or a bool mask `[*batch, K]`.

        Returns:
            `[*batch, out_features]`.
        """
        _aggregate.check_inputs("SAGEConv", self.in_features, x_self, x_neighbors)
        mask = _aggregate.neighbor_mask("SAGEConv", valid, x_neighbors)
        neighbors = _aggregate.aggregate(x_neighbors, mask, self.aggr)
        return _aggregate.sage(self.lin_l, self.lin_r, x_self, neighbors, self.normalize)
