"""RGCN, RGAT and HGT, over the whole graph at once or over sampled blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

import jaxdirect
from jaxdirect.cli.train.options import Options
from jaxdirect.cli.train.task import Task, host_table
from jaxdirect.data import RelationalGraph
from jaxdirect.nn import HGTConv, RGATConv, RGCNConv
from jaxdirect.relational import RelGraph, block


class Relational(nnx.Module):
    """A shared projection, one relational convolution per layer beside a skip, a linear head.

    Nodes whose features are all zero learn a row of their own, added to the projection's bias.

    Args:
        graph: the data set, for the sizes.
        options: of the run.
        num_layers: number of convolutions.
        num_embedded: number of nodes that learn a row of their own.
        rngs: for the initial parameters.
    """

    def __init__(
        self,
        graph: RelationalGraph,
        options: Options,
        num_layers: int,
        num_embedded: int,
        rngs: nnx.Rngs,
    ) -> None:
        assert graph.features is not None
        hidden = options.hidden
        self.num_relations = graph.num_relations
        self.num_types = graph.num_types if options.model == "hgt" else 0  # 0: untyped
        self.project = nnx.Linear(graph.features.shape[1], hidden, rngs=rngs)
        rows = 0.1 * jax.random.normal(rngs(), (num_embedded, hidden))
        self.embedding = nnx.Param(rows) if num_embedded else None
        self.convs = nnx.List([_convolution(graph, options, rngs) for _ in range(num_layers)])
        self.head = nnx.Linear(hidden, graph.num_classes, rngs=rngs)
        self.dropout = nnx.Dropout(options.dropout)

    def __call__(
        self,
        graphs: Sequence[RelGraph],
        features: Float[Array, "nodes dim"],
        embedded: Int[Array, " nodes"],
        rngs: nnx.Rngs | None,
    ) -> Float[Array, "batch classes"]:
        """Class scores of the last graph's destinations.

        Args:
            graphs: one per layer; the destinations of each are the sources of the next.
            features: rows of the first graph's sources.
            embedded: which row of `embedding` each of them has, or -1.
            rngs: for dropout; None switches it off.
        """
        hidden = self.project(features)
        if self.embedding is not None:
            hidden += jaxdirect.gather(self.embedding[...], embedded)
        hidden = nnx.relu(hidden)
        for graph, conv in zip(graphs, self.convs, strict=True):
            message = nnx.relu(conv(graph, self._drop(hidden, rngs)))
            hidden = hidden[: graph.num_dst] + message
        return self.head(self._drop(hidden, rngs))

    def _drop(self, rows: Array, rngs: nnx.Rngs | None) -> Array:
        return self.dropout(rows, deterministic=rngs is None, rngs=rngs)


def _convolution(graph: RelationalGraph, options: Options, rngs: nnx.Rngs) -> Any:
    hidden, heads = options.hidden, options.heads
    if options.model == "rgcn":
        return RGCNConv(hidden, hidden, graph.num_relations, rngs=rngs)
    if options.model == "rgat":
        return RGATConv(hidden, hidden // heads, graph.num_relations, heads=heads, rngs=rngs)
    sizes = (graph.num_types, graph.num_relations)
    return HGTConv(hidden, hidden, sizes, heads=heads, rngs=rngs)


class WholeInputs(NamedTuple):
    """What a step over the whole graph reads, all on the device.

    Attributes:
        graph: the plan.
        features: `[num_nodes, feature_dim]`.
        embedded: `[num_nodes]`: which learned row a node has, or -1.
        labels: `[num_nodes]`, -1 where unlabelled.
    """

    graph: RelGraph
    features: Float[Array, "nodes dim"]
    embedded: Int[Array, " nodes"]
    labels: Int[Array, " nodes"]


class SampledInputs(NamedTuple):
    """What a step over sampled blocks reads.

    Attributes:
        graph: the edges into each node, in host memory.
        etype: `[num_edges]` in the order of `graph.indices`, in host memory.
        ntype: `[num_nodes]`, on the device.
        table: features `[num_nodes, feature_dim]` in host memory, some cached if wanted.
        embedded: `[num_nodes]`: which learned row a node has, or -1.
        labels: `[num_nodes]`, -1 where unlabelled.
    """

    graph: jaxdirect.CSRGraph
    etype: Int[Array, " edges"]
    ntype: Int[Array, " nodes"]
    table: Array | jaxdirect.CachedTable
    embedded: Int[Array, " nodes"]
    labels: Int[Array, " nodes"]


def relational_task(graph: RelationalGraph, options: Options) -> Task:
    """The network of `options.model` on `graph`, whose inverse relations are there already."""
    assert graph.features is not None
    empty = ~graph.features.any(axis=1)
    embedded = jnp.asarray(np.where(empty, np.cumsum(empty) - 1, -1), jnp.int32)
    ntype = np.zeros(graph.num_nodes, np.int32) if graph.ntype is None else graph.ntype
    labels = jnp.asarray(graph.labels)
    layers = len(options.fanout) if options.sampled else options.layers
    rngs = nnx.Rngs(options.seed)
    network = Relational(graph, options, layers, int(empty.sum()), rngs)
    if not options.sampled:
        plan = RelGraph.from_edges(
            graph.src,
            graph.dst,
            graph.etype,
            num_nodes=graph.num_nodes,
            num_relations=graph.num_relations,
            ntype=ntype if network.num_types else None,
            num_types=network.num_types or None,
            attention=options.model != "rgcn",
        )
        inputs = WholeInputs(plan, jnp.asarray(graph.features), embedded, labels)
        return Task(graph, inputs, network, _whole, whole_graph=True)

    indptr, indices, etype = graph.in_edges()
    inputs = SampledInputs(
        jaxdirect.CSRGraph(jaxdirect.unified(indptr), jaxdirect.unified(indices)),
        jaxdirect.unified(etype),
        jnp.asarray(ntype),
        host_table(graph.features, indices, options.cache),
        embedded,
        labels,
    )
    return Task(graph, inputs, network, _sampled)


def _whole(
    model: Relational,
    inputs: WholeInputs,
    seeds: Int[Array, " batch"],
    keys: Sequence[Array],
    fanout: tuple[int, ...],
    rngs: nnx.Rngs | None,
) -> tuple[Array, Array]:
    graphs = [inputs.graph] * len(model.convs)
    scores = model(graphs, inputs.features, inputs.embedded, rngs)
    return jaxdirect.gather(scores, seeds), jnp.asarray(inputs.labels.size)


def _sampled(
    model: Relational,
    inputs: SampledInputs,
    seeds: Int[Array, " batch"],
    keys: Sequence[Array],
    fanout: tuple[int, ...],
    rngs: nnx.Rngs | None,
) -> tuple[Array, Array]:
    graphs, nodes = [], seeds
    for size, key in zip(fanout, keys, strict=True):
        drawn = jaxdirect.sample_neighbors(inputs.graph, nodes, size, key)
        nodes = jnp.concatenate([nodes, drawn.neighbors.reshape(-1)])
        hop = block(
            drawn,
            inputs.etype,
            num_relations=model.num_relations,
            ntype=jaxdirect.gather(inputs.ntype, nodes) if model.num_types else None,
            num_types=model.num_types or None,
        )
        graphs.append(hop)
    # The outermost hop's sources hold every node of the batch.
    rows = jaxdirect.gather(inputs.table, nodes)
    embedded = jaxdirect.gather(inputs.embedded, nodes, fill_value=-1)
    return model(graphs[::-1], rows, embedded, rngs), (nodes >= 0).sum()
