"""GraphSAGE over sampled trees of neighbours."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

import jaxdirect
from jaxdirect.cli.train.options import Options
from jaxdirect.cli.train.task import Task, host_table
from jaxdirect.data import Graph
from jaxdirect.nn import SAGEConv


class SageInputs(NamedTuple):
    """What every step reads.

    Attributes:
        graph: neighbours along any edge, in host memory.
        table: features `[num_nodes, feature_dim]` in host memory, some cached if wanted.
        labels: `[num_nodes]` on the device, -1 where unlabelled.
    """

    graph: jaxdirect.CSRGraph
    table: Array | jaxdirect.CachedTable
    labels: Int[Array, " nodes"]


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


def sage_task(graph: Graph, options: Options) -> Task:
    """GraphSAGE on `graph`, one convolution per hop of `options.fanout`."""
    inputs = SageInputs(
        jaxdirect.CSRGraph(jaxdirect.unified(graph.indptr), jaxdirect.unified(graph.indices)),
        host_table(graph.features, graph.indices, options.cache),
        jnp.asarray(graph.labels),
    )
    return Task(graph, inputs, _network(graph, options), _forward)


def with_options(task: Task, options: Options) -> Task:
    """A new network for the same inputs; without hops it sees each node's own features alone."""
    return dataclasses.replace(task, network=_network(task.graph, options))


def _network(graph: Graph, options: Options) -> Sage:
    return Sage(
        graph.features.shape[1],
        options.hidden,
        graph.num_classes,
        num_hops=len(options.fanout),
        dropout=options.dropout,
        rngs=nnx.Rngs(options.seed),
    )


def _forward(
    model: Sage,
    inputs: SageInputs,
    seeds: Int[Array, " batch"],
    keys: Sequence[Array],
    fanout: tuple[int, ...],
    rngs: nnx.Rngs | None,
) -> tuple[Array, Array]:
    hops = [seeds]
    for size, key in zip(fanout, keys, strict=True):
        hops.append(jaxdirect.sample_neighbors(inputs.graph, hops[-1], size, key).neighbors)
    # One gather for all hops: its order is chosen over all rows at once.
    rows = jaxdirect.gather(inputs.table, jnp.concatenate([hop.reshape(-1) for hop in hops]))
    parts = jnp.split(rows, [sum(h.size for h in hops[:i]) for i in range(1, len(hops))])
    features = [part.reshape(*hop.shape, -1) for part, hop in zip(parts, hops, strict=True)]
    logits = model(features, [hop >= 0 for hop in hops[1:]], rngs)
    return logits, jnp.stack([(hop >= 0).sum() for hop in hops]).sum()
