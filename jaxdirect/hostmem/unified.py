"""Arrays whose pages stay in host memory and are read by the GPU itself."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import SingleDeviceSharding
from jaxtyping import Array

from jaxdirect import _compat
from jaxdirect.hostmem import _checks, _pages

_PAGE = 4096
# XLA:CPU uses a NumPy array's memory as it is from this alignment on.
_CPU_ALIGNMENT = 64
# XLA:GPU refuses buffers that start elsewhere.
_GPU_ALIGNMENT = 16


def empty(shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    """An uninitialised NumPy array that starts on a memory page.

    NumPy places large arrays 16 bytes past a line, which costs a GPU that gathers
    rows from them one more memory request a row.

    Args:
        shape: its shape.
        dtype: any NumPy or `ml_dtypes` dtype.

    Returns:
        A C-contiguous, writable array of that shape; its address is a multiple of 4096 bytes.

    Example:
        >>> import jaxdirect
        >>> table = jaxdirect.empty((1000, 16), "float32")
        >>> table.shape, table.ctypes.data % 4096
        ((1000, 16), 0)
    """
    dtype = np.dtype(dtype)
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    num_bytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
    # Whole pages, so that the last one holds nobody else's data.
    block = np.empty(-(-num_bytes // _PAGE) * _PAGE + _PAGE, np.uint8)
    start = -block.ctypes.data % _PAGE
    return block[start : start + num_bytes].view(dtype).reshape(shape)


def is_unified(x: Any) -> bool:
    """Whether `x` is a JAX array (or a tracer of one) that lives in pinned host memory.

    Args:
        x: anything.

    Returns:
        True for what `unified` returns, inside and outside `jit`.

    Example:
        >>> import numpy as np, jaxdirect
        >>> jaxdirect.is_unified(np.zeros(3)), jaxdirect.is_unified(jaxdirect.unified(np.zeros(3)))
        (False, True)
    """
    return isinstance(x, jax.Array) and _compat.in_host_space(x)


def unified(array: Any, *, device: Any = None) -> Array:
    """Makes a NumPy array readable by the GPU where it lies, without a copy.

    The array's own pages are registered with the CUDA driver, and stay registered and
    alive until the result and every computation that reads it are done. They may be
    larger than GPU memory and than JAX's pool of pinned memory. What the host writes into
    the array later is what the GPU reads later. On the CPU backend the result shares the
    array's memory too, but for an array whose address is no multiple of 64 bytes: that
    one is copied.

    Args:
        array: `[num_rows, *row]`, C-contiguous: an `np.ndarray` (see `empty`), an
            `np.memmap` in mode "r+" (registered as it is) or "c" (costs private pages),
            or a `jax.Array` (copied to host memory, unless it is unified already).
        device: a `jax.Device` or a sharding, as in `jnp.asarray`; default: JAX's default
            device. With a `NamedSharding`, every device of a replicated table reads the
            same pages, and a table sharded along its first axis shows each device its
            own rows.

    Returns:
        A `jax.Array` of the same shape and dtype (64-bit types stay 64-bit) whose memory
        kind is `"pinned_host"`. Pass it to `jit` as an argument; only jaxdirect's
        operations read it.

    Raises:
        TypeError: not an array, a tracer, or a dtype that JAX does not have.
        ValueError: a scalar, not C-contiguous, a byte order that is not the machine's,
            memory mapped read-only, an address that is no multiple of 16 bytes on a
            GPU, or a sharding that splits rows.
        RuntimeError: a GPU is asked for but the CUDA module was not built, or the driver
            refuses the pages (its message and a remedy).

    Source: PyTorch-Direct, arXiv:2101.07956, section 4.

    Example:
        >>> import numpy as np, jaxdirect
        >>> table = jaxdirect.unified(np.ones((4, 2), np.float32))
        >>> table.sharding.memory_kind, table.shape
        ('pinned_host', (4, 2))
    """
    if isinstance(array, Tracer):
        raise TypeError("unified: array must be concrete, got a tracer; call it outside jit")
    sharding = _host_sharding(device)
    if isinstance(array, jax.Array):
        if array.is_deleted():
            raise ValueError("unified: array was freed (deleted or donated); create it again")
        if is_unified(array) and (device is None or array.sharding == sharding):
            return array
        _checks.check_whole_bytes("unified", array.dtype)
        copy = empty(array.shape, array.dtype)
        np.copyto(copy, np.asarray(array))
        array = copy
    _check_array(array)
    shared = array.size > 0 and _pages.is_shared_mapping(array)
    with _compat.native_width(array.dtype):
        shards = [
            _shard(array, index, shard_device, shared)
            for shard_device, index in sharding.addressable_devices_indices_map(array.shape).items()
        ]
        if isinstance(sharding, SingleDeviceSharding):
            return shards[0]
        return jax.make_array_from_single_device_arrays(array.shape, sharding, shards)


def _host_sharding(device: Any) -> jax.sharding.Sharding:
    if device is None:
        device = getattr(jax.config, "jax_default_device", None) or jax.local_devices()[0]
        if isinstance(device, str):
            device = jax.local_devices(backend=device)[0]
    if isinstance(device, jax.Device):
        return SingleDeviceSharding(device, memory_kind="pinned_host")
    if isinstance(device, jax.sharding.Sharding):
        return device.with_memory_kind("pinned_host")
    raise TypeError(
        f"unified: device must be a jax.Device or a sharding, got {type(device).__name__}"
    )


def _check_array(array: Any) -> None:
    if not isinstance(array, np.ndarray):
        raise TypeError(
            f"unified: array must be a NumPy array or a jax.Array, got {type(array).__name__}; "
            "convert it with numpy.asarray"
        )
    if array.ndim == 0:
        raise ValueError("unified: array must have at least one axis, got a scalar")
    if not (jnp.issubdtype(array.dtype, jnp.number) or array.dtype == np.bool_):
        raise TypeError(f"unified: dtype must be one that JAX has, got {array.dtype}")
    if not array.dtype.isnative:
        raise ValueError(
            f"unified: array must be in the machine's byte order, got {array.dtype.str}; "
            "convert it with array.astype(array.dtype.newbyteorder('='))"
        )
    _checks.check_whole_bytes("unified", array.dtype)
    if not array.flags.c_contiguous:
        raise ValueError(
            f"unified: array must be C-contiguous, got strides {array.strides} for shape "
            f"{array.shape}; copy it with numpy.ascontiguousarray(array)"
        )


def _shard(array: np.ndarray, index: Any, device: Any, shared: bool) -> Array:
    view = array[index]
    if not view.flags.c_contiguous:
        raise ValueError(
            f"unified: a sharding may split the first axis only, got one that asks for {index}; "
            "use PartitionSpec(axis_name) or PartitionSpec()"
        )
    host = SingleDeviceSharding(device, memory_kind="pinned_host")
    if device.platform == "gpu" and view.size:
        if view.ctypes.data % _GPU_ALIGNMENT:
            raise ValueError(
                f"unified: on a GPU an array must start at a multiple of {_GPU_ALIGNMENT} bytes, "
                f"got address {view.ctypes.data:#x}; copy it into jaxdirect.empty(shape, dtype)"
            )
        return _pages.register(view, device, read_only=shared)
    if device.platform == "cpu" and view.ctypes.data % _CPU_ALIGNMENT and view.size:
        aligned = empty(view.shape, view.dtype)
        np.copyto(aligned, view)
        view = aligned
    return jax.device_put(view, host)
