"""A process of its own for a peer, so that neither library holds the other's memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def records(
    python: str, module: str, job: dict[str, Any], title: str, platforms: str = "cpu"
) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Runs a module that reads the job from stdin: ("NOTE", text) or (name, record) as they come.

    Args:
        python: the interpreter.
        module: found from the benchmarks' folder; writes lines NOTE with a text, or RECORD with
            a JSON object of a case's name and its record.
        job: what to do.
        title: of the peer, for the note of its failure.
        platforms: of JAX in it; a peer leaves the device alone but for what it does itself.
    """
    process = subprocess.Popen(
        [python, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[1],
        env=os.environ | {"JAX_PLATFORMS": platforms},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin:
        json.dump(job, process.stdin)
    for line in process.stdout:
        kind, _, text = line.rstrip().partition(" ")
        if kind == "RECORD":
            done = json.loads(text)
            yield done["name"], done["record"]
        elif kind == "NOTE":
            yield "NOTE", text
    if (code := process.wait()) != 0:
        yield "NOTE", f"{title}'s process ended with code {code}"


def serve(
    title: str,
    missing: Callable[[], str | None],
    measure: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]],
) -> None:
    """What such a module does: measures the job's cases in their order, until its deadline.

    Args:
        title: of the peer, for its notes.
        missing: says why it cannot be measured, or None.
        measure: `(job, case)` to what the case's record has of its own.
    """
    begin = time.monotonic()
    job: dict[str, Any] = json.load(sys.stdin)
    if (why := missing()) is not None:
        print(f"NOTE {why}", flush=True)
        return
    import torch

    if job["device"] == "cuda" and not torch.cuda.is_available():
        print("NOTE this PyTorch has no CUDA device", flush=True)
        return
    for case in job["cases"]:
        started = time.monotonic()
        if started - begin > job["deadline_s"]:
            print(f"NOTE {title}'s part of the budget is spent; --resume goes on", flush=True)
            return
        record = measure(job, case) | {"wall_s": time.monotonic() - started}
        record["params"] = {k: v for k, v in case.items() if k != "name"}
        record["params"]["platform"] = job["device"]
        print("RECORD " + json.dumps({"name": case["name"], "record": record}), flush=True)
