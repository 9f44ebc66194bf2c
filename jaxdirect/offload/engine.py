"""The native cache that moved values wait in: its limits and its counters."""

from __future__ import annotations

from jaxdirect import _compat, _ffi


def configure(*, host_limit_bytes: int | None = None) -> None:
    """Sets limits of the cache, for the whole process.

    Args:
        host_limit_bytes: most host memory, in bytes, that values may take on all devices
            together; None leaves the limit as it is, and there is none at first.

    Raises:
        ValueError: a limit is not positive.
        RuntimeError: there is no native code for the platform.

    Example:
        >>> from jaxdirect import offload
        >>> offload.configure(host_limit_bytes=64 << 30)
    """
    native = _ffi.require(_compat.default_platform(), "offload.configure")
    if host_limit_bytes is None:
        return
    if host_limit_bytes <= 0:
        raise ValueError(
            f"offload.configure: host_limit_bytes must be positive, got {host_limit_bytes}"
        )
    native.offload_limit_host(host_limit_bytes)


def stats() -> dict[str, int]:
    """Counters of the cache since the process began, of all devices together.

    Returns:
        `stored`, `fetched`: values; `stored_bytes`, `fetched_bytes`. Of those fetched, `forwarded`
        had not left the device yet and `prefetched` were back in time. `waiting`: values that may
        still be fetched; `dropped`: values that nobody came for. `host_bytes`: host memory taken,
        of which `used_host_bytes` holds values; `staging_bytes`: device memory taken beside XLA's.

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
    """Drops every waiting value and gives the cache's free host memory back.

    For values that no backward pass will ask for, as after an exception. A program that is still
    running loses its values, and says so.

    Example:
        >>> from jaxdirect import offload
        >>> offload.clear()
        >>> offload.stats()["host_bytes"]
        0
    """
    _ffi.require(_compat.default_platform(), "offload.clear").offload_clear()
