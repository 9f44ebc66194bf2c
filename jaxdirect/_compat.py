"""The only file that looks at JAX's version."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec


def memory_space(x: jax.Array) -> Any:
    """The memory space of an array or tracer, as its type states it."""
    return jax.typeof(x).memory_space


def in_host_space(x: jax.Array) -> bool:
    """Whether `x`, an array or a tracer, is known to live in host memory."""
    return memory_space(x) == jax.memory.Space.Host


def with_host_type(x: jax.Array) -> jax.Array:
    """`x`, an array of one device in pinned host memory, with a type that says so.

    Arrays that come in through DLPack have the memory kind but not the type, so that
    tracing takes them for device memory. Only a named sharding sets both.
    """
    if memory_space(x) == jax.memory.Space.Host:
        return x
    (device,) = x.devices()
    mesh = jax.sharding.Mesh(np.array([device]), ("_",))
    named = NamedSharding(mesh, PartitionSpec(), memory_kind="pinned_host")
    typed = jax.make_array_from_single_device_arrays(x.shape, named, [x])
    return jax.device_put(typed, x.sharding)


def default_platform() -> str:
    """The platform that a call runs on unless it is told another: "cpu", "cuda" or another."""
    device = jax.config.jax_default_device  # type: ignore[attr-defined]
    platform = getattr(device, "platform", device) or jax.default_backend()
    return "cuda" if platform == "gpu" else platform


@functools.cache
def is_hopper() -> bool:
    """Whether the GPU has compute capability 9.0; True without one, to build programs for it."""
    try:
        devices = jax.local_devices(backend="cuda")
    except RuntimeError:
        return True
    return all(device.compute_capability == "9.0" for device in devices)


def native_width(*dtypes: Any) -> contextlib.AbstractContextManager:
    """A context in which 64-bit `dtypes` keep their width whatever `jax_enable_x64` says."""
    wide = any(dtype is not None and np.dtype(dtype).itemsize == 8 for dtype in dtypes)
    return jax.enable_x64(True) if wide else contextlib.nullcontext()


def explicit_sharding(operands: tuple[jax.Array, ...]) -> tuple[Any, tuple[PartitionSpec, ...]]:
    """The mesh with explicit axes that the operands are typed over (or None), and their specs."""
    mesh = None
    specs = []
    for operand in operands:
        sharding = jax.typeof(operand).sharding
        explicit = not sharding.mesh.empty and sharding.mesh.are_all_axes_explicit
        specs.append(sharding.spec if explicit else PartitionSpec())
        mesh = sharding.mesh if explicit else mesh
    return mesh, tuple(specs)


def match_varying(*operands: jax.Array) -> tuple[jax.Array, ...]:
    """The operands, typed as varying over the same manual axes of a `shard_map`.

    It belongs outside of custom derivatives, so that the gradient of an operand which
    all devices share is summed over them.
    """
    varying = [jax.typeof(operand).manual_axis_type.varying for operand in operands]
    union = frozenset().union(*varying)
    return tuple(
        jax.lax.pcast(operand, tuple(union - own), to="varying") if union - own else operand
        for operand, own in zip(operands, varying, strict=True)
    )


def result_like(result: jax.ShapeDtypeStruct, operand: jax.Array) -> jax.ShapeDtypeStruct:
    """`result`, varying over the same manual axes as `operand`."""
    like = jax.typeof(operand)
    if not like.manual_axis_type.varying:
        return result
    return jax.ShapeDtypeStruct(
        result.shape,
        result.dtype,
        sharding=NamedSharding(like.sharding.mesh, PartitionSpec()),
        manual_axis_type=like.manual_axis_type,
    )


def checkpoint_name(eqn: Any) -> str | None:
    """The name that an equation of a jaxpr gives its value, by `jax.ad_checkpoint.checkpoint_name`.

    With `jax_remat3` that is no primitive but an object within one.
    """
    if eqn.primitive.name == "name":
        return eqn.params["name"]
    inner = eqn.params.get("_prim")
    if type(inner).__name__ != "CheckpointName":
        return None
    return inner.name if hasattr(inner, "name") else inner.params["name"]


def scan_counts(eqn: Any) -> tuple[int, int]:
    """How many operands of a scan's equation are constants, and how many are carried."""
    if "num_consts" in eqn.params:  # before 0.12
        return eqn.params["num_consts"], eqn.params["num_carry"]
    consts, carry, _ = eqn.params["ft_in"].unpack()
    return len(consts), len(carry)


def bind(eqn: Any, operands: list[Any]) -> list[Any]:
    """Results of an equation of a jaxpr for other operands."""
    params = eqn.primitive.get_bind_params(eqn.params)
    if eqn.primitive.name == "pvary":  # operands may vary already
        own = jax.typeof(operands[0]).manual_axis_type.varying
        params = params | {"axes": tuple(axis for axis in params["axes"] if axis not in own)}
        if not params["axes"]:
            return operands
    with eqn.ctx.manager:
        results = eqn.primitive.bind(*operands, **params)
    return list(results) if eqn.primitive.multiple_results else [results]


def user_line(eqn: Any) -> str:
    """` at FILE:LINE (in FUNCTION)` of an equation of a jaxpr, or nothing where it is not known."""
    traceback = getattr(eqn.source_info, "traceback", None)
    for frame in getattr(traceback, "frames", ()):
        own = ("/jax/", "/jax/_src/", "/jaxdirect/", "/flax/", "/optax/")
        if not any(part in frame.file_name for part in own):
            return f" at {frame.file_name}:{frame.line_num} (in {frame.function_name})"
    return ""
