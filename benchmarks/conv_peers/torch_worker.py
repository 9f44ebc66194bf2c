"""A process that measures PyTorch and nothing else; see `harness.worker`."""

from __future__ import annotations

from typing import Any

from harness import worker

from . import peers_torch
from .problem import make


def measure(job: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
    """One pass of a layer."""
    import torch

    problem = make(case, job["small"])
    found = peers_torch.measure(problem, case["what"], job["device"], job["rounds"])
    versions = {"torch": torch.__version__, "cudnn": torch.backends.cudnn.version()}
    return {"contenders": {"torch": found}, "versions": versions}


if __name__ == "__main__":
    worker.serve("PyTorch", peers_torch.missing, measure)
