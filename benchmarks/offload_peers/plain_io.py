"""What a disk does alone: threads that write and read whole values past the page cache."""

from __future__ import annotations

import concurrent.futures
import contextlib
import mmap
import os
import tempfile
from collections.abc import Callable
from typing import Any


class File:
    """A file without a name, and the threads and buffers that move its values.

    Args:
        folder: where it is made.
        total: bytes it has room for, all of them allocated.
        size: bytes of a value, which one call writes or reads.
        threads: that call at the same time.

    Attributes:
        direct: whether the page cache is passed by.
    """

    def __init__(self, folder: str, total: int, size: int, threads: int):
        self._size, self._threads = size, threads
        self._descriptor, self.direct = _open(folder)
        os.posix_fallocate(self._descriptor, 0, total)
        self._pool = concurrent.futures.ThreadPoolExecutor(threads)
        self._buffers = [mmap.mmap(-1, size) for _ in range(threads)]  # aligned to pages
        for buffer in self._buffers:
            buffer.write(os.urandom(4096) * (size // 4096))

    def __enter__(self) -> File:
        return self

    def __exit__(self, *_: Any) -> None:
        self._pool.shutdown()
        os.close(self._descriptor)
        for buffer in self._buffers:
            buffer.close()

    def write(self, total: int) -> None:
        """Writes so many bytes from the file's start."""
        self._move(total, os.pwritev)

    def read(self, total: int) -> None:
        """Reads so many bytes from the file's start."""
        self._move(total, os.preadv)

    def _move(self, total: int, call: Callable[[int, list, int], int]) -> None:
        offsets = list(range(0, total, self._size))

        def work(thread: int) -> None:
            with memoryview(self._buffers[thread]) as buffer:
                for offset in offsets[thread :: self._threads]:
                    _whole(call, self._descriptor, buffer, offset)

        list(self._pool.map(work, range(self._threads)))


def _whole(call: Callable[[int, list, int], int], file: int, buffer: memoryview, at: int) -> None:
    done = 0
    while done < len(buffer):
        with buffer[done:] as rest:
            count = call(file, [rest], at + done)
        if count == 0:
            raise OSError(f"no byte at {at + done}: the file is shorter")
        done += count


def _open(folder: str) -> tuple[int, bool]:
    """A new file that has no name, and whether it is past the page cache, as ours is if it can."""
    for flag in (os.O_DIRECT, 0):
        with contextlib.suppress(OSError):
            kind = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC | flag
            return os.open(folder, kind, 0o600), bool(flag)
        descriptor, path = tempfile.mkstemp(dir=folder)
        os.close(descriptor)
        try:
            return os.open(path, os.O_RDWR | os.O_CLOEXEC | flag), bool(flag)
        except OSError:
            continue
        finally:
            os.unlink(path)
    raise OSError(f"no file can be made in {folder}")
