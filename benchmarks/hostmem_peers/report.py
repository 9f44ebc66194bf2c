"""What is printed: one aligned row per case."""

from __future__ import annotations

from typing import Any

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
