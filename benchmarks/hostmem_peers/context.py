"""What the cases share: platform, sizes, threads, and host arrays that several cases use."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import os
from collections.abc import Callable
from typing import Any

import numpy as np

import jaxdirect

from . import native


def torch_or_none() -> Any:
    """PyTorch, or None where it is not installed."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    return torch


@dataclasses.dataclass
class Context:
    """State of one benchmark process.

    Args:
        platform: "cuda" or "cpu", JAX's default backend.
        small: tiny sizes, to test the logic.
        threads: threads of the CPU peers.
        link: measured ceilings in bytes/s, filled by `link.measure`.
        notes: printed remarks, e.g. why a peer is missing.
        without: peers to leave out, by column name.
        versions: of peers that report their own.
    """

    platform: str
    small: bool
    threads: int
    link: dict[str, float] = dataclasses.field(default_factory=dict)
    notes: dict[str, str] = dataclasses.field(default_factory=dict)
    without: set[str] = dataclasses.field(default_factory=set)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    _group: str = ""
    _kept: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def cuda(self) -> bool:
        return self.platform == "cuda"

    @functools.cached_property
    def torch(self) -> Any:
        """PyTorch if it can serve this platform, else None."""
        torch = torch_or_none()
        if torch is None or (self.cuda and not torch.cuda.is_available()):
            self.note("torch", "no PyTorch for this platform: its peers are left out")
            return None
        torch.set_num_threads(self.threads)
        return torch

    @property
    def torch_cuda(self) -> bool:
        """Whether PyTorch serves the GPU beside JAX."""
        return self.cuda and bool(self.torch)

    def note(self, key: str, text: str) -> None:
        """Keeps and prints a remark once."""
        if key not in self.notes:
            self.notes[key] = text
            print(f"note: {text}", flush=True)

    def enter(self, group: str) -> None:
        """Drops what an earlier group of cases kept, so that host memory is not held twice."""
        if group != self._group:
            self._kept.clear()
            self._group = group

    def keep(self, key: str, make: Callable[[], Any]) -> Any:
        """The kept object of that name, made on first use."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]


class Pages:
    """One registered host buffer, seen as tables of any row length.

    The pages are registered once, by a unified array over the whole buffer that lives as long as
    this object; tables of other shapes over the same pages share that registration.
    """

    def __init__(self, nbytes: int, threads: int):
        self.flat = jaxdirect.empty((nbytes // 4,), np.float32)
        native.fill(self.flat, 1, threads)
        self._anchor = jaxdirect.unified(self.flat.reshape(-1, 1024))

    def numpy(self, row_bytes: int, nbytes: int | None = None, offset: int = 0) -> np.ndarray:
        """float32 [rows, row_bytes / 4] over the first `nbytes`, starting `offset` bytes in."""
        width = row_bytes // 4
        words = (self.flat.nbytes if nbytes is None else nbytes) // 4 - offset // 4
        rows = words // width
        return self.flat[offset // 4 : offset // 4 + rows * width].reshape(rows, width)


def random_ids(rows: int, sets: int, n: int, seed: int) -> np.ndarray:
    """Uniform int32 ids [sets, n]."""
    return np.random.default_rng(seed).integers(0, rows, (sets, n), dtype=np.int32)


def check_rows(name: str, rows: Any, table: np.ndarray, ids: np.ndarray) -> None:
    """Raises if rows [n, dim] at some 4096 places are not, bit for bit, the table's rows."""
    places = np.random.default_rng(0).integers(0, ids.size, min(4096, ids.size))
    got = rows[places]
    got = np.ascontiguousarray(got.cpu().numpy() if hasattr(got, "cpu") else np.asarray(got))
    want = np.where((ids[places] >= 0)[:, None], table[ids[places]], 0)
    if not np.array_equal(got.view(np.uint32), want.view(np.uint32)):
        raise RuntimeError(f"{name}: gathered rows differ from the table's")


def cpu_count() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))
