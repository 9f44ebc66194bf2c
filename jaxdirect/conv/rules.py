"""Which convolution is computed by which code: one table, read from the top.

What a kernel takes, the native planner says; the table says where that pays. To add a rule, add a
`Rule` to `TABLE`; the first that applies decides. Tests replace `TABLE` and call
`jax.clear_caches()`, because what was traced keeps its choice.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from jaxdirect import _compat, _ffi
from jaxdirect.conv import _predicates as when
from jaxdirect.conv.geometry import Geometry

PASSES = ("fprop", "dgrad", "wgrad")

Predicate: TypeAlias = Callable[[Geometry, np.dtype, int], bool]

_SPLIT = ("BF16_BF16_F32_X6",)  # presets that the GPU's float32 kernels honour


@dataclasses.dataclass(frozen=True)
class Rule:
    """One row of the table.

    Attributes:
        platform: `"cpu"` or `"cuda"`.
        ops: some of `PASSES`.
        name: the predicate in words.
        applies: `(geometry, dtype, precision)` to whether the row is about that convolution;
            precision 0 lets float32 products be rounded as TF32, 1 is float32 accuracy.
        reason: why this choice, as a sentence.
        chosen: whether `"auto"` takes the kernel; if not, only `"native"` does.
        presets: names of `jax.lax.DotAlgorithmPreset`s for float32 that the kernels honour at
            precision 1.
    """

    platform: str
    ops: tuple[str, ...]
    name: str
    applies: Predicate
    reason: str
    chosen: bool = True
    presets: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Choice:
    """What computes one pass.

    Attributes:
        native: whether a kernel of ours does, else XLA.
        kernel: its name, or None.
        reason: a sentence.
        presets: as in `Rule`.
        milliseconds: the expected time, or None.
        workspace_bytes: what the kernel takes beside operands and result.
    """

    native: bool
    kernel: str | None
    reason: str
    presets: tuple[str, ...] = ()
    milliseconds: float | None = None
    workspace_bytes: int = 0


TABLE: tuple[Rule, ...] = (
    Rule(
        *("cpu", ("fprop", "dgrad"), "1 x 1 filters", when.pointwise),
        "a matrix product, which XLA has at hand",
        chosen=False,
    ),
    Rule(
        *("cpu", PASSES, "one channel", when.one_channel),
        "XLA is as fast or faster",
        chosen=False,
    ),
    Rule("cpu", PASSES, "any", when.anything, "the window order needs no copy of the image"),
    # On an H200, benchmarks/results/conv.json.
    Rule(
        *("cuda", ("wgrad",), "depthwise, few float32 taps", when.depthwise_few_float32_taps),
        "cuDNN is as fast or faster",
        chosen=False,
    ),
    Rule(
        *("cuda", PASSES, "depthwise", when.depthwise),
        "every image once: 1.1 to 2.5 times as fast as cuDNN, more with a stride or large filters",
    ),
    Rule(
        *("cuda", PASSES, "1 x 1 filters", when.pointwise),
        "a matrix product, which XLA has at hand",
        chosen=False,
    ),
    Rule(
        *("cuda", PASSES, "groups of at most 32 channels, 16-bit values", when.narrow_groups),
        "every image once, groups side by side: 1.1 to 6 times as fast as cuDNN",
    ),
    Rule(
        *("cuda", ("fprop", "dgrad"), "TF32, groups of at most 24", when.narrow_groups_tf32),
        "every image once, groups side by side: 1.1 to 3.7 times as fast as cuDNN",
    ),
    Rule(
        *("cuda", PASSES, "several groups", when.grouped),
        "not measured: products of wide groups are cuDNN's trade",
        chosen=False,
    ),
    Rule(
        *("cuda", PASSES, "less than 0.1 GFLOP", when.tiny),
        "not measured: the launch is most of it",
        chosen=False,
    ),
    Rule(
        *("cuda", ("fprop",), "at most 8 channels", when.stem),
        "windows are read from rows of the image: 1.1 to 9 times as fast as cuDNN",
        presets=_SPLIT,
    ),
    Rule(
        *("cuda", ("wgrad",), "at most 8 channels", when.stem),
        "windows are read from rows of the image: 1.5 to 5.4 times as fast as cuDNN",
        presets=_SPLIT,
    ),
    Rule(
        *("cuda", PASSES, "fewer than 32 channels", when.few_channels),
        "tiles take 64 of them at a time",
        chosen=False,
    ),
    Rule(
        *("cuda", ("fprop",), "float32 accuracy, one image or so", when.small_and_accurate),
        "six products of bfloat16 parts on tensor cores: 1.3 to 1.7 times as fast as cuDNN's FP32",
        presets=_SPLIT,
    ),
    Rule(
        *("cuda", ("wgrad",), "float32, one image or so", when.small_float32),
        "products of bfloat16 parts on tensor cores: 1.1 to 4.1 times as fast as cuDNN",
        presets=_SPLIT,
    ),
    Rule(
        *("cuda", PASSES, "less than 1.5 GFLOP (16-bit values: 0.15)", when.small),
        "tiles are too few for the GPU, or not measured",
        chosen=False,
    ),
    Rule(
        *("cuda", ("wgrad",), "TF32", when.tf32),
        "three products of bfloat16 parts, closer than TF32: 1.0 to 2.6 times as fast as cuDNN",
    ),
    Rule(
        *("cuda", PASSES, "float32 accuracy, 25 taps and more", when.accurate_and_large),
        "cuDNN is faster",
        chosen=False,
        presets=_SPLIT,
    ),
    Rule(
        *("cuda", ("wgrad",), "float32 accuracy, 256 to 512 channels", when.accurate_to_many),
        "cuDNN is faster, by an algorithm that is less accurate",
        chosen=False,
        presets=_SPLIT,
    ),
    Rule(
        *("cuda", PASSES, "float32 accuracy", when.accurate),
        "six products of bfloat16 parts on tensor cores: 1.1 to 5.7 times as fast as cuDNN's FP32",
        presets=_SPLIT,
    ),
    Rule(
        *("cuda", ("fprop",), "filters of 25 taps and more", when.many_taps),
        "cuDNN is faster",
        chosen=False,
    ),
    Rule(
        *("cuda", ("fprop",), "TF32 to more than 64 channels", when.tf32_to_many_channels),
        "cuDNN is as fast or faster",
        chosen=False,
    ),
    Rule(
        *("cuda", ("wgrad",), "16-bit values", when.anything),
        "taps share what images of a place have side by side: 1.1 to 3.5 times as fast as cuDNN",
    ),
    Rule(
        *("cuda", ("fprop", "dgrad"), "any", when.anything),
        "windows overlap in shared memory: 1.0 to 2.9 times as fast as cuDNN",
    ),
)


@functools.lru_cache(maxsize=4096)
def native_plan(
    platform: str, op: str, geometry: Geometry, dtype: np.dtype, precision: int
) -> tuple[str, int, float] | None:
    """A kernel's name, bytes of workspace and microseconds (0: not known), or None."""
    sizes = (*geometry.x_shape, *geometry.y_shape[1:], *geometry.filter_shape[:2])
    window = tuple(geometry.window.values())
    module = _ffi.require(platform, "conv_general_dilated")
    return module.conv_plan(op, sizes, window, dtype.name, precision)


def _unfit(platform: str, geometry: Geometry) -> str | None:
    """Why no kernel of this build can run on this machine, or None."""
    if (why := geometry.unfit()) is not None:
        return why
    if not _ffi.available(platform):
        return _ffi.missing(platform)
    if platform == "cuda" and not geometry.depthwise and not _compat.is_hopper():
        return "the GPU is no H100 or H200, for which the kernels are written"
    return None


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
    dtype = np.dtype(dtype)
    if (why := _unfit(platform, geometry)) is not None:
        return Choice(False, None, why)
    plan = native_plan(platform, op, geometry, dtype, precision)
    if plan is None:
        return Choice(False, None, f"no native {op} takes {geometry} in {dtype}")
    kernel, workspace_bytes, microseconds = plan
    for rule in TABLE:
        if rule.platform != platform or op not in rule.ops:
            continue
        if not rule.applies(geometry, dtype, precision):
            continue
        reason = f"{rule.name}: {rule.reason}"
        if not (rule.chosen or force):
            return Choice(False, kernel, reason)
        time = microseconds / 1e3 if microseconds > 0 else None
        return Choice(True, kernel, reason, rule.presets, time, workspace_bytes)
    return Choice(False, kernel, f"no rule takes {geometry} in {dtype}")
