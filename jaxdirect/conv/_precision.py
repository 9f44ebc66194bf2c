"""What a convolution's `precision` asks for, honoured or refused.

JAX takes every `DotAlgorithmPreset` of a convolution for its default precision. Here a preset
means what it says: it becomes the precision of XLA's convolution that computes just so, or a
kernel of ours that does, or an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from jax.lax import DotAlgorithm, DotAlgorithmPreset, Precision

_OP = "conv_general_dilated"

# What XLA's convolution computes: of each preset the operands' dtype, the platforms (None: all),
# and the precision that asks for it.
_PLAIN = {
    "F16_F16_F32": ("float16", None, Precision.DEFAULT),
    "BF16_BF16_F32": ("bfloat16", None, Precision.DEFAULT),
    "TF32_TF32_F32": ("float32", ("cuda",), Precision.DEFAULT),
    "F32_F32_F32": ("float32", None, Precision.HIGHEST),
    "F64_F64_F64": ("float64", None, Precision.DEFAULT),
}
# Sums of products of parts, which only a kernel of ours may compute.
_SPLIT = ("BF16_BF16_F32_X3", "BF16_BF16_F32_X6", "BF16_BF16_F32_X9", "TF32_TF32_F32_X3")
_PARTS = {(1, 1, 1): "", (2, 2, 3): "_X3", (3, 3, 6): "_X6", (3, 3, 9): "_X9"}
_SHORT = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64"}


def _preset_name(algorithm: DotAlgorithm | DotAlgorithmPreset) -> str:
    """The preset's name; of an algorithm its spelling as a preset, if it has one."""
    if isinstance(algorithm, DotAlgorithmPreset):
        return algorithm.name
    if algorithm.allow_imprecise_accumulation:
        return str(algorithm)
    types = [_SHORT.get(np.dtype(dtype).name, "?") for dtype in algorithm[:3]]
    counts = (
        algorithm.lhs_component_count,
        algorithm.rhs_component_count,
        algorithm.num_primitive_operations,
    )
    return "_".join(types) + _PARTS.get(counts, f"_{counts}")


def level(precision: Any) -> int:
    """0 where float32 products may be rounded as TF32, 1 for float32 accuracy."""
    return int(isinstance(precision, tuple) and Precision.HIGHEST in precision)


def resolve(
    precision: Any, dtype: Any, platform: str, kernels: Callable[[], Iterable[tuple[str, ...]]]
) -> Any:
    """The precision to compute with.

    Args:
        precision: what JAX makes of the argument: None, two `Precision`s, or an algorithm.
        dtype: of the operands.
        platform: as `_compat.default_platform` says.
        kernels: gives of every pass the presets that its kernel at float32 accuracy honours.

    Raises:
        ValueError: it is an algorithm that nothing here computes.
    """
    if not isinstance(precision, (DotAlgorithm, DotAlgorithmPreset)):
        return precision
    name = _preset_name(precision)
    if name == "DEFAULT":
        return Precision.DEFAULT, Precision.DEFAULT
    dtype = np.dtype(dtype)
    operands, platforms, plain = _PLAIN.get(name, (None, None, None))
    if operands == dtype.name and (platforms is None or platform in platforms):
        return plain, plain
    if name in _SPLIT and dtype == np.float32 and all(name in presets for presets in kernels()):
        return Precision.HIGHEST, Precision.HIGHEST
    raise ValueError(f"{_OP}: precision {name} {_why(name, dtype, platform)}")


def _why(name: str, dtype: np.dtype, platform: str) -> str:
    highest = "precision='highest' has float32 accuracy"
    if name in _PLAIN and _PLAIN[name][0] != dtype.name:
        operands = _PLAIN[name][0]
        return f"needs operands of {operands}, got {dtype}; cast with astype('{operands}')"
    if name in _SPLIT and dtype != np.float32:
        return f"needs operands of float32, got {dtype}; leave it out"
    if name == "TF32_TF32_F32":
        return f"needs an NVIDIA GPU, got platform {platform!r}; leave it out"
    if name in _SPLIT:
        return f"is computed by no kernel for all passes of this convolution; {highest}"
    return f"is not supported for convolutions; leave it out, or note that {highest}"
