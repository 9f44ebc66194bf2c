"""Parameters as the layers describe them, made by linen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdirect.nn._parameters import Parameter, Parameters


class Group(nn.Module):
    """Parameters under a name of their own."""

    parameters: Parameters
    param_dtype: Any

    @nn.compact
    def __call__(self) -> dict[str, Any]:
        """The arrays, by name."""
        return make(self, self.parameters, self.param_dtype)


def make(module: nn.Module, parameters: Parameters, dtype: Any) -> dict[str, Any]:
    """The arrays of `module`'s parameters, made where they are not there yet."""
    return {
        name: module.param(name, entry.init, entry.shape, dtype)
        if isinstance(entry, Parameter)
        else Group(entry, dtype, name=name)()
        for name, entry in parameters.items()
    }


def variables(arrays: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
    """What `apply` takes, from parameters by name."""
    return {"params": jax.tree.map(lambda array: jnp.asarray(array, dtype), arrays)}
