"""Random operands on the device, in the layouts that the contenders take."""

from __future__ import annotations

import concurrent.futures
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .problem import Problem

# Axes of NHWC and HWIO in the order of the layouts' own letters.
LAYOUTS = {"nhwc": ((0, 1, 2, 3), (0, 1, 2, 3)), "nchw": ((0, 3, 1, 2), (3, 2, 0, 1))}

# Bytes of an array that is fetched whole: sooner done than a program is compiled that picks.
WHOLE = 256 << 20


def dtype(problem: Problem) -> Any:
    return jnp.bfloat16 if problem.mode == "bf16" else jnp.float32


@functools.partial(jax.jit, static_argnums=(1, 2))
def _normal(seed: jax.Array, shape: tuple[int, ...], kind: Any) -> jax.Array:
    key = jax.random.key(seed, impl="unsafe_rbg")
    return jax.random.normal(key, shape, kind)


@functools.partial(jax.jit, static_argnums=1)
def _transposed(array: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    return jnp.transpose(array, axes)


class Operands:
    """Sets of x, w and y (the output's cotangent) of a problem: normal numbers, all different.

    They are made when they are first asked for, and freed with this object.
    """

    def __init__(self, problem: Problem):
        self.problem = problem
        self._made: dict[tuple[str, int, str], jax.Array] = {}

    def warm_up(self) -> None:
        """Makes the first set, in threads: most of its time is compilation."""
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda operand: self.get(operand, 0), "xwy"))

    def get(self, operand: str, index: int, layout: str = "nhwc") -> jax.Array:
        """One operand of one set, always with H, in NHWC and HWIO or in NCHW and OIHW."""
        key = (operand, index, layout)
        if key not in self._made:
            if layout == "nhwc":
                seed = jnp.uint32(3 * index + "xwy".index(operand))
                made = _normal(seed, self.problem.shape(operand), dtype(self.problem))
            else:
                axes = LAYOUTS[layout][operand == "w"]
                made = _transposed(self.get(operand, index), axes)
            self._made[key] = made
        return self._made[key]

    def sets(self, operands: str, count: int, layout: str) -> list[tuple[jax.Array, ...]]:
        """`count` sets of some operands, as the contenders of a layout take them."""
        return [tuple(self._bare(o, i, layout) for o in operands) for i in range(count)]

    def _bare(self, operand: str, index: int, layout: str) -> jax.Array:
        key = (operand, index, f"{layout} bare")
        if not self.problem.layer.one_d:
            return self.get(operand, index, layout)
        if key not in self._made:  # H is 1, and the third axis of NCHW and OIHW
            axis = 2 if layout == "nchw" else int(operand != "w")
            self._made[key] = jnp.squeeze(self.get(operand, index, layout), axis)
        return self._made[key]


@jax.jit
def _take(array: jax.Array, *index: Any) -> jax.Array:
    return array[index].astype(jnp.float32)


@functools.partial(jax.jit, static_argnums=1)
def _take_between(array: jax.Array, slices: tuple[bool, ...], *index: Any) -> jax.Array:
    rest = iter(index)
    return array[tuple(slice(None) if s else next(rest) for s in slices)].astype(jnp.float32)


def fetch(array: jax.Array, index: tuple) -> np.ndarray:
    """Elements of an array on the device, as `sampled.Fetch` says."""
    if array.nbytes <= WHOLE:
        return np.asarray(np.asarray(array)[index], np.float32)
    if index[0] is Ellipsis:
        index = (slice(None),) * (array.ndim - len(index) + 1) + index[1:]
    slices = tuple(isinstance(i, slice) for i in index)
    arrays = [jnp.asarray(i, jnp.int32) for i in index if not isinstance(i, slice)]
    taken = _take_between(array, slices, *arrays) if any(slices) else _take(array, *arrays)
    return np.asarray(taken)


def fetch_result(array: jax.Array, index: tuple, layout: str, operand: str) -> np.ndarray:
    """Elements of a result in its layout, by an index into NHWC or HWIO; H may be left out."""
    axes = list(LAYOUTS[layout][operand == "w"])
    if array.ndim == 3:
        axes.remove(0 if operand == "w" else 1)
    return fetch(array, tuple(index[a] for a in axes))
