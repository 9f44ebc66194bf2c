"""WholeGraph as a peer: one process, one rank, `continuous` host memory, its gather and sampler.

Wheels (with --no-deps, beside PyTorch): pylibwholegraph-cu13, libwholegraph-cu13, librmm-cu13,
rapids-logger. libwholegraph.so takes NCCL from PyTorch, which must be imported first.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness.timing import Contender

from . import native
from .context import Context, check_rows
from .graphs import HostGraph


class WholeGraph:
    """WholeGraph's runtime, one large host allocation for tables, and CSR arrays as asked for.

    The single-rank communicator is made from a fresh NCCL id, without torch.distributed. The
    memory must be WholeGraph's own: it sorts ids only for tensors that have a handle.
    """

    def __init__(self, nbytes: int):
        import torch

        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
        import librmm

        librmm.load_library()
        import pylibwholegraph
        import pylibwholegraph.binding.wholememory_binding as binding
        from pylibwholegraph.torch.dlpack_utils import torch_import_from_dlpack
        from pylibwholegraph.torch.initialize import init
        from pylibwholegraph.torch.tensor import WholeMemoryTensor
        from pylibwholegraph.torch.wholegraph_ops import unweighted_sample_without_replacement

        self.version = pylibwholegraph.__version__
        self._binding, self._tensor_type, self._torch = binding, WholeMemoryTensor, torch
        self._from_dlpack, self._draw = (
            torch_import_from_dlpack,
            unweighted_sample_without_replacement,
        )
        torch.cuda.set_device(0)
        torch.zeros(1, device="cuda")  # WholeGraph expects a current CUDA context
        init(0, 1, 0, 1, "error")
        self._communicator = binding.create_communicator(binding.create_unique_id(), 0, 1)
        self._nbytes = nbytes
        self._pages: tuple[Any, np.ndarray] | None = None
        self._filled: tuple[int, int] = (0, 0)

    def _allocate(self, nbytes: int) -> tuple[Any, np.ndarray]:
        """A handle of WholeGraph's host memory, and its float32 view for the host."""
        binding = self._binding
        places = binding.WholeMemoryMemoryLocation
        kind = binding.WholeMemoryMemoryType.MtContinuous
        whole = -(-nbytes // 4096) * 4096
        handle = binding.malloc(whole, self._communicator, kind, places.MlHost, 4096)
        _release_at_exit()
        flat, _ = handle.get_global_flatten_tensor(
            self._from_dlpack, binding.WholeMemoryDataType.DtFloat, places.MlHost, -1
        )
        return handle, flat.numpy()

    def _view(self, handle: Any, source: np.ndarray) -> Any:
        """A WholeGraph tensor with the shape and dtype of `source` over a handle's memory."""
        kinds = self._binding.WholeMemoryDataType
        names = {"float32": kinds.DtFloat, "int32": kinds.DtInt, "int64": kinds.DtInt64}
        description = self._binding.PyWholeMemoryTensorDescription()
        description.set_dtype(names[source.dtype.name])
        description.set_shape(source.shape)
        description.set_stride((*source.shape[1:], 1))
        description.set_storage_offset(0)
        return self._binding.make_handle_as_wholememory(description, handle)

    def table(self, source: np.ndarray, threads: int) -> Any:
        """A WholeGraph tensor [rows, dim] with the bytes of `source`, on WholeGraph's own pages."""
        if self._pages is None:
            self._pages = self._allocate(self._nbytes)
        handle, host = self._pages
        start, filled = source.ctypes.data, self._filled
        if filled[0] != start or filled[1] < source.nbytes:
            native.copy(host, source, threads)
            self._filled = (start, source.nbytes)
        return self._tensor_type(self._view(handle, source))

    def csr(self, arrays: tuple[np.ndarray, ...], threads: int) -> list[Any]:
        """Copies of CSR arrays in WholeGraph's host memory."""
        tensors = []
        for array in arrays:
            handle, host = self._allocate(array.nbytes)
            native.copy(host, array, threads)
            tensors.append(self._view(handle, array))
        return tensors

    def two_hops(self, csr: list[Any], seeds: Any, fanouts: tuple[int, int]) -> list[Any]:
        """Neighbours drawn in both hops from int32 CUDA `seeds`, without pads."""
        found, frontier = [], seeds
        for fanout in fanouts:
            _, frontier = self._draw(*csr, frontier, fanout)[:2]
            found.append(frontier)
        return found

    def contender(self, tensor: Any, id_sets: Any) -> Contender:
        """`id_sets`: int32 CUDA tensor [calls, n]."""

        def run(_: int) -> None:
            for ids in id_sets:
                tensor.gather(ids)
            self._torch.cuda.synchronize()

        return Contender("wholegraph", run, calls=len(id_sets))


def _release_at_exit() -> None:
    """Marks this process's System V segments for removal, so that even a kill frees them.

    WholeGraph keeps its host memory in such a segment, which would outlive the process.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for row in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]:
        fields = row.split()
        if int(fields[4]) == os.getpid():  # cpid, the process that made it
            libc.shmctl(int(fields[1]), 0, None)  # IPC_RMID


_runtime = functools.cache(WholeGraph)


def _attempt(ctx: Context, make: Callable[[], list[Contender]]) -> list[Contender]:
    """What `make` returns, or nothing and a printed reason: a peer must not cost the run."""
    if not ctx.torch_cuda:
        ctx.note("wholegraph", "WholeGraph is left out: it needs CUDA and PyTorch")
        return []
    if "wholegraph" in ctx.without:
        return []
    try:
        return make()
    except Exception as error:
        ctx.note("wholegraph", f"WholeGraph is left out: {type(error).__name__}: {error}")
        ctx.without |= {"wholegraph"}
        return []


def gathers(ctx: Context, nbytes: int, source: np.ndarray, ids: np.ndarray) -> list[Contender]:
    """WholeGraph's gather of `ids` [calls, n] (int32) from a copy of `source` [rows, dim].

    `nbytes` is the size of WholeGraph's allocation for tables, made once per process.
    """

    def make() -> list[Contender]:
        peer = _runtime(nbytes)
        ctx.versions["wholegraph"] = peer.version
        tensor = peer.table(source, ctx.threads)
        torch_ids = ctx.torch.from_numpy(ids).cuda()
        check_rows("wholegraph", tensor.gather(torch_ids[0]), source, ids[0])
        return [peer.contender(tensor, torch_ids)]

    return _attempt(ctx, make)


def samplers(
    ctx: Context, nbytes: int, graph: HostGraph, seeds: np.ndarray, fanouts: tuple[int, int]
) -> list[Contender]:
    """WholeGraph's sampler over a copy of `graph`: two hops from each row of `seeds` [calls, B]."""

    def make() -> list[Contender]:
        peer = _runtime(nbytes)
        arrays = (graph.indptr, graph.indices)
        csr = ctx.keep("wholegraph csr", lambda: peer.csr(arrays, ctx.threads))
        seed_sets = ctx.torch.from_numpy(seeds).cuda()
        degree = np.diff(graph.indptr)
        first = peer.two_hops(csr, seed_sets[0], fanouts)[0]
        if len(first) != np.minimum(degree[seeds[0]], fanouts[0]).sum():
            raise RuntimeError("sampled another number of edges than min(degree, fanout)")

        def run(_: int) -> None:
            for batch in seed_sets:
                peer.two_hops(csr, batch, fanouts)
            ctx.torch.cuda.synchronize()

        return [Contender("wholegraph", run, calls=len(seeds))]

    return _attempt(ctx, make)
