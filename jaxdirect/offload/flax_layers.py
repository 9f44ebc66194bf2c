"""`checkpoint` for Flax layers: parameters, batch statistics and random keys go in and out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from jaxdirect.offload.checkpoint import checkpoint
from jaxdirect.offload.policy import Policy

T = TypeVar("T")


def nnx_remat(
    function: Callable[..., Any], policy: Policy, *, prevent_cse: bool = True
) -> Callable[..., Any]:
    """The counterpart of `flax.nnx.remat`: what the function changes in its modules stays changed.

    Args:
        function: of modules and arrays, such as `lambda block, x: block(x)`.
        policy: the places of its named values.
        prevent_cse: as for `jaxdirect.offload.checkpoint`.

    Returns:
        A function of the same arguments and results.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxdirect import offload
        >>> block = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
        >>> run = lambda block, x: jnp.tanh(offload.name(block(x), "up"))
        >>> moved = offload.nnx_remat(run, offload.Policy(host=["up"]))
        >>> loss = lambda block, x: moved(block, x).sum()
        >>> nnx.jit(nnx.grad(loss))(block, jnp.ones((1, 2)))["kernel"].shape
        (2, 3)
    """
    from flax import nnx

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        graph, state = nnx.split((args, kwargs))
        after: list[Any] = []  # the graph of what comes out, known when it has been traced

        def pure(state: Any) -> Any:
            inner_args, inner_kwargs = nnx.merge(graph, state)
            results = function(*inner_args, **inner_kwargs)
            out_graph, out_state = nnx.split((inner_args, inner_kwargs, results))
            after.append(out_graph)
            return out_state

        out_state = checkpoint(pure, policy, prevent_cse=prevent_cse)(state)
        new_args, new_kwargs, results = nnx.merge(after[-1], out_state)
        nnx.update((args, kwargs), nnx.state((new_args, new_kwargs), nnx.Variable))
        return results

    return wrapped


def linen_remat(target: T, policy: Policy, *, prevent_cse: bool = True) -> T:
    """The counterpart of `flax.linen.remat`.

    Args:
        target: a module's class, or a function of a module and arrays.
        policy: the places of its named values.
        prevent_cse: as for `jaxdirect.offload.checkpoint`.

    Returns:
        A class or function like the target.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import linen
        >>> from jaxdirect import offload
        >>> class Block(linen.Module):
        ...     @linen.compact
        ...     def __call__(self, x):
        ...         return jnp.tanh(offload.name(linen.Dense(3)(x), "up"))
        >>> block = offload.linen_remat(Block, offload.Policy(host=["up"]))()
        >>> params = block.init(jax.random.key(0), jnp.ones((1, 2)))
        >>> loss = lambda params, x: block.apply(params, x).sum()
        >>> bars = jax.jit(jax.grad(loss))(params, jnp.ones((1, 2)))
        >>> bars["params"]["Dense_0"]["kernel"].shape
        (2, 3)
    """
    from flax.core import lift
    from flax.linen import transforms

    def lifted(function: Callable[..., Any]) -> Callable[..., Any]:
        def inner(scope: Any, repack: Any, variables: Any, rngs: Any, *args: Any, **kw: Any) -> Any:
            def pure(variables: Any, rngs: Any, *args: Any, **kwargs: Any) -> Any:
                at = scope(variables, rngs)
                results = function(at, *args, **kwargs)
                return results, repack(at)

            moved = checkpoint(pure, policy, prevent_cse=prevent_cse)
            return moved(variables, rngs, *args, **kw)

        return lift.pack(inner, (True,), (True,), (True,), name="remat", enable_kwargs=True)

    return cast(T, transforms.lift_transform(lifted, target))
