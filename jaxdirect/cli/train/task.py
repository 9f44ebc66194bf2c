"""What a `Trainer` needs to know of a network and its data."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

import jaxdirect
from jaxdirect.cli.train.step import Forward


@dataclasses.dataclass(frozen=True)
class Task:
    """A network and the data it learns from.

    Attributes:
        graph: the data set: a `Graph`, or a `RelationalGraph` with inverses.
        inputs: what a step reads, as `train_step` says.
        network: with its initial parameters.
        forward: from the network and the inputs to class scores.
        whole_graph: whether a step computes all nodes, so that all seeds make one batch.
    """

    graph: Any
    inputs: Any
    network: nnx.Module
    forward: Forward
    whole_graph: bool = False


def host_table(
    features: Float[np.ndarray, "nodes dim"], drawn: Int[np.ndarray, " entries"], cache: float
) -> Array | jaxdirect.CachedTable:
    """The features, read in place; a share `cache` of them on the device, of the nodes in most
    neighbour lists `drawn`."""
    table = jaxdirect.unified(features)
    if cache == 0:
        return table
    draws = np.bincount(drawn, minlength=len(features))
    most_drawn = np.argsort(-draws, kind="stable")[: round(cache * len(features))]
    return jaxdirect.cache_rows(table, most_drawn)
