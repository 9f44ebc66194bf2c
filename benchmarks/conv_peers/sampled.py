"""Errors against a convolution in float64, at a sample of its outputs. NumPy only.

A float64 convolution of a whole layer would take longer than all that is measured. So a few
dozen outputs are drawn, the operands' elements that they are made of are fetched, and their sums
are done in float64, from the operands as they are (rounded to bfloat16, say).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from .problem import Problem
from .shapes import Layer

POINTS, CHANNELS, TAPS = 32, 16, 4
# fetch(array, index): the elements as float32 NumPy; the array is in NHWC or HWIO.
Fetch = Callable[[Any, tuple], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Sample:
    """Outputs of one result.

    Args:
        index: four integer arrays that broadcast: into NHWC, or HWIO for w.
        want: their values.
        magnitude: the same sums over absolute values: what rounding errors are measured by.
    """

    index: tuple[np.ndarray, ...]
    want: np.ndarray
    magnitude: np.ndarray

    def errors(self, got: np.ndarray) -> dict[str, float]:
        """Relative L2, and the largest error of a component over its magnitude."""
        difference = got.astype(np.float64) - self.want
        scale = np.linalg.norm(self.want) or 1.0
        tiny = np.finfo(np.float64).tiny
        return {
            "rel_l2": float(np.linalg.norm(difference) / scale),
            "componentwise": float((np.abs(difference) / np.maximum(self.magnitude, tiny)).max()),
        }


def samples(
    problem: Problem, results: str, operands: dict[str, Any], fetch: Fetch, seed: int = 0
) -> dict[str, Sample]:
    """A sample of each result, from x, w and y (the output's cotangent) as far as they are needed.

    Args:
        problem: sizes.
        results: of "y" (the output), "x" and "w" (the gradients).
        operands: in NHWC and HWIO, always with H.
        fetch: gets elements of an operand.
        seed: of the choice.
    """
    make = {"y": _forward, "x": _dgrad, "w": _wgrad}
    return {r: make[r](problem, operands, fetch, np.random.default_rng(seed)) for r in results}


def _draw(rng: np.random.Generator, size: int, count: int) -> np.ndarray:
    return np.sort(rng.choice(size, min(size, count), replace=False))


def _both(spec: str, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.einsum(spec, a, b), np.einsum(spec, np.abs(a), np.abs(b))


def _corners(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Positions n, h, w: random ones, and the first and the last pixel."""
    n, h, w = (rng.integers(0, size, POINTS) for size in shape[:3])
    h[0], w[0], h[-1], w[-1] = 0, 0, shape[1] - 1, shape[2] - 1
    return n, h, w


def _group(layer: Layer, ks: np.ndarray) -> np.ndarray:
    """Of output channels."""
    return ks // (layer.features // layer.groups)


def _windows(
    array: Any, fetch: Fetch, n: np.ndarray, rows: np.ndarray, columns: np.ndarray, inside: Any
) -> np.ndarray:
    """[points, R, S, channels]; zeros where a row or column is not inside."""
    index = (n[:, None, None], rows[:, :, None], columns[:, None, :])
    return fetch(array, index) * inside[..., None]


def _forward(problem: Problem, operands: dict, fetch: Fetch, rng: np.random.Generator) -> Sample:
    layer, ((top, _), (left, _)) = problem.layer, problem.pads
    n, p, q = _corners(rng, problem.shape("y"))
    ks = _draw(rng, layer.features, CHANNELS)
    rows = p[:, None] * layer.stride - top + np.arange(layer.kernel[0])
    columns = q[:, None] * layer.stride - left + np.arange(layer.kernel[1])
    in_h, in_w = (rows >= 0) & (rows < layer.height), (columns >= 0) & (columns < layer.width)
    inside = in_h[:, :, None] & in_w[:, None, :]
    rows, columns = np.clip(rows, 0, layer.height - 1), np.clip(columns, 0, layer.width - 1)
    x = _windows(operands["x"], fetch, n, rows, columns, inside)
    w = fetch(operands["w"], (..., ks))
    spec = "mrsc,rsck->mk"
    if layer.groups > 1:
        depth = layer.channels // layer.groups
        x = x[..., _group(layer, ks)[:, None] * depth + np.arange(depth)]
        spec = "mrskc,rsck->mk"
    return Sample((n[:, None], p[:, None], q[:, None], ks[None]), *_both(spec, x, w))


def _dgrad(problem: Problem, operands: dict, fetch: Fetch, rng: np.random.Generator) -> Sample:
    layer, ((top, _), (left, _)), (high, wide) = problem.layer, problem.pads, problem.out
    n, h, w = _corners(rng, problem.shape("x"))
    cs = _draw(rng, layer.channels, CHANNELS)
    rows = h[:, None] + top - np.arange(layer.kernel[0])
    columns = w[:, None] + left - np.arange(layer.kernel[1])
    in_h = (rows >= 0) & (rows % layer.stride == 0) & (rows // layer.stride < high)
    in_w = (columns >= 0) & (columns % layer.stride == 0) & (columns // layer.stride < wide)
    inside = in_h[:, :, None] & in_w[:, None, :]
    rows = np.clip(rows // layer.stride, 0, high - 1)
    columns = np.clip(columns // layer.stride, 0, wide - 1)
    y = _windows(operands["y"], fetch, n, rows, columns, inside)
    if layer.groups > 1:
        depth, width = layer.channels // layer.groups, layer.features // layer.groups
        ks = (cs // depth)[:, None] * width + np.arange(width)
        taps = fetch(operands["w"], (..., np.arange(layer.features)))
        taps, spec = taps[:, :, (cs % depth)[:, None], ks], "mrsck,rsck->mc"
        y = y[..., ks]
    else:
        taps = fetch(operands["w"], (slice(None), slice(None), cs))
        spec = "mrsk,rsck->mc"
    return Sample((n[:, None], h[:, None], w[:, None], cs[None]), *_both(spec, y, taps))


def _wgrad(problem: Problem, operands: dict, fetch: Fetch, rng: np.random.Generator) -> Sample:
    """A few taps of a few channels; each is a sum over all pixels."""
    layer, ((top, _), (left, _)), (high, wide) = problem.layer, problem.pads, problem.out
    us, vs = (rng.integers(0, k, TAPS) for k in layer.kernel)
    cs = rng.integers(0, layer.channels // layer.groups, TAPS)
    ks = _draw(rng, layer.features, CHANNELS // 2)
    y = fetch(operands["y"], (..., ks)).reshape(-1, len(ks)).astype(np.float64)
    columns_of_x = []
    for u, v, c in zip(us, vs, cs, strict=True):
        rows = np.arange(high) * layer.stride - top + u
        columns = np.arange(wide) * layer.stride - left + v
        in_h, in_w = (rows >= 0) & (rows < layer.height), (columns >= 0) & (columns < layer.width)
        inside = in_h[:, None] & in_w[None, :]
        rows, columns = np.clip(rows, 0, layer.height - 1), np.clip(columns, 0, layer.width - 1)
        depth = np.array([c])
        if layer.groups > 1:
            depth = _group(layer, ks) * (layer.channels // layer.groups) + c
        index = (slice(None), rows[:, None, None], columns[None, :, None], depth)
        x = fetch(operands["x"], index) * inside[..., None]
        columns_of_x.append(x.reshape(-1, len(depth)).astype(np.float64))
    x = np.stack(columns_of_x)
    if layer.groups > 1:
        sums = _both("tmk,mk->tk", x, y)
    else:
        x = x[..., 0]
        sums = x @ y, np.abs(x) @ np.abs(y)
    return Sample((us[:, None], vs[:, None], cs[:, None], ks[None]), *sums)
