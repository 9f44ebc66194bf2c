"""The ceilings, measured on the registered pages that the cases read."""

from __future__ import annotations

import statistics

import jax
import jax.numpy as jnp
import numpy as np
from harness.timing import Contender, median, rounds

import jaxdirect

from . import ours
from .context import Context, Pages

_READ = r"""
extern "C" __global__ void read_all(const uint4* data, long long lines, unsigned* sink) {
  unsigned x = 0;
  long long step = (long long)gridDim.x * blockDim.x;
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < lines; i += 4 * step) {
    uint4 a[4];
    #pragma unroll
    for (int k = 0; k < 4; ++k) a[k] = i + k * step < lines ? data[i + k * step] : uint4{};
    #pragma unroll
    for (int k = 0; k < 4; ++k) x ^= a[k].x ^ a[k].y ^ a[k].z ^ a[k].w;
  }
  if (x == 0x9e3779b9u) *sink = x;
}
"""


def measure(ctx: Context, pages: Pages) -> dict[str, float]:
    """Bytes/s of DMA, of a plain kernel that reads host memory in order, and of our ordered gather.

    `sequential` is the larger of the two zero-copy rates: the ceiling that shares refer to.
    """
    nbytes = min(512 << 20, pages.flat.nbytes // 2)
    offsets = [i * nbytes for i in range(pages.flat.nbytes // nbytes)]
    rates: dict[str, float] = {}
    if ctx.torch_cuda:
        rates["dma"] = _dma(ctx, pages, nbytes, offsets)
        kernel = _kernel(ctx, pages, nbytes, offsets)
        if kernel is not None:
            rates["sequential_kernel"] = kernel
    rates["sequential_gather"] = _ordered_gather(pages, nbytes)
    rates["sequential"] = max(v for k, v in rates.items() if k.startswith("sequential"))
    return rates


def _dma(ctx: Context, pages: Pages, nbytes: int, offsets: list[int]) -> float:
    torch = ctx.torch
    source = torch.from_numpy(pages.flat)
    target = torch.empty(nbytes // 4, device="cuda")
    seconds = []
    for offset in [offsets[0], *offsets[:8]]:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        target.copy_(source[offset // 4 : (offset + nbytes) // 4], non_blocking=True)
        end.record()
        end.synchronize()
        seconds.append(begin.elapsed_time(end) / 1e3)
    return nbytes / statistics.median(seconds[1:])


def _kernel(ctx: Context, pages: Pages, nbytes: int, offsets: list[int]) -> float | None:
    try:
        import cupy

        read = cupy.RawKernel(_READ, "read_all")
        read.compile()
    except Exception as error:  # the ordered gather still gives a ceiling
        ctx.note("cupy", f"the plain read kernel is left out: {type(error).__name__}: {error}")
        return None
    sink = cupy.zeros(1, cupy.uint32)
    best = 0.0
    for blocks in (264, 528, 1056):
        seconds = []
        for offset in [offsets[0], *offsets[:6]]:
            address = np.uint64(pages.flat.ctypes.data + offset)
            begin, end = cupy.cuda.Event(), cupy.cuda.Event()
            begin.record()
            read((blocks,), (512,), (address, np.int64(nbytes // 16), sink))
            end.record()
            end.synchronize()
            seconds.append(cupy.cuda.get_elapsed_time(begin, end) / 1e3)
        best = max(best, nbytes / statistics.median(seconds[1:]))
    return best


def _ordered_gather(pages: Pages, nbytes: int) -> float:
    """Our gather, order="given", of 4 KB rows with consecutive ids."""
    table_np = pages.numpy(4096)
    table = jaxdirect.unified(table_np)
    n = min(nbytes // 4096, len(table_np))
    starts = np.arange(min(4, len(table_np) // n)) * n
    id_sets = jnp.asarray((starts[:, None] + np.arange(n)).astype(np.int32))
    loop = ours.gather_loop("given")
    contender = Contender(
        "sequential", lambda _: jax.block_until_ready(loop(table, id_sets)), calls=len(starts)
    )
    return n * 4096 / median(rounds([contender], 5)["sequential"])
