"""GraphSAGE's convolution over sampled neighbourhoods, for flax.linen."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Bool, Float, Int

from jaxdirect.nn import _aggregate


class SAGEConv(nn.Module):
    """The linen twin of `jaxdirect.nn.SAGEConv`: same parameters, same numbers.

    Rows that `valid` leaves out contribute nothing, whatever they hold (NaN too); a node without
    neighbours aggregates to zeros.

    Args:
        out_features: length of an output row.
        aggr: `"mean"`, `"max"` or `"sum"`.
        normalize: whether to scale output rows to length 1.
        root_weight: whether to have `lin_r`; without it the node itself is left out.
        bias: whether `lin_l` has a bias.

    Raises:
        ValueError: when called, if aggr is unknown or shapes do not fit.

    Source: Hamilton, Ying, Leskovec, arXiv:1706.02216; the layer of PyTorch Geometric.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> conv, x = SAGEConv(4), jnp.ones((2, 8))
        >>> counts = jnp.array([5, 0])
        >>> params = conv.init(jax.random.key(0), x, jnp.ones((2, 5, 8)), counts)
        >>> conv.apply(params, x, jnp.ones((2, 5, 8)), counts).shape
        (2, 4)
    """

    out_features: int
    aggr: str = "mean"
    normalize: bool = False
    root_weight: bool = True
    bias: bool = True

    @nn.compact
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
            valid: counts `[*batch]` (the first that many rows are neighbours), or a bool mask
                `[*batch, K]`.

        Returns:
            `[*batch, out_features]`.
        """
        _aggregate.check_aggregation("SAGEConv", self.aggr)
        in_features = x_self.shape[-1] if x_self.ndim else 0
        _aggregate.check_inputs("SAGEConv", in_features, x_self, x_neighbors)
        mask = _aggregate.neighbor_mask("SAGEConv", valid, x_neighbors)
        neighbors = _aggregate.aggregate(x_neighbors, mask, self.aggr)
        lin_l = nn.Dense(self.out_features, use_bias=self.bias, name="lin_l")
        lin_r = (
            nn.Dense(self.out_features, use_bias=False, name="lin_r") if self.root_weight else None
        )
        return _aggregate.sage(lin_l, lin_r, x_self, neighbors, self.normalize)
