"""Which convolution is computed by which kernel: one table, read from the top.

To add a rule, add a `Rule` to `TABLE`; the first that applies decides. A pass of a platform is
looked up only once it is in `COVERED`. Tests replace `COVERED` or `TABLE` and call
`jax.clear_caches()`, because what was traced keeps its choice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from jaxdirect.conv.geometry import Geometry

PASSES = ("fprop", "dgrad", "wgrad")

Predicate: TypeAlias = Callable[[Geometry, np.dtype, int], bool]


@dataclasses.dataclass(frozen=True)
class Rule:
    """One row of the table.

    Attributes:
        platform: `"cpu"` or `"cuda"`.
        op: one of `PASSES`.
        name: the predicate in words.
        applies: `(geometry, dtype, precision)` to whether the row is about that convolution;
            precision 0 lets float32 products be rounded as TF32, 1 is float32 accuracy.
        kernel: the native kernel, for people; None where there is none for these.
        reason: why this choice, as a sentence.
        chosen: whether `"auto"` takes the kernel; if not, only `"native"` does.
        target: the FFI target.
        presets: names of `jax.lax.DotAlgorithmPreset`s for float32 that the kernel honours at
            precision 1.
        milliseconds: the expected time, where it was measured.
    """

    platform: str
    op: str
    name: str
    applies: Predicate
    kernel: str | None
    reason: str
    chosen: bool = True
    target: str = ""
    presets: tuple[str, ...] = ()
    milliseconds: Callable[[Geometry], float] | None = None


@dataclasses.dataclass(frozen=True)
class Choice:
    """What computes one pass.

    Attributes:
        native: whether a kernel of ours does, else XLA.
        kernel: its name, or None.
        target: its FFI target, or None.
        reason: a sentence.
        presets: as in `Rule`.
        milliseconds: the expected time, or None.
    """

    native: bool
    kernel: str | None
    target: str | None
    reason: str
    presets: tuple[str, ...] = ()
    milliseconds: float | None = None


def _any(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    return True


def _dense(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    return geometry.groups == 1


def _depthwise(geometry: Geometry, dtype: np.dtype, precision: int) -> bool:
    return geometry.depthwise


def _trio(
    platform: str,
    name: str,
    applies: Predicate,
    kernel: tuple[str, str],
    reason: str,
    **options: Any,
) -> tuple[Rule, ...]:
    """A row for each pass, of kernels `(name, prefix of the targets)`."""
    family, target = kernel
    return tuple(
        Rule(platform, op, name, applies, f"{family} {op}", reason, target=target + op, **options)
        for op in PASSES
    )


# (platform, pass) with kernels in this build.
COVERED: frozenset[tuple[str, str]] = frozenset()

_DENSE_TARGET, _DEPTHWISE_TARGET = "jaxdirect_conv_", "jaxdirect_conv_depthwise_"

TABLE: tuple[Rule, ...] = (
    *_trio(
        "cpu",
        "any convolution",
        _any,
        ("im2win", _DENSE_TARGET),
        "the window order needs no copy of the image",
    ),
    *_trio(
        "cuda",
        "depthwise",
        _depthwise,
        ("depthwise", _DEPTHWISE_TARGET),
        "it is bound by memory, and reads that once",
    ),
    *_trio(
        "cuda",
        "one group",
        _dense,
        ("im2win", _DENSE_TARGET),
        "windows overlap in shared memory",
    ),
)


def choose(
    platform: str,
    op: str,
    geometry: Geometry,
    dtype: Any,
    precision: int,
    *,
    force: bool = False,
) -> Choice:
    """What computes pass `op` on `platform`; with `force` a kernel wherever there is one."""
    unfit = geometry.unfit()
    if unfit is not None:
        return Choice(False, None, None, unfit)
    if (platform, op) not in COVERED:
        return Choice(False, None, None, f"there is no native {op} for platform {platform!r}")
    dtype = np.dtype(dtype)
    for rule in TABLE:
        if (rule.platform, rule.op) != (platform, op):
            continue
        if not rule.applies(geometry, dtype, precision):
            continue
        native = rule.kernel is not None and (rule.chosen or force)
        reason = f"{rule.name}: {rule.reason}"
        if not native:
            return Choice(False, rule.kernel, None, reason)
        time = None if rule.milliseconds is None else rule.milliseconds(geometry)
        return Choice(True, rule.kernel, rule.target, reason, rule.presets, time)
    return Choice(False, None, None, f"no native {op} covers {geometry} in {dtype}")


def wgrad_workspace_bytes(platform: str, geometry: Geometry, dtype: Any, precision: int) -> int:
    """The bytes of partial sums that wgrad takes beside its result."""
    return 0
