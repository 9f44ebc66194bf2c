"""WholeGraph as a peer: one process, one rank, a `continuous` host table, its own gather."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from . import native
from .context import Context
from .timing import Contender


class WholeGraph:
    """WholeGraph's runtime and one host allocation, viewed as tables of any row length.

    A single-rank communicator is made from a fresh NCCL id, without torch.distributed. The host
    memory is WholeGraph's own (`malloc`, continuous, cpu), filled from our table's bytes.
    """

    def __init__(self, nbytes: int):
        import librmm
        import torch  # first: its NCCL serves libwholegraph.so

        librmm.load_library()
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
        import pylibwholegraph
        import pylibwholegraph.binding.wholememory_binding as binding
        from pylibwholegraph.torch.comm import WholeMemoryCommunicator
        from pylibwholegraph.torch.dlpack_utils import torch_import_from_dlpack
        from pylibwholegraph.torch.initialize import init
        from pylibwholegraph.torch.tensor import WholeMemoryTensor

        self._from_dlpack = torch_import_from_dlpack
        self.version = pylibwholegraph.__version__
        self._binding, self._tensor_type, self._torch = binding, WholeMemoryTensor, torch
        torch.cuda.set_device(0)
        torch.cuda.current_stream().synchronize()
        init(0, 1, 0, 1, "error")
        communicator = binding.create_communicator(binding.create_unique_id(), 0, 1)
        self._communicator = WholeMemoryCommunicator(communicator)
        kinds, places = binding.WholeMemoryMemoryType, binding.WholeMemoryMemoryLocation
        self._handle = binding.malloc(nbytes, communicator, kinds.MtContinuous, places.MlHost, 4096)
        self._filled: tuple[int, int] | None = None

    def table(self, source: np.ndarray, threads: int) -> Any:
        """A WholeGraph tensor [rows, dim] with the bytes of `source`, on WholeGraph's own pages."""
        description = self._binding.PyWholeMemoryTensorDescription()
        description.set_dtype(self._binding.WholeMemoryDataType.DtFloat)
        description.set_shape(source.shape)
        description.set_stride((source.shape[1], 1))
        description.set_storage_offset(0)
        raw = self._binding.make_handle_as_wholememory(description, self._handle)
        tensor = self._tensor_type(raw)
        start = source.ctypes.data
        held = self._filled
        if held is None or held[0] != start or held[1] < source.nbytes:
            host, _ = self._handle.get_global_flatten_tensor(
                self._from_dlpack,
                self._binding.WholeMemoryDataType.DtFloat,
                self._binding.WholeMemoryMemoryLocation.MlHost,
                -1,
            )
            native.copy(host.numpy(), source, threads)
            self._filled = (start, source.nbytes)
        return tensor

    def contender(self, tensor: Any, id_sets: Any) -> Contender:
        """`id_sets`: int32 CUDA tensor [calls, n]."""

        def run(_: int) -> None:
            for ids in id_sets:
                tensor.gather(ids)
            self._torch.cuda.synchronize()

        return Contender("wholegraph", run, calls=len(id_sets))


def peer(ctx: Context, nbytes: int) -> WholeGraph | None:
    """WholeGraph with a host table of `nbytes`, or None with a printed reason."""
    if not ctx.cuda or ctx.torch is None:
        ctx.note("wholegraph", "WholeGraph is left out: it needs CUDA and PyTorch")
        return None

    def make() -> WholeGraph | None:
        try:
            return WholeGraph(nbytes)
        except (ImportError, OSError, RuntimeError, AttributeError, TypeError, ValueError) as error:
            ctx.note("wholegraph", f"WholeGraph is left out: {type(error).__name__}: {error}")
            return None

    return ctx.keep("wholegraph", make)
