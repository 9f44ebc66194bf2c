"""The machine and the software that a benchmark ran on."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax


def environment(ctx_platform: str, threads: int, packages: Sequence[str]) -> dict[str, Any]:
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
        "packages": {name: v for name in packages if (v := _version(name))},
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
