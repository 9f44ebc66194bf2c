"""A matrix product beside a gather, for several `max_blocks`: how much each slows the other."""

from __future__ import annotations

import collections
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jaxdirect

from . import gather_cases, ours
from .context import Context, random_ids

SIZE = 8192
PRODUCTS = 64
ROW_BYTES = 512


class Background:
    """Keeps up to three pieces of device work in flight until the `with` block ends."""

    def __init__(self, submit: Callable[[], Any], wait: Callable[[Any], object]):
        self._submit, self._wait = submit, wait
        self._stop = threading.Event()
        self._running = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        pending: collections.deque = collections.deque()
        while not self._stop.is_set():
            pending.append(self._submit())
            self._running.set()
            if len(pending) == 3:
                self._wait(pending.popleft())
        for item in pending:
            self._wait(item)

    def __enter__(self) -> None:
        self._thread.start()
        self._running.wait()
        time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def run(ctx: Context, max_blocks: int | None) -> dict[str, Any]:
    """Gather GB/s and product TFLOP/s, each alone and beside the other."""
    if not ctx.torch_cuda:
        return {"skipped": "needs CUDA and PyTorch"}
    torch = ctx.torch
    host = gather_cases.pages(ctx).numpy(ROW_BYTES)
    table = jaxdirect.unified(host)
    n = (64 if ctx.small else 256 << 10) * 4
    id_sets = jnp.asarray(random_ids(len(host), 4, n, seed=3))
    loop = ours.gather_loop("auto", max_blocks)
    left, right = (torch.randn(SIZE, SIZE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()

    def products(count: int) -> tuple[Any, Any]:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        with torch.cuda.stream(stream):
            begin.record()
            for _ in range(count):
                torch.matmul(left, right)
            end.record()
        return begin, end

    def product_s() -> float:
        begin, end = products(PRODUCTS)
        end.synchronize()
        return begin.elapsed_time(end) / 1e3 / PRODUCTS

    def gather_s() -> float:
        start = time.perf_counter()
        jax.block_until_ready(loop(table, id_sets))
        return (time.perf_counter() - start) / len(id_sets)

    def middle(measure: Callable[[], float]) -> float:
        measure()
        return statistics.median(measure() for _ in range(5))

    alone = {"gather": middle(gather_s), "matmul": middle(product_s)}
    with Background(lambda: products(8), lambda events: events[1].synchronize()):
        gather = middle(gather_s)
    with Background(lambda: loop(table, id_sets), jax.block_until_ready):
        matmul = middle(product_s)
    nbytes, flop = n * ROW_BYTES, 2 * SIZE**3
    return {
        "params": {"max_blocks": max_blocks, "ids": n, "row_bytes": ROW_BYTES, "matmul": SIZE},
        "seconds": {**alone, "gather_beside": gather, "matmul_beside": matmul},
        "time_s": gather,
        "gather_gb_per_s": {
            "alone": nbytes / alone["gather"] / 1e9,
            "beside": nbytes / gather / 1e9,
        },
        "matmul_tflop_per_s": {
            "alone": flop / alone["matmul"] / 1e12,
            "beside": flop / matmul / 1e12,
        },
        "slowdown": {"gather": gather / alone["gather"], "matmul": matmul / alone["matmul"]},
    }
