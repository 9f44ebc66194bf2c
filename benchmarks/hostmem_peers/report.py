"""What is printed and what is written: one aligned row per case, one JSON file."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

PACKAGES = (
    "jaxdirect",
    "jax",
    "jaxlib",
    "jax-cuda13-plugin",
    "jax-cuda12-plugin",
    "numpy",
    "torch",
    "cupy-cuda13x",
    "pylibwholegraph-cu13",
)
RATIOS = (
    "given",
    "sorted",
    "wholegraph",
    "cpu_best",
    "cpp",
    "cpp_stream",
    "torch_dma",
    "torch_serial",
    "torch_index",
    "numpy",
    "xla",
    "xla_clip",
    "cpu",
    "cpu_distinct",
    "graph_on_gpu",
    "hot_on_gpu",
)


def environment(ctx_platform: str, threads: int) -> dict[str, Any]:
    """Device, driver, versions, commit, date and clocks of this process."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": os.environ.get("JAXDIRECT_COMMIT") or _output("git", "rev-parse", "HEAD"),
        "platform": ctx_platform,
        "device": jax.devices()[0].device_kind,
        "gpu": gpu_state() if ctx_platform == "cuda" else None,
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": threads,
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: v for name in PACKAGES if (v := _version(name))},
    }


def gpu_state() -> dict[str, str]:
    """Driver, clocks, temperature and link as nvidia-smi reads them now."""
    fields = (
        "name,driver_version,clocks.sm,clocks.mem,temperature.gpu,power.draw,"
        "pcie.link.gen.current,pcie.link.width.current"
    )
    text = _output("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader", "-i", "0")
    return dict(zip(fields.split(","), map(str.strip, text.split(",")), strict=False))


def _output(*command: str) -> str:
    here = Path(__file__).parent
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=here, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((ln.split(":", 1)[1].strip() for ln in lines if ln.startswith("model name")), "")


def line(name: str, record: dict[str, Any]) -> str:
    """The printed row of a case."""
    if "skipped" in record:
        return f"{name:<30} skipped: {record['skipped']}"
    cells = [f"{name:<30}", f"{record['time_s'] * 1e3:>10.3f} ms"]
    rate = record.get("gb_per_s", {}).get("auto")
    cells.append(f"{rate:>7.2f} GB/s" if rate is not None else " " * 12)
    if "edges_per_s" in record:
        us = record["edges_per_s"]["jaxdirect"]
        cells[-1] = f"{us / 1e6:>7.1f} Me/s"
    share = record.get("share")
    cells.append(f"{share:>6.3f} of seq" if share is not None else " " * 13)
    ratio = record.get("ratio", {})
    cells += [f"{k} {ratio[k]:.2f}x" for k in RATIOS if k in ratio]
    if "hot_speedup" in record:
        cells += [f"hot_on_gpu over {k} {v:.2f}x" for k, v in record["hot_speedup"].items()]
    if "slowdown" in record:
        cells += [f"{k} slowed {v:.2f}x" for k, v in record["slowdown"].items()]
    for who, parts in record.get("split_s_per_step", {}).items():
        cells.append(f"| {who}: " + " ".join(f"{k} {v * 1e3:.2f}" for k, v in parts.items()))
    missed = [g for g in record.get("goals", ()) if not g["met"]]
    cells += [f"| MISSED {g['what']} {g['got']:.3g} < {g['at_least']:.3g}" for g in missed]
    return " ".join(cells)


def judge(record: dict[str, Any], goals: Sequence[tuple[str, float]]) -> list[dict[str, Any]]:
    """Compares a record with its goals, each a dotted path into the record and a least value."""
    judged = []
    for path, least in goals:
        value: Any = record
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            judged.append({"what": path, "at_least": least, "got": value, "met": value >= least})
    return judged


class Results:
    """The JSON file: `runs` (one per process) and `cases` (name -> record), rewritten per case."""

    def __init__(self, path: Path | None, resume: bool):
        self.path = path
        self.data: dict[str, Any] = {"format": 1, "runs": [], "cases": {}}
        if resume and path is not None and path.exists():
            self.data = json.loads(path.read_text())
            if self.data.get("format") != 1:
                sys.exit(f"hostmem: {path} has another format; give a new file to --output")

    def begin(self, run: dict[str, Any]) -> None:
        """Starts this process's entry in `runs`."""
        self.data["runs"].append(run)

    def done(self, name: str) -> bool:
        """Whether a case has a result that is neither an error nor a skip."""
        return not {"error", "skipped"} & self.data["cases"].get(name, {"error": ""}).keys()

    def add(self, name: str, record: dict[str, Any]) -> None:
        """Keeps a case's record and rewrites the file."""
        self.data["cases"][name] = record | {"run": len(self.data["runs"]) - 1}
        self.write()

    def write(self) -> None:
        """Writes the file through a neighbour, so that a kill leaves the old one whole."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(self.path.suffix + ".partial")
        partial.write_text(json.dumps(self.data, indent=1) + "\n")
        partial.replace(self.path)
