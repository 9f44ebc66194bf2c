"""What a layer's parameters are, said once for nnx and linen."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, Union

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.linen.dtypes import promote_dtype
from jax.typing import ArrayLike
from jaxtyping import Array

from jaxdirect.relational import _checks
from jaxdirect.relational.typed_linear import Options

Initializer: TypeAlias = Callable[[Array, tuple[int, ...], Any], Array]
Arrays: TypeAlias = Mapping[str, Any]


class Parameter(NamedTuple):
    """An array to learn."""

    init: Initializer
    shape: tuple[int, ...]


Parameters: TypeAlias = Mapping[str, Union[Parameter, "Parameters"]]

zeros: Initializer = jax.nn.initializers.zeros
ones: Initializer = jax.nn.initializers.ones


def glorot(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """Uniform in +-sqrt(6 / (rows + columns)) of each matrix, as PyG's."""
    bound = math.sqrt(6 / max(1, shape[-2] + shape[-1]))
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def uniform(fan: int) -> Initializer:
    """Uniform in +-1 / sqrt(fan), as PyTorch's linear layers begin."""
    bound = 1 / math.sqrt(max(1, fan))

    def init(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def full(value: float) -> Initializer:
    """The same number everywhere."""
    return jax.nn.initializers.constant(value)


def make(parameters: Parameters, rngs: nnx.Rngs, dtype: Any) -> dict[str, Any]:
    """The parameters for nnx."""
    return {
        name: nnx.Param(entry.init(rngs.params(), entry.shape, dtype))
        if isinstance(entry, Parameter)
        else nnx.Dict(make(entry, rngs, dtype))
        for name, entry in parameters.items()
    }


def read(module: Any, parameters: Parameters) -> dict[str, Any]:
    """The arrays of an nnx module's parameters."""
    return {
        name: getattr(module, name)[...]
        if isinstance(entry, Parameter)
        else read(getattr(module, name), entry)
        for name, entry in parameters.items()
    }


def write(module: Any, arrays: Arrays) -> None:
    """Puts arrays into an nnx module's parameters, in their dtype."""
    for name, value in arrays.items():
        if isinstance(value, Mapping):
            write(getattr(module, name), value)
        else:
            parameter = getattr(module, name)
            parameter[...] = jnp.asarray(value, parameter.dtype)


def promote(dtype: Any, *trees: Any) -> tuple[Any, ...]:
    """The arrays in one dtype, by Flax's rules: the given one, or the widest of theirs."""
    leaves, tree = jax.tree.flatten(trees)
    return tuple(jax.tree.unflatten(tree, promote_dtype(*leaves, dtype=dtype)))


def check_sizes(layer: str, **sizes: int | None) -> None:
    """Raises unless every size that is given is a positive integer."""
    for name, size in sizes.items():
        whole = isinstance(size, (int, np.integer)) and not isinstance(size, bool)
        if size is not None and not (whole and size > 0):
            raise ValueError(f"{layer}: {name} must be a positive integer, got {size!r}")


def check_choice(layer: str, name: str, value: Any, choices: Sequence[str | None]) -> None:
    """Raises unless `value` is one of `choices`."""
    if value not in choices:
        listed = ", ".join(map(str, choices))
        raise ValueError(f"{layer}: {name} must be one of {listed}, got {value!r}")


def check_decomposition(
    layer: str, num_bases: int | None, num_blocks: int | None, rows: int, columns: int
) -> None:
    """Raises unless a weight `[rows, columns]` can be decomposed so."""
    check_sizes(layer, num_bases=num_bases, num_blocks=num_blocks)
    if num_bases is not None and num_blocks is not None:
        raise ValueError(f"{layer}: num_bases and num_blocks exclude each other; give one of them")
    if num_blocks is not None and (rows % num_blocks or columns % num_blocks):
        raise ValueError(
            f"{layer}: num_blocks must divide the rows and columns of a weight, {rows} and "
            f"{columns}, got {num_blocks}"
        )


def check_graph(layer: str, num_relations: int, g: Any) -> None:
    """Raises unless `g` is a graph with the layer's relations."""
    _checks.graph(layer, g)
    if g.num_relations != num_relations:
        raise ValueError(
            f"{layer}: the graph must have the layer's {num_relations} relations, got "
            f"{g.num_relations}; build it with num_relations={num_relations}"
        )


def check_features(layer: str, in_features: int, x: Any) -> Array:
    """Node features `[num_nodes, in_features]`."""
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating) or x.ndim != 2 or x.shape[1] != in_features:
        raise ValueError(
            f"{layer}: x must be floating-point [num_nodes, {in_features}], got {x.dtype} "
            f"{list(x.shape)}"
        )
    return x


def options(layer: str, precision: Any, implementation: Any) -> Options:
    """The options of the operations' inner parts."""
    return Options(
        _checks.precision(layer, precision), _checks.implementation(layer, implementation)
    )


class PygState:
    """A PyTorch state dict that is read entry by entry, so that nothing is forgotten."""

    def __init__(self, layer: str, state: Mapping[str, ArrayLike]) -> None:
        self._layer, self._left = layer, dict(state)

    def take(self, name: str) -> np.ndarray:
        """The entry `name`, which is there."""
        if name not in self._left:
            raise ValueError(
                f"{self._layer}.load_pyg: the state has no {name}; build this layer with the "
                "options of PyG's"
            )
        return np.asarray(self._left.pop(name))

    def finish(self, arrays: dict[str, Any], parameters: Parameters) -> dict[str, Any]:
        """The arrays, if nothing is left over and all shapes fit."""
        if self._left:
            raise ValueError(
                f"{self._layer}.load_pyg: the layer has no place for {', '.join(self._left)}; "
                "build it with the options of PyG's"
            )
        self._compare(arrays, parameters, "")
        return arrays

    def _compare(self, arrays: Arrays, parameters: Parameters, prefix: str) -> None:
        for name, entry in parameters.items():
            if not isinstance(entry, Parameter):
                self._compare(arrays[name], entry, f"{prefix}{name}.")
            elif arrays[name].shape != entry.shape:
                raise ValueError(
                    f"{self._layer}.load_pyg: {prefix}{name} must be {list(entry.shape)}, got "
                    f"shape {list(arrays[name].shape)}"
                )
