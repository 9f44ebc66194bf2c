"""The only door to native code: load it, register it, call it, say what is missing.

An operation is an `Op`: a target, a reference in plain JAX, and rules (result types,
partitioning, batching). Calling it composes, from the outside in, batching over partitioning
over the choice of platform over the FFI call, once for every set of static attributes.
Gradients wrap that in `jax.custom_vjp` where the op is defined.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import jax
import numpy as np
from jax.experimental.custom_partitioning import custom_partitioning

from jaxdirect import _compat, _partition

# The module of each JAX platform, and the platform name that XLA registers under.
_MODULES = {"cpu": ("jaxdirect._cpu", "cpu"), "cuda": ("jaxdirect._cuda", "CUDA")}

IMPLEMENTATIONS = ("auto", "native", "reference")


@functools.cache
def module(platform: str) -> ModuleType | ImportError:
    """The native module of `platform` ("cpu" or "cuda") with its targets registered.

    Returns the `ImportError` instead where the module was not built or cannot load.
    """
    name, xla_platform = _MODULES[platform]
    try:
        native = importlib.import_module(name)
    except ImportError as error:
        return error
    for target, handler in native.registrations().items():
        jax.ffi.register_ffi_target(target, handler, platform=xla_platform)
    return native


def available(platform: str) -> bool:
    """Whether there is native code for `platform`."""
    return platform in _MODULES and not isinstance(module(platform), ImportError)


def require(platform: str, what: str) -> ModuleType:
    """The native module of `platform`, or a `RuntimeError` with a remedy."""
    native = module(platform)
    if isinstance(native, ImportError):
        raise RuntimeError(f"{what}: {missing(platform)}") from native
    return native


def missing(platform: str) -> str:
    """Why there is no native module for `platform`, and what to do."""
    native = module(platform) if platform in _MODULES else None
    if isinstance(native, ImportError) and not isinstance(native, ModuleNotFoundError):
        return f"{_MODULES[platform][0]} is built but does not load: {native}; rebuild it"
    if platform == "cuda":
        return (
            "jaxdirect was built without CUDA; install a CUDA compiler and rebuild with "
            "JAXDIRECT_CUDA=ON pip install --force-reinstall --no-deps . (see BUILD.md)"
        )
    if platform == "cpu":
        return "jaxdirect's native code is not built; install the package with pip install ."
    return f"jaxdirect has no native code for platform {platform!r}; use implementation='reference'"


def targets(platform: str) -> tuple[str, ...]:
    """Names of the FFI targets registered for `platform`, sorted."""
    native = module(platform)
    return () if isinstance(native, ImportError) else tuple(sorted(native.registrations()))


def export_checks() -> list[jax.export.DisabledSafetyCheck]:
    """What `jax.export.export(..., disabled_checks=)` needs to export jaxdirect's calls.

    Returns:
        One disabled custom-call check for each native target, in either platform.

    Example:
        >>> checks = export_checks()
        >>> any("hostmem_gather" in str(check) for check in checks)
        True
    """
    check = jax.export.DisabledSafetyCheck.custom_call
    return [check(name) for name in sorted({*targets("cpu"), *targets("cuda")})]


def attribute(value: Any) -> Any:
    # XLA compares types exactly, jit compares by equality: 6, True, np.int32(6) become one.
    if isinstance(value, (bool, np.bool_, int, np.integer)):
        return np.int64(value)
    if isinstance(value, (float, np.floating)):
        return np.float64(value)
    raise TypeError(f"attribute must be an integer or a float, got {type(value).__name__}")


def native_call(target: str, results: Any, *operands: jax.Array, **attributes: int | float) -> Any:
    """One FFI call with normalised attributes."""
    normal = {name: attribute(value) for name, value in attributes.items()}
    return jax.ffi.ffi_call(target, results)(*operands, **normal)


@dataclasses.dataclass(frozen=True)
class Op:
    """A native operation.

    Attributes:
        name: the public function's name, for messages.
        target: the FFI target, the same on every platform.
        results: `(platform, *operand types, **attributes)` to the types of all FFI results.
        num_outputs: how many of those are outputs; the rest is workspace and dropped.
        reference: `(*operands, **attributes)` to the outputs, in plain JAX.
        sharding_rule: operand ranks to a rule of `custom_partitioning` and its unsplit factors.
        batch: `(op call, axis_size, batched flags, *operands)` to the batched outputs.
        whole: operands, by number and name, that may be neither split over a mesh nor batched.
        covers: `(platform, *operands, **attributes)` to whether native code takes them; else the
            reference does.
        reduced: factors of the rule that the outputs are sums over: split, the devices' sums are
            added up.
        unsent: attributes for the functions above alone, which native code does not take.
    """

    name: str
    target: str
    results: Callable[..., Sequence[jax.ShapeDtypeStruct]]
    num_outputs: int
    reference: Callable[..., tuple[jax.Array, ...]]
    sharding_rule: Callable[..., tuple[str, tuple[str, ...]]]
    batch: Callable[..., tuple[jax.Array, ...]]
    whole: tuple[tuple[int, str], ...] = ()
    covers: Callable[..., bool] | None = None
    reduced: tuple[str, ...] = ()
    unsent: tuple[str, ...] = ()

    def __call__(
        self, *operands: jax.Array, implementation: str = "auto", **attributes: int | float
    ) -> tuple[jax.Array, ...]:
        """Runs the op; returns a tuple of its outputs."""
        ranks = tuple(len(operand.shape) for operand in operands)
        static = tuple(sorted(attributes.items()))
        return _composed(self, implementation, ranks, static)(*operands)


def _platform_branches(
    op: Op, implementation: str, attributes: dict[str, Any]
) -> tuple[Callable, bool]:
    """What computes the op, and whether any of it is native."""

    def native(platform: str, *operands: jax.Array) -> tuple[jax.Array, ...]:
        if op.covers is not None and not op.covers(platform, *operands, **attributes):
            return reference(*operands)
        results = tuple(
            _compat.result_like(result, operands[0])
            for result in op.results(platform, *operands, **attributes)
        )
        sent = {name: value for name, value in attributes.items() if name not in op.unsent}
        outputs = native_call(op.target, results, *operands, **sent)
        return tuple(outputs[: op.num_outputs])

    def reference(*operands: jax.Array) -> tuple[jax.Array, ...]:
        with _compat.native_width(*(operand.dtype for operand in operands)):
            return tuple(op.reference(*operands, **attributes))

    if implementation == "reference":
        return reference, False
    branches = {name: functools.partial(native, name) for name in _MODULES if available(name)}
    if implementation == "native":
        platform = _compat.default_platform()
        if platform not in branches:
            raise RuntimeError(f"{op.name}: implementation='native': {missing(platform)}")
    if not branches:
        return reference, False
    default = None if implementation == "native" else reference

    def choose(*operands: jax.Array) -> tuple[jax.Array, ...]:
        # A partitioned call is traced again where the caller's settings are gone.
        with _compat.native_width(*(operand.dtype for operand in operands)):
            return jax.lax.platform_dependent(*operands, default=default, **branches)

    return choose, True


def check_implementation(op: str, value: Any, *more: str) -> None:
    """Raises unless `value` names an implementation; an op may have `more` than the usual ones."""
    if value not in (*IMPLEMENTATIONS, *more):
        names = ", ".join((*IMPLEMENTATIONS, *more))
        raise ValueError(f"{op}: implementation must be one of {names}, got {value!r}")


@functools.cache
def _composed(op: Op, implementation: str, ranks: tuple[int, ...], static: tuple) -> Callable:
    check_implementation(op.name, implementation)
    run, has_native = _platform_branches(op, implementation, dict(static))
    rule, replicated = op.sharding_rule(*ranks, **dict(static))
    partitioned = custom_partitioning(run)

    def summed(axes: dict[str, Any]) -> Callable:
        over = [axis for factor in op.reduced for axis in axes.get(factor, ())]
        return (lambda *operands: jax.lax.psum(run(*operands), over)) if over else run

    def partition(mesh: Any, operands: Any, results: Any) -> Any:
        _partition.check_whole(op.name, op.whole, [operand.sharding.spec for operand in operands])
        axes, *shardings = _partition.consistent(rule, replicated, mesh, operands, results)
        return mesh, summed(axes), *shardings

    partitioned.def_partition(
        partition=partition,
        sharding_rule=rule,
        reduction_factors=op.reduced,
        need_replication_factors=replicated,
    )

    def typed(*operands: jax.Array) -> tuple[jax.Array, ...]:
        mesh, specs = _compat.explicit_sharding(operands)
        if mesh is None:
            # Plain JAX needs no rule, and within one it cannot see what lies in host memory.
            return partitioned(*operands) if has_native else run(*operands)
        # Over a mesh with explicit axes the types say already how everything is split.
        _partition.check_whole(op.name, op.whole, specs)
        axes, outputs = _partition.split(rule, replicated, specs)
        split = jax.shard_map(
            summed(axes), mesh=mesh, in_specs=specs, out_specs=outputs, check_vma=False
        )
        return split(*operands)

    batched = jax.custom_batching.custom_vmap(typed)
    # The batched call has other ranks, and so another partitioning rule.
    again = functools.partial(op, implementation=implementation, **dict(static))

    @batched.def_vmap
    def _(axis_size: int, in_batched: list[bool], *operands: jax.Array) -> Any:
        for index, name in op.whole:
            if in_batched[index]:
                raise ValueError(
                    f"{op.name}: vmap over {name} is not supported, because it would copy it; "
                    "map over the other arguments, with in_axes=None for this one"
                )
        outputs = op.batch(again, axis_size, in_batched, *operands)
        return outputs, tuple(True for _ in outputs)

    return batched
