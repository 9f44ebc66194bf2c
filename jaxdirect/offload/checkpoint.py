"""`checkpoint`: a layer that saves, moves or computes again what a policy says."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name

from jaxdirect import _compat
from jaxdirect.offload import _layer, _names
from jaxdirect.offload.policy import Policy


def name(x: jax.Array, name: str) -> jax.Array:
    """Names a value for policies; the same as `jax.ad_checkpoint.checkpoint_name`.

    Args:
        x: any array.
        name: what a policy calls it.

    Returns:
        `x`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxdirect import offload
        >>> offload.name(jnp.ones(2), "up").shape
        (2,)
    """
    return checkpoint_name(x, name)


def checkpoint(
    function: Callable[..., Any],
    policy: Policy,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    prevent_cse: bool = True,
) -> Callable[..., Any]:
    """A function whose backward pass finds named values where a policy has put them.

    The counterpart of `jax.checkpoint`: values of the function that have a name
    (`jaxdirect.offload.name`) wait on the device, in host memory or on disk, and all others are
    computed again. For reverse mode, first order. What would move is kept where no native code
    runs, and on GPUs for the time being.

    Args:
        function: usually one layer of a network; it may close over arrays.
        policy: the places of its named values.
        static_argnums: positions of arguments that are no arrays, as for `jax.jit`.
        static_argnames: the same by keyword.
        prevent_cse: as for `jax.checkpoint`; inside `jax.lax.scan` False is enough, and faster.

    Returns:
        A function of the same arguments and results.

    Raises:
        TypeError: `policy` is no `Policy`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxdirect import offload
        >>> def layer(w, x):
        ...     return x + jnp.tanh(offload.name(x @ w, "up"))
        >>> moved = offload.checkpoint(layer, offload.Policy(host=["up"]))
        >>> loss = lambda w, x: moved(w, x).sum()
        >>> jax.jit(jax.grad(loss))(jnp.eye(2), jnp.zeros((1, 2))).shape
        (2, 2)
    """
    if not isinstance(policy, Policy):
        raise TypeError(
            f"checkpoint: policy must be an offload.Policy, got {type(policy).__name__}; "
            "offload.jax_policy makes a policy for jax.checkpoint"
        )
    numbers = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)
    static_names = (static_argnames,) if isinstance(static_argnames, str) else static_argnames

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        static_positions = {n % len(args) for n in numbers} if args else set()
        dynamic = [None if i in static_positions else a for i, a in enumerate(args)]
        dynamic_kwargs = {k: v for k, v in kwargs.items() if k not in static_names}
        leaves, tree = jax.tree.flatten((dynamic, dynamic_kwargs))

        def flat(*leaves: Any) -> Any:
            given, given_kwargs = jax.tree.unflatten(tree, leaves)
            full = [args[i] if i in static_positions else a for i, a in enumerate(given)]
            return function(*full, **{**kwargs, **given_kwargs})

        jaxpr, out_type = jax.make_jaxpr(flat, return_shape=True)(*leaves)
        outputs = _call(jaxpr, policy, prevent_cse, leaves)
        return jax.tree.unflatten(jax.tree.structure(out_type), outputs)

    return wrapped


def _call(jaxpr: Any, policy: Policy, barrier: bool, leaves: Sequence[Any]) -> list[Any]:
    # What the function closes over is an input too, to be differentiated.
    opened = jaxpr.jaxpr
    _check_names(opened, policy)

    @jax.custom_vjp
    def layer(*inputs: Any) -> list[Any]:
        return _names.Run(lambda _, name, value: checkpoint_name(value, name))(opened, inputs)

    def forward(*inputs: Any) -> tuple[list[Any], _layer.Residuals]:
        return _layer.forward(_layer.plan(opened, policy, inputs, barrier), inputs)

    def backward(residuals: _layer.Residuals, bars: Sequence[Any]) -> tuple[Any, ...]:
        return _layer.backward(residuals, bars)

    layer.defvjp(forward, backward)
    return layer(*_compat.match_varying(*jaxpr.consts, *leaves))


def _check_names(jaxpr: Any, policy: Policy) -> None:
    found = {name for name, _ in _names.named(jaxpr)}
    inside = set(_names.hidden(jaxpr)) - found
    for name in policy.names("keep", "host", "disk"):
        if name in inside:
            warnings.warn(
                f"checkpoint: {name!r} names a value in a loop, a branch or a custom derivative of "
                "the function, where it is computed again; checkpoint the loop's body instead",
                stacklevel=4,
            )
        elif name not in found:
            warnings.warn(
                f"checkpoint: no value of the function is named {name!r}; its names are "
                f"{', '.join(sorted(found)) or 'none'}",
                stacklevel=4,
            )
