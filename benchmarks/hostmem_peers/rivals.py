"""CPU gather and copy, as loaders without zero copy do it: threads + DMA, PyTorch, NumPy."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from harness.timing import Contender

from . import native
from .context import Context

CHUNK_BYTES = 16 << 20


class Staging:
    """Two pinned chunks and one device buffer: gather into one chunk while the other travels.

    Without CUDA the device buffer is ordinary memory and the copy a memcpy, to test the logic.
    """

    def __init__(self, ctx: Context, nbytes: int, chunk_bytes: int = CHUNK_BYTES):
        self.cuda = ctx.torch_cuda
        self._target: Any
        self.chunk_bytes = min(chunk_bytes, nbytes)
        if self.cuda:
            torch = ctx.torch
            make = lambda n, **k: torch.empty(n, dtype=torch.uint8, **k)  # noqa: E731
            self._pinned = [make(self.chunk_bytes, pin_memory=True) for _ in range(2)]
            self._target = make(nbytes, device="cuda")
            self._events = [torch.cuda.Event() for _ in range(2)]
            self._finish, self._float32 = torch.cuda.synchronize, torch.float32
            self.chunks = [p.numpy() for p in self._pinned]
        else:
            self.chunks = [np.empty(self.chunk_bytes, np.uint8) for _ in range(2)]
            self._target = np.empty(nbytes, np.uint8)

    def wait(self, slot: int) -> None:
        """Blocks until chunk `slot` may be overwritten."""
        if self.cuda:
            self._events[slot].synchronize()

    def send(self, slot: int, nbytes: int, offset: int) -> None:
        """Starts the copy of a chunk to its place in the device buffer."""
        target = self._target[offset : offset + nbytes]
        if self.cuda:
            target.copy_(self._pinned[slot][:nbytes], non_blocking=True)
            self._events[slot].record()
        else:
            target[:] = self.chunks[slot][:nbytes]

    def finish(self) -> None:
        """Blocks until every copy is done."""
        if self.cuda:
            self._finish()

    def rows(self, row_bytes: int) -> Any:
        """The device buffer as float32 rows (a torch tensor on CUDA, else a NumPy array)."""
        size = len(self._target) // row_bytes * row_bytes
        float32 = self._float32 if self.cuda else np.float32
        return self._target[:size].view(float32).reshape(-1, row_bytes // 4)


@dataclasses.dataclass(frozen=True)
class Work:
    """One case's input on the host: `table` [rows, dim], `ids` [sets, n] int32."""

    table: np.ndarray
    ids: np.ndarray

    @property
    def row_bytes(self) -> int:
        return self.table.strides[0]

    @property
    def call_bytes(self) -> int:
        return self.ids.shape[1] * self.row_bytes


def _pipeline(work: Work, staging: Staging, fill_chunk, wide: np.ndarray, index: int) -> None:
    """Gathers chunk after chunk with `fill_chunk(slot, ids)`, each copied while the next fills."""
    ids = wide[index % len(wide)]
    step = max(1, staging.chunk_bytes // work.row_bytes)
    for count, begin in enumerate(range(0, ids.size, step)):
        slot = count % 2
        piece = ids[begin : begin + step]
        staging.wait(slot)
        fill_chunk(slot, piece)
        staging.send(slot, piece.size * work.row_bytes, begin * work.row_bytes)
    staging.finish()


def threaded(ctx: Context, work: Work, staging: Staging) -> list[Contender]:
    """C++ gather by all threads into pinned chunks + DMA: plain memcpy and streaming stores."""
    wide = work.ids.astype(np.int64)

    def contender(name: str, streaming: bool) -> Contender:
        def fill_chunk(slot: int, ids: np.ndarray) -> None:
            address = staging.chunks[slot].ctypes.data
            native.gather(address, work.table, ids, streaming=streaming, threads=ctx.threads)

        return Contender(name, lambda i: _pipeline(work, staging, fill_chunk, wide, i))

    found = [contender("cpp", False)]
    if work.row_bytes % 32 == 0:  # other rows take the memcpy path in both
        found.append(contender("cpp_stream", True))
    return found


def torch_serial(ctx: Context, work: Work) -> list[Contender]:
    """torch.index_select by all threads of the whole batch, then one DMA: no overlap."""
    whole = Staging(ctx, work.call_bytes, chunk_bytes=work.call_bytes)
    return torch_threaded(ctx, work, whole, name="torch_serial")


def torch_threaded(
    ctx: Context, work: Work, staging: Staging, name: str = "torch_dma"
) -> list[Contender]:
    """torch.index_select by all threads into pinned chunks + DMA, double buffered."""
    torch = ctx.torch
    if torch is None:
        return []
    table = torch.from_numpy(work.table)
    wide = work.ids.astype(np.int64)
    views = [torch.from_numpy(c).view(torch.float32) for c in staging.chunks]
    dim = work.table.shape[1]

    def fill_chunk(slot: int, ids: np.ndarray) -> None:
        out = views[slot][: ids.size * dim].view(ids.size, dim)
        torch.index_select(table, 0, torch.from_numpy(ids), out=out)

    return [Contender(name, lambda i: _pipeline(work, staging, fill_chunk, wide, i))]


def torch_loader(ctx: Context, work: Work) -> list[Contender]:
    """What a loader with pin_memory=True does: index on the CPU, pin the result, copy it."""
    torch = ctx.torch
    if torch is None:
        return []
    table = torch.from_numpy(work.table)
    wide = torch.from_numpy(work.ids.astype(np.int64))

    def run(index: int) -> None:
        rows = table[wide[index % len(wide)]]
        if ctx.cuda:
            rows.pin_memory().to("cuda", non_blocking=True)
            torch.cuda.synchronize()

    return [Contender("torch_index", run, every=2)]


def numpy_put(ctx: Context, work: Work) -> list[Contender]:
    """numpy.take + jax.device_put."""
    del ctx

    def run(index: int) -> None:
        rows = np.take(work.table, work.ids[index % len(work.ids)], axis=0)
        jax.block_until_ready(jax.device_put(rows))

    return [Contender("numpy", run, every=2)]
