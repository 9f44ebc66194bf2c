"""What this copy of jaxdirect is, what it found, and what is missing."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import subprocess
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np

from jaxdirect import _ffi
from jaxdirect.hostmem.unified import empty, unified

_PACKAGES = ("jax", "jaxlib", "numpy", "flax", "optax", "orbax-checkpoint", "rich", "matplotlib")
_GPU_PLUGINS = ("jax-cuda13-plugin", "jax-cuda12-plugin")
_PROBE_BYTES = 256 << 20
_PROBE_ROUNDS = 4


def include_dir() -> str:
    """Folder of jaxdirect's C++ headers, for building XLA FFI ops of your own.

    A file there is included as `"jaxdirect/common/<name>.h"`; XLA's headers come from
    `jax.ffi.include_dir()`.

    Returns:
        An absolute path.

    Raises:
        RuntimeError: where the package is used without having been installed.

    Example:
        >>> import jaxdirect
        >>> try:
        ...     found = (Path(jaxdirect.include_dir()) / "jaxdirect/common/handler.h").exists()
        ... except RuntimeError:  # not installed
        ...     found = True
        >>> found
        True
    """
    import jaxdirect

    # An editable install has two folders: the sources, and what CMake installed.
    for folder in jaxdirect.__path__:
        candidate = Path(folder).resolve() / "include"
        if (candidate / "jaxdirect").is_dir():
            return str(candidate)
    raise RuntimeError(
        "include_dir: the headers are not installed; install the package with pip install ."
    )


def show_config(*, measure: bool = True) -> None:
    """Prints versions, what was built, the GPUs and their links, and what is missing.

    Args:
        measure: also copy 256 MiB to each GPU, to see the rate of its link in GB/s.

    Example:
        >>> import jaxdirect
        >>> jaxdirect.show_config(measure=False)  # doctest: +ELLIPSIS
        jaxdirect ...
    """
    print(report(config(measure=measure)))


def config(*, measure: bool = True) -> dict[str, Any]:
    """What `show_config` prints, as plain data."""
    gpus = _gpus()
    for gpu in gpus:
        device = gpu.pop("device")
        if measure:
            gpu["copy_gbps"] = _copy_rate(device)
    return {
        "versions": _versions(),
        "build": _build(),
        "targets": {name: list(_ffi.targets(name)) for name in ("cpu", "cuda")},
        "backend": jax.default_backend(),
        "gpus": gpus,
        "missing": _missing(gpus),
    }


def report(data: dict[str, Any]) -> str:
    """The text of `show_config`, from the data of `config`."""
    versions = dict(data["versions"])
    lines = [f"jaxdirect {versions.pop('jaxdirect')}"]
    lines += _section("versions", [f"{name} {version}" for name, version in versions.items()])
    build = [f"{name} {value}" for name, value in data["build"].items()]
    lines += _section("build", build or ["none: the package is not installed"])
    for name, targets in data["targets"].items():
        lines += _section(f"{name} targets", targets or ["none"])
    gpus = [_gpu_line(gpu) for gpu in data["gpus"]]
    lines += _section("GPUs", gpus or [f"none; JAX runs on {data['backend']}"])
    missing = [f"{what}\n    {remedy}" for what, remedy in data["missing"]]
    return "\n".join(lines + _section("missing", missing or ["nothing"]))


def _section(title: str, entries: list[str]) -> list[str]:
    return [f"{title}:", *(f"  {entry}" for entry in entries)]


def _gpu_line(gpu: dict[str, Any]) -> str:
    parts = [gpu["name"]]
    if gpu["memory_bytes"]:
        parts.append(f"{gpu['memory_bytes'] / 1e9:.0f} GB for JAX")
    if gpu["link"]:
        parts.append(gpu["link"])
    if "copy_gbps" in gpu:
        parts.append(f"copies from pinned memory at {gpu['copy_gbps']:.1f} GB/s")
    return f"{gpu['id']}: " + ", ".join(parts)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _versions() -> dict[str, str]:
    versions = {
        "jaxdirect": _version("jaxdirect") or "(not installed)",
        "python": platform.python_version(),
    }
    versions.update({name: _version(name) or "missing" for name in _PACKAGES})
    versions.update({name: version for name in _GPU_PLUGINS if (version := _version(name))})
    return versions


def _build_info() -> ModuleType | None:
    try:
        return importlib.import_module("jaxdirect._build_info")
    except ModuleNotFoundError:
        return None


def _build() -> dict[str, str]:
    info = _build_info()
    if info is None:
        return {}
    cuda = f"{info.CUDA_COMPILER_VERSION} for {info.CUDA_ARCHITECTURES}" if info.CUDA else "no"
    return {"compiler": info.CXX_COMPILER, "type": info.BUILD_TYPE, "cuda": cuda}


def _gpus() -> list[dict[str, Any]]:
    if jax.default_backend() != "gpu":
        return []
    links = _links()
    gpus = []
    for device in jax.local_devices():
        memory = (device.memory_stats() or {}).get("bytes_limit", 0)
        gpu = {"id": device.id, "name": device.device_kind, "memory_bytes": memory}
        # The driver numbers as JAX does only where neither is told to show fewer GPUs.
        link = links[device.local_hardware_id] if len(links) == jax.local_device_count() else ""
        gpus.append({**gpu, "link": link, "device": device})
    return gpus


def _links() -> list[str]:
    """Each GPU's PCIe link as the driver reports it, or nothing where it cannot be asked."""
    fields = "pcie.link.gen.max,pcie.link.width.max"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.split(",") for line in answer.stdout.splitlines() if line.count(",") == 1]
    return [f"PCIe {gen.strip()} x{width.strip()}" for gen, width in rows]


def _copy_rate(device: Any) -> float:
    """GB/s of a copy from pinned host memory to `device`: the best of a few."""
    host = jax.sharding.SingleDeviceSharding(device, memory_kind="pinned_host")
    if isinstance(_ffi.module("cuda"), ImportError):
        source = jax.device_put(np.zeros(_PROBE_BYTES, np.uint8), host)
    else:
        pages = empty((_PROBE_BYTES,), np.uint8)
        pages[:] = 0
        source = unified(pages, device=device)
    target = jax.sharding.SingleDeviceSharding(device)
    seconds = []
    for _ in range(_PROBE_ROUNDS):
        start = time.perf_counter()
        jax.device_put(source, target).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return _PROBE_BYTES / min(seconds) / 1e9


def _missing(gpus: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Pairs: what is missing, and what gets it."""
    missing = []
    if isinstance(_ffi.module("cpu"), ImportError):
        missing.append(("native CPU code", _ffi.missing("cpu")))
    if isinstance(_ffi.module("cuda"), ImportError):
        missing.append(("native CUDA code", _ffi.missing("cuda")))
    if not gpus and not any(_version(name) for name in _GPU_PLUGINS):
        missing.append(("JAX for NVIDIA GPUs", 'pip install "jax[cuda13]"'))
    elif not gpus:
        missing.append(("a GPU that JAX can use", "check that nvidia-smi lists it"))
    training = [name for name in _PACKAGES if _version(name) is None]
    if training:
        missing.append((f"for jaxdirect train: {', '.join(training)}", "pip install '.[train]'"))
    return missing
