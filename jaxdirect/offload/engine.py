"""The native cache that moved values wait in: its limits and its counters."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from jaxdirect import _compat, _ffi

CHUNKS, LEAST_CHUNK, CHUNK_ALIGNMENT = 8, 16 << 10, 512

_directories: tuple[str, ...] = ()
_host_limit_bytes: int | None = None
_staging_bytes = 0


def configure(
    *,
    directory: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    host_limit_bytes: int | None = None,
    staging_bytes: int | None = None,
    disk_threads: int = 8,
) -> None:
    """Sets where values go and how many there may be, for the whole process.

    Args:
        directory: a folder, or several that take turns, for the values of `Policy(disk=)`. Each
            gets one file without a name, which is gone when the process ends, however it does.
            An empty list: no folder any more.
        host_limit_bytes: most host memory, in bytes, that values may take on all devices
            together, those on their way to disk included. Over it the oldest go on to the folders,
            or the step fails where there is none. There is no limit at first.
        staging_bytes: device memory, in bytes, for values on their way, on each device beside what
            XLA takes. With more of it a forward pass waits later for a slow link, and with less the
            link may wait for the program. 0, as at first: room for two of the largest values.
        disk_threads: how many threads read and write.

    Raises:
        ValueError: a number is too small.
        RuntimeError: a file cannot be made, or there is no native code for the platform.

    Example:
        >>> import tempfile
        >>> from jaxdirect import offload
        >>> offload.configure(directory=tempfile.gettempdir(), host_limit_bytes=64 << 30)
    """
    global _directories, _host_limit_bytes, _staging_bytes
    native = _ffi.require(_compat.default_platform(), "offload.configure")
    for name, value in (("host_limit_bytes", host_limit_bytes), ("disk_threads", disk_threads)):
        if value is not None and value <= 0:
            raise ValueError(f"offload.configure: {name} must be positive, got {value}")
    if staging_bytes is not None and staging_bytes < 0:
        raise ValueError(f"offload.configure: staging_bytes is {staging_bytes}; 0 is the least")
    if directory is not None:
        one = isinstance(directory, (str, os.PathLike))
        folders = [os.fspath(folder) for folder in ([directory] if one else directory)]
        native.offload_open_disk(folders, disk_threads)
        _directories = tuple(folders)
    if host_limit_bytes is not None:
        native.offload_limit_host(host_limit_bytes)
        _host_limit_bytes = host_limit_bytes
    if staging_bytes is not None:
        native.offload_limit_staging(staging_bytes)
        _staging_bytes = staging_bytes


def directories() -> tuple[str, ...]:
    """The folders that `configure` was given last; none at first."""
    return _directories


def host_limit_bytes() -> int:
    """Most host memory that values may take: what `configure` was given, else the machine's."""
    if _host_limit_bytes is not None:
        return _host_limit_bytes
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def is_staging_set() -> bool:
    """Whether `configure` was given the size of the staging."""
    return _staging_bytes > 0


def staging_bytes(largest: int, limit: int | None = None) -> int:
    """Device memory beside XLA's for values of at most that size (`ffi/offload/staging.cc`).

    Args:
        largest: bytes of a value.
        limit: as `configure` takes; default: what it was given last.
    """
    limit = _staging_bytes if limit is None else limit
    if largest == 0:
        return 0
    chunk = max(-(-largest // CHUNKS), min(largest, LEAST_CHUNK))
    chunk = -(-chunk // CHUNK_ALIGNMENT) * CHUNK_ALIGNMENT
    count = 2 * -(-largest // chunk)
    if limit > 0:
        half = limit // 2 // CHUNK_ALIGNMENT * CHUNK_ALIGNMENT
        chunk = min(max(half, CHUNK_ALIGNMENT), chunk)
        count = max(limit // chunk, 2)
    return count * chunk


@contextlib.contextmanager
def staging(limit: int) -> Iterator[None]:
    """While it lasts, the staging is of another size, whatever was set; it comes and goes empty.

    Args:
        limit: as `configure` takes.
    """
    platform = _compat.default_platform()
    native = _ffi.require(platform, "offload") if _ffi.available(platform) else None
    if native is not None:
        native.offload_limit_staging(limit)
    try:
        yield
    finally:
        if native is not None:
            native.offload_limit_staging(_staging_bytes)


def stats() -> dict[str, int]:
    """Counters of the cache since the process began, of all devices together.

    Returns:
        `stored`, `fetched`: values; `stored_bytes`, `fetched_bytes`; `sent_bytes`: of the stored,
        what was copied to the host. Of those fetched, `forwarded` had not left the device yet and
        `prefetched` were back in time. `waiting`: values that may
        still be fetched; `dropped`: values that nobody came for; `spilled`: values that went on to
        disk because host memory was full. `host_bytes`: host memory taken,
        of which `used_host_bytes` holds values; `staging_bytes`: device memory taken beside XLA's.
        `disk_written_bytes`, `disk_read_bytes`, `disk_file_bytes`: of the directories set last;
        `disk_direct`: 1 where these are POSIX calls past the page cache (`O_DIRECT`) in every
        directory, 0 where a file system has no such thing; `disk_waits`: fetches that had to wait
        for the disk.

    Raises:
        RuntimeError: there is no native code for the platform.

    Example:
        >>> from jaxdirect import offload
        >>> offload.stats()["waiting"]
        0
    """
    native = _ffi.require(_compat.default_platform(), "offload.stats")
    return dict(native.offload_stats())


def clear() -> None:
    """Drops every waiting value and gives the cache's memory back, the device's and the host's.

    For values that no backward pass will ask for, as after an exception. A program that is still
    running loses its values, and says so.

    Example:
        >>> from jaxdirect import offload
        >>> offload.clear()
        >>> offload.stats()["host_bytes"], offload.stats()["staging_bytes"]
        (0, 0)
    """
    _ffi.require(_compat.default_platform(), "offload.clear").offload_clear()
