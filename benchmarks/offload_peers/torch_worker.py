"""A process that measures PyTorch and nothing else; see `harness.worker`."""

from __future__ import annotations

from typing import Any

from harness import worker

from . import peers_torch


def measure(job: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
    """A model's step."""
    import torch

    found = peers_torch.measure(job["sizes"][case["model"]], job["device"], job["rounds"])
    return found | {"versions": {"torch": torch.__version__, "cuda": torch.version.cuda}}


if __name__ == "__main__":
    worker.serve("PyTorch", peers_torch.missing, measure)
