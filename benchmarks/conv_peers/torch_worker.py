"""A process that measures PyTorch and nothing else.

Reads one JSON object from stdin (device, deadline in seconds, rounds, small, cases) and writes
lines: NOTE with a text, or RECORD with a JSON object of a case's name and its record.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from . import peers_torch
from .problem import make


def main() -> None:
    """Measures the cases in their order, until the deadline."""
    begin = time.monotonic()
    job: dict[str, Any] = json.load(sys.stdin)
    if (why := peers_torch.missing()) is not None:
        print(f"NOTE {why}", flush=True)
        return
    import torch

    if job["device"] == "cuda" and not torch.cuda.is_available():
        print("NOTE this PyTorch has no CUDA device", flush=True)
        return
    versions = {"torch": torch.__version__, "cudnn": torch.backends.cudnn.version()}
    for case in job["cases"]:
        if time.monotonic() - begin > job["deadline_s"]:
            print("NOTE PyTorch's part of the budget is spent; --resume goes on", flush=True)
            return
        started = time.monotonic()
        problem = make(case, job["small"])
        what = case["what"]
        found = peers_torch.measure(problem, [what], job["device"], job["rounds"])
        record = {
            "params": case | {"platform": job["device"]},
            "contenders": {"torch": found[what]},
            "versions": versions,
            "wall_s": time.monotonic() - started,
        }
        print("RECORD " + json.dumps({"name": case["name"], "record": record}), flush=True)


if __name__ == "__main__":
    main()
