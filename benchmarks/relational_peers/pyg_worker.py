"""A process that measures PyG and nothing else, so that neither library holds the other's memory.

Reads one JSON object from stdin (device, deadline in seconds, cases) and writes lines: NOTE with
a text, or RECORD with a JSON object of a case's name and its record.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from . import graphs, peers_pyg


def main() -> None:
    """Measures the cases in their order, until the deadline."""
    begin = time.monotonic()
    job: dict[str, Any] = json.load(sys.stdin)
    if (why := peers_pyg.missing()) is not None:
        print(f"NOTE {why}", flush=True)
        return
    import torch
    import torch_geometric

    if job["device"] == "cuda" and not torch.cuda.is_available():
        print("NOTE this PyTorch has no CUDA device", flush=True)
        return
    versions = {"torch": torch.__version__, "torch_geometric": torch_geometric.__version__}
    name, graph = "", None
    for case in job["cases"]:
        if time.monotonic() - begin > job["deadline_s"]:
            print("NOTE PyG's part of the budget is spent; --resume goes on", flush=True)
            return
        if case["graph"] != name:
            graph, name = graphs.make(case["graph"]), case["graph"]
        assert graph is not None
        started = time.monotonic()
        contenders = {
            which: peers_pyg.measure(
                which, graph, case["features"], case["heads"], case["dtype"], job["device"]
            )
            for which in peers_pyg.CLASSES[case["model"]]
        }
        record = {
            "params": {k: v for k, v in case.items() if k != "name"} | {"platform": job["device"]},
            "contenders": contenders,
            "versions": versions,
            "wall_s": time.monotonic() - started,
        }
        print("RECORD " + json.dumps({"name": case["name"], "record": record}), flush=True)


if __name__ == "__main__":
    main()
