"""The data set of a run."""

from __future__ import annotations

import dataclasses
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from jaxdirect.cli.train.options import Options
from jaxdirect.data import (
    Graph,
    RelationalGraph,
    _arrays,
    debian_packages,
    from_files,
    wordnet,
)


def load(options: Options) -> tuple[Graph | RelationalGraph, np.ndarray]:
    """A `Graph` for "sage", for the others a `RelationalGraph` with inverses; and its features.

    Raises:
        ValueError: a file is bad, or there is nothing to learn or to test.
    """
    if options.data == "debian":
        graph = debian_packages(
            options.packages, feature_dim=options.feature_dim, seed=options.seed
        )
    elif options.edges is None or options.features is None or options.labels is None:
        graph = wordnet(feature_dim=options.feature_dim, seed=options.seed)
    else:
        graph = from_files(options.edges, options.features, options.labels, seed=options.seed)
    if options.model == "sage":
        graph = graph.homogeneous() if isinstance(graph, RelationalGraph) else graph
    else:
        typed = RelationalGraph.from_graph(graph) if isinstance(graph, Graph) else graph
        graph = _with_node_types(typed, options.node_types).with_inverses()
    for name, part in (("train", graph.train), ("test", graph.test)):
        if part.size == 0:
            raise ValueError(f"--labels {options.labels}: no {name} nodes; label more nodes")
    assert graph.features is not None
    return graph, graph.features


def _with_node_types(graph: RelationalGraph, path: Path | None) -> RelationalGraph:
    """The types in a user's file, where there is one."""
    if path is None:
        return graph
    ntype = _arrays.pick(_arrays.read(path, columns=1), path, "node_types").reshape(-1)
    return dataclasses.replace(graph, ntype=ntype, type_names=())


def fingerprint(graph: Graph | RelationalGraph, features: np.ndarray) -> dict[str, Any]:
    """Tells one data set from another when a run is continued."""
    typed = isinstance(graph, RelationalGraph)
    edges = ("src", "dst", "etype", "ntype") if typed else ("indptr", "indices")
    checksum = 0
    for name in (*edges, "labels", "train", "valid", "test"):
        if (array := getattr(graph, name)) is not None:
            checksum = zlib.crc32(np.ascontiguousarray(array).data, checksum)
    return {"data": f"{list(features.shape)} {features.dtype} {checksum:08x}"}
