"""A process that measures PyG and nothing else; see `harness.worker`."""

from __future__ import annotations

import functools
from typing import Any

from harness import worker

from . import graphs, peers_pyg

# Cases of a graph come one after another.
_graph = functools.lru_cache(maxsize=1)(graphs.make)


def measure(job: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
    """A layer, by all of PyG's that compute it."""
    import torch
    import torch_geometric

    options = (case["features"], case["heads"], case["dtype"], job["device"])
    contenders = {
        which: peers_pyg.measure(which, _graph(case["graph"]), *options)
        for which in peers_pyg.CLASSES[case["model"]]
    }
    versions = {"torch": torch.__version__, "torch_geometric": torch_geometric.__version__}
    return {"contenders": contenders, "versions": versions}


if __name__ == "__main__":
    worker.serve("PyG", peers_pyg.missing, measure)
