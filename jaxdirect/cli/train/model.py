"""The networks that `jaxdirect train` trains."""

from __future__ import annotations

from collections.abc import Sequence

from flax import nnx
from jaxtyping import Array, Bool, Float

from jaxdirect.nn import SAGEConv


class Sage(nnx.Module):
    """A shared projection of the features, one `SAGEConv` per hop, and a linear head.

    The projection comes first because it is the widest product: each gathered row goes through
    it once, and everything after it is `hidden` wide.

    Args:
        feature_dim, hidden, num_classes: widths.
        num_hops: number of convolutions; 0 leaves out the neighbours.
        dropout: share of hidden values dropped while training.
    """

    def __init__(
        self,
        feature_dim: int,
        hidden: int,
        num_classes: int,
        *,
        num_hops: int,
        dropout: float,
        rngs: nnx.Rngs,
    ) -> None:
        self.project = nnx.Linear(feature_dim, hidden, rngs=rngs)
        self.convs = nnx.List([SAGEConv(hidden, hidden, rngs=rngs) for _ in range(num_hops)])
        self.head = nnx.Linear(hidden, num_classes, rngs=rngs)
        self.dropout = nnx.Dropout(dropout)

    def __call__(
        self,
        features: Sequence[Float[Array, "*nodes dim"]],
        masks: Sequence[Bool[Array, "*nodes fanout"]],
        rngs: nnx.Rngs | None,
    ) -> Float[Array, "batch classes"]:
        """Class scores of the seeds.

        Args:
            features: `num_hops + 1` arrays `[batch, *fanouts, feature_dim]`: the seeds' rows, their
                neighbours', theirs, and so on.
            masks: `num_hops` arrays: which of the rows of hop i + 1 are neighbours.
            rngs: for dropout; None switches it off.
        """
        hidden = [nnx.relu(self.project(rows)) for rows in features]
        for conv in self.convs:
            hidden = [self._drop(rows, rngs) for rows in hidden]
            pairs = zip(hidden[:-1], hidden[1:], masks, strict=False)
            hidden = [nnx.relu(conv(nodes, below, mask)) for nodes, below, mask in pairs]
        return self.head(self._drop(hidden[0], rngs))

    def _drop(self, rows: Array, rngs: nnx.Rngs | None) -> Array:
        return self.dropout(rows, deterministic=rngs is None, rngs=rngs)
