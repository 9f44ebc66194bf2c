"""Registered host pages: who uses them, and when they may go.

A page may be registered with the CUDA driver once, while arrays may share pages. So
registrations are counted: an array holds every segment of pages that it touches, and a
segment is unregistered when its last array is gone and the GPUs are idle. A `_Lease` is
one JAX array's hold; the array's buffer owns the lease, and dropping it wakes the reaper,
a thread that waits for the GPUs, unregisters, and only then lets go of the NumPy array.
"""

from __future__ import annotations

import atexit
import bisect
import contextlib
import dataclasses
import os
import queue
import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from jaxdirect import _compat, _ffi

_PAGE = 4096
_MAPS = "/proc/self/maps"

# DLPack's codes for devices and types (dlpack.h).
_DLPACK_CUDA_HOST = 3
_DLPACK_KINDS = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}
_DLPACK_FLOATS = {
    "bfloat16": 4,
    "float8_e3m4": 7,
    "float8_e4m3": 8,
    "float8_e4m3b11fnuz": 9,
    "float8_e4m3fn": 10,
    "float8_e4m3fnuz": 11,
    "float8_e5m2": 12,
    "float8_e5m2fnuz": 13,
    "float8_e8m0fnu": 14,
}


@dataclasses.dataclass(eq=False)
class _Segment:
    start: int
    stop: int
    users: int = 0


class _Registry:
    """Disjoint registered segments, ordered by address."""

    def __init__(self, native: Any) -> None:
        self.native = native
        self._lock = threading.Lock()
        self._segments: list[_Segment] = []

    def acquire(self, start: int, stop: int, read_only: bool) -> list[_Segment]:
        """Registers what is not registered yet of `[start, stop)`; returns all segments in it."""
        with self._lock:
            held, gaps, at = [], [], start
            first = bisect.bisect_right([segment.stop for segment in self._segments], start)
            for segment in self._segments[first:]:
                if segment.start >= stop:
                    break
                if at < segment.start:
                    gaps.append(_Segment(at, segment.start))
                held.append(segment)
                at = segment.stop
            if at < stop:
                gaps.append(_Segment(at, stop))
            registered = []
            try:
                for gap in gaps:
                    self.native.host_register(gap.start, gap.stop - gap.start, read_only)
                    registered.append(gap)
            except BaseException:
                for gap in registered:
                    self.native.host_unregister(gap.start)
                raise
            for gap in gaps:
                bisect.insort(self._segments, gap, key=lambda segment: segment.start)
            for segment in held + gaps:
                segment.users += 1
            return held + gaps

    def release(self, segments: list[_Segment]) -> None:
        """Gives up one use of each segment. The GPUs must be done with them."""
        with self._lock:
            for segment in segments:
                segment.users -= 1
                if segment.users == 0:
                    self._segments.remove(segment)
                    self.native.host_unregister(segment.start)

    def registered_bytes(self) -> int:
        with self._lock:
            return sum(segment.stop - segment.start for segment in self._segments)


@dataclasses.dataclass(frozen=True)
class _PinnedView:
    """What `jax.dlpack.from_dlpack` takes: a capsule, and the GPU that shall see it."""

    capsule: Any
    ordinal: int

    def __dlpack__(self, **_: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return (_DLPACK_CUDA_HOST, self.ordinal)


_returned: queue.SimpleQueue = queue.SimpleQueue()


class _Lease:
    """What one JAX array holds: segments, and the NumPy array whose pages they are."""

    def __init__(self, segments: list[_Segment], array: np.ndarray) -> None:
        self._held = (segments, array)

    def __del__(self, put: Callable = _returned.put) -> None:
        # Any thread may run this, one of XLA's too: it must neither wait nor call CUDA.
        # It may run while the interpreter exits, when this module's names are gone.
        put(self._held)


_state_lock = threading.Lock()
_registry: _Registry | None = None
_devices: set[int] = set()  # GPUs that may be reading registered pages
_kept: list[Any] = []  # what could not be released: a GPU may still read its pages
_failures: queue.SimpleQueue = queue.SimpleQueue()  # why, until the next table reports it


def _start() -> _Registry:
    global _registry
    with _state_lock:
        if _registry is None:
            native = _ffi.require("cuda", "unified: a GPU table needs jaxdirect's CUDA module")
            _registry = _Registry(native)
            reaper = threading.Thread(
                target=_reap,
                args=(_registry, native, _returned),
                name="jaxdirect-reaper",
                daemon=True,
            )
            reaper.start()
            atexit.register(_stop, reaper)
        return _registry


def _reap(registry: _Registry, native: Any, returned: queue.SimpleQueue) -> None:
    while (held := returned.get()) is not None:
        segments, array = held
        try:
            native.synchronize(sorted(_devices))
            registry.release(segments)
        except RuntimeError as error:
            _kept.append(held)
            _failures.put(error)
        del held, segments, array


def _report_failure() -> None:
    with contextlib.suppress(queue.Empty):
        error = _failures.get_nowait()
        raise RuntimeError(
            f"unified: the pages of an earlier table could not be released and stay pinned "
            f"({error}); if the GPU was lost, restart the process"
        ) from error


def _stop(reaper: threading.Thread) -> None:
    _returned.put(None)
    reaper.join()


def registered_bytes() -> int:
    """Bytes of host pages that are registered with the CUDA driver now."""
    return 0 if _registry is None else _registry.registered_bytes()


def register(array: np.ndarray, device: Any, *, read_only: bool) -> Array:
    """A `jax.Array` on `device`'s pinned host memory that views `array`'s own pages."""
    registry = _start()
    _report_failure()
    segments = registry.acquire(*_page_span(array), read_only)
    lease = _Lease(segments, array)
    _devices.add(device.local_hardware_id)
    code = _DLPACK_FLOATS.get(array.dtype.name, _DLPACK_KINDS.get(array.dtype.kind))
    if code is None:
        raise TypeError(f"unified: dtype {array.dtype} cannot be shared with the GPU")
    ordinal = device.local_hardware_id
    capsule = registry.native.host_view(
        array.ctypes.data, array.shape, code, 8 * array.dtype.itemsize, ordinal, lease
    )
    view = jax.dlpack.from_dlpack(_PinnedView(capsule, ordinal), copy=False)
    return _compat.with_host_type(view)


def is_shared_mapping(array: np.ndarray) -> bool:
    """Whether the array lies in a file's shared pages, which can be pinned for reading only.

    Refuses memory that is mapped read-only: pinning it fails in the driver, or hangs in it.
    """
    modes = _mapping_modes(*_page_span(array))
    if any("w" not in mode for mode in modes):
        raise ValueError(
            "unified: array must lie in memory that this process may write, got a read-only "
            "mapping, which CUDA drivers cannot pin; open the file with "
            "numpy.memmap(mode='r+') (no copy) or mode='c' (private pages), or copy it into "
            "jaxdirect.empty(...)"
        )
    return any("s" in mode for mode in modes)


def _page_span(array: np.ndarray) -> tuple[int, int]:
    address = array.ctypes.data
    return address // _PAGE * _PAGE, -(-(address + array.nbytes) // _PAGE) * _PAGE


def _mapping_modes(start: int, stop: int) -> list[str]:
    """Modes such as "rw-p" of the mappings that `[start, stop)` touches; none if not known."""
    if not os.path.exists(_MAPS):
        return []
    modes = []
    with open(_MAPS) as maps:
        for line in maps:
            bounds, mode = line.split(maxsplit=2)[:2]
            low, high = (int(bound, 16) for bound in bounds.split("-"))
            if low < stop and start < high:
                modes.append(mode)
    return modes
