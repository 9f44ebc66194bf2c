"""The CPU-centric loop: threads sample and gather whole batches ahead, pinned copies, same step."""

from __future__ import annotations

import queue
import threading
import time
from typing import Any

import jax
import numpy as np

from . import native, sage
from .context import Context
from .graphs import HostGraph

DEVICE_SLOTS = 3


class Loader:
    """One worker thread per core makes whole mini-batches; one more thread copies them.

    Args:
        ctx: benchmark context.
        graph: CSR on the host.
        table: float32 [nodes, features] on the host.
        model: sizes.
        distinct: gather each node of a batch once and let the GPU spread the rows.
    """

    def __init__(
        self, ctx: Context, graph: HostGraph, table: np.ndarray, model: sage.Model, distinct: bool
    ):
        self.ctx, self.graph, self.table, self.model = ctx, graph, table, model
        self.distinct = distinct
        self.pinned = ctx.torch_cuda
        slots = ctx.threads + 4
        self._rows = [self._buffer((model.ids, model.features), np.float32) for _ in range(slots)]
        self._ids = [self._buffer((2, model.ids), np.int32) for _ in range(slots)]
        if self.pinned:
            torch = ctx.torch
            shape = (model.ids, model.features)
            self._device_rows = [torch.empty(shape, device="cuda") for _ in range(DEVICE_SLOTS)]
            # Two tensors, not one of two rows: an imported array must start on an aligned address.
            self._device_ids = [
                [torch.empty(model.ids, device="cuda", dtype=torch.int32) for _ in range(2)]
                for _ in range(DEVICE_SLOTS)
            ]
            self._stream = torch.cuda.Stream()

    def _buffer(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """A host slot, pinned where there is a GPU (kept alive by the NumPy view)."""
        if not self.pinned:
            return np.empty(shape, dtype)
        torch = self.ctx.torch
        kind = {np.float32: torch.float32, np.int32: torch.int32}[dtype]
        return torch.empty(shape, dtype=kind, pin_memory=True).numpy()

    def epoch(self, params, seeds: np.ndarray, seed: int):
        """Trains on each row of `seeds` [steps, batch].

        Returns:
            (params, split): thread seconds per step spent sampling and gathering, and copy seconds.
        """
        steps = len(seeds)
        todo: queue.SimpleQueue = queue.SimpleQueue()
        free: queue.SimpleQueue = queue.SimpleQueue()
        made: queue.SimpleQueue = queue.SimpleQueue()
        copied: queue.Queue = queue.Queue(maxsize=1)
        targets: queue.SimpleQueue = queue.SimpleQueue()
        times = np.zeros((self.ctx.threads, 2))
        copy_s = [0.0]
        for i in range(steps):
            todo.put(i)
        for slot in range(len(self._rows)):
            free.put(slot)
        for slot in range(DEVICE_SLOTS):
            targets.put(slot)

        def work(worker: int) -> None:
            while True:
                slot = free.get()
                try:
                    index = todo.get_nowait()
                except queue.Empty:
                    return
                count = self._make(slot, seeds[index], seed * steps + index, times[worker])
                made.put((slot, count))

        def ship() -> None:
            for _ in range(steps):
                slot, count = made.get()
                target = targets.get()
                arrays = self._copy(slot, count, target, copy_s)
                free.put(slot)
                copied.put((target, arrays))

        workers = [threading.Thread(target=work, args=(w,)) for w in range(self.ctx.threads)]
        workers.append(threading.Thread(target=ship))
        for thread in workers:
            thread.start()
        params = self._train(params, steps, copied, targets)
        for _ in workers:
            free.put(0)  # wakes workers that wait for a slot, to find nothing left to do
        for thread in workers:
            thread.join()
        sample, gather = times.sum(0) / self.ctx.threads / steps
        return params, {"sample": sample, "gather": gather, "copy": copy_s[0] / steps}

    def _make(self, slot: int, seeds: np.ndarray, seed: int, times: np.ndarray) -> int:
        """Samples and gathers one batch into a slot; returns the rows written."""
        ids, inverse = self._ids[slot]
        unique = np.empty(self.model.ids, np.int32) if self.distinct else None
        return native.library().hm_batch(
            self.graph.indptr.ctypes.data,
            self.graph.indices.ctypes.data,
            self.table.ctypes.data,
            self.table.strides[0],
            len(self.table),
            seeds.ctypes.data,
            seeds.size,
            *self.model.fanouts,
            seed,
            ids.ctypes.data,
            None if unique is None else unique.ctypes.data,
            inverse.ctypes.data,
            self._rows[slot].ctypes.data,
            times.ctypes.data,
        )

    def _copy(self, slot: int, count: int, target: int, copy_s: list[float]):
        """Copies a made batch to a device slot and waits; returns (rows, ids, inverse) for JAX."""
        begin = time.perf_counter()
        if self.pinned:
            torch = self.ctx.torch
            rows, ids = self._device_rows[target], self._device_ids[target]
            with torch.cuda.stream(self._stream):
                rows[:count].copy_(torch.from_numpy(self._rows[slot])[:count], non_blocking=True)
                for to, source in zip(ids, self._ids[slot], strict=True):
                    to.copy_(torch.from_numpy(source), non_blocking=True)
            self._stream.synchronize()
            arrays = [jax.dlpack.from_dlpack(a) for a in (rows, *ids)]
        else:
            parts = (self._rows[slot], *self._ids[slot])
            arrays = [jax.device_put(a.copy()) for a in parts]
        copy_s[0] += time.perf_counter() - begin
        return arrays

    def _train(self, params, steps: int, copied: queue.Queue, targets: queue.SimpleQueue):
        """Runs the steps in order of arrival; a device slot is free once its step is done."""
        step = (sage.train_distinct if self.distinct else sage.train_rows)(self.model)
        running: list[tuple[int, jax.Array]] = []
        for _ in range(steps):
            target, (rows, ids, inverse) = copied.get()
            extra = (inverse,) if self.distinct else ()
            params, loss = step(params, rows, ids, *extra)
            running.append((target, loss))
            if len(running) == DEVICE_SLOTS - 1:
                done, loss = running.pop(0)
                jax.block_until_ready(loss)
                targets.put(done)
        jax.block_until_ready(params)
        return params
