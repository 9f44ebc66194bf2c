"""The data set of a run."""

from __future__ import annotations

import dataclasses
import zlib
from typing import Any

import numpy as np

from jaxdirect.cli.train.options import Options
from jaxdirect.data import (
    Graph,
    RelationalGraph,
    _arrays,
    debian_packages,
    from_files,
    relational_wordnet,
    wordnet,
)


def load(options: Options) -> tuple[Graph | RelationalGraph, np.ndarray]:
    """A `Graph` for "sage", for the others a `RelationalGraph` with inverses; and its features.

    Raises:
        ValueError: a file is bad, or there is nothing to learn or to test.
    """
    relational = options.model != "sage"
    if options.data == "debian":
        typed = debian_packages(
            options.packages, feature_dim=options.feature_dim, seed=options.seed
        )
        graph = typed.with_inverses() if relational else typed.homogeneous()
    elif options.edges is None or options.features is None or options.labels is None:
        make = relational_wordnet if relational else wordnet
        graph = make(feature_dim=options.feature_dim, seed=options.seed)
        graph = graph.with_inverses() if isinstance(graph, RelationalGraph) else graph
    else:
        graph = from_files(options.edges, options.features, options.labels, seed=options.seed)
        if relational:
            graph = RelationalGraph.from_graph(graph).with_inverses()
            if options.node_types is not None:
                arrays = _arrays.read(options.node_types, columns=1)
                ntype = _arrays.pick(arrays, options.node_types, "node_types").reshape(-1)
                graph = dataclasses.replace(graph, ntype=ntype, type_names=())
    for name, part in (("train", graph.train), ("test", graph.test)):
        if part.size == 0:
            raise ValueError(f"--labels {options.labels}: no {name} nodes; label more nodes")
    assert graph.features is not None
    return graph, graph.features


def fingerprint(graph: Graph | RelationalGraph, features: np.ndarray) -> dict[str, Any]:
    """Tells one data set from another when a run is continued."""
    edges = ("src", "dst", "etype") if isinstance(graph, RelationalGraph) else ("indptr", "indices")
    checksum = 0
    for name in (*edges, "labels", "train", "valid", "test"):
        checksum = zlib.crc32(np.ascontiguousarray(getattr(graph, name)).data, checksum)
    return {"data": f"{list(features.shape)} {features.dtype} {checksum:08x}"}
