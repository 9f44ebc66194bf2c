"""Values leave for host memory or disk and come back: a value for a ticket.

A ticket is two 32-bit words that stand for one value which the native cache has taken
(`ffi/offload/engine.h`). Calls are pure: what is stored goes on through the call, and what is
fetched needs a part of the cotangent, so that data alone orders them, whatever a loop's `unroll`.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxdirect import _compat, _ffi

TIERS = {"host": 0, "disk": 1}
PLATFORMS = ("cpu", "cuda")  # those whose streams have been run
STORE, FETCH = "jaxdirect_offload_store", "jaxdirect_offload_fetch"
_sites = itertools.count()
_names: dict[int, str] = {}
_planning = contextvars.ContextVar("jaxdirect_offload_planning", default=False)


def available() -> bool:
    """Whether values can be stored where calls run by default."""
    platform = _compat.default_platform()
    return platform in PLATFORMS and _ffi.available(platform)


@contextlib.contextmanager
def planning() -> Iterator[None]:
    """While it lasts, layers are traced to be read by `offload.plan` and not to run.

    All their named values move, on any platform and whether or not the backward pass needs them,
    and next to what waited stands what it would be computed again from.
    """
    token = _planning.set(True)
    try:
        yield
    finally:
        _planning.reset(token)


def is_planning() -> bool:
    """Whether what is traced is for a plan."""
    return _planning.get()


def new_site(name: str) -> int:
    """A number for one place of a program that stores and fetches values of that name.

    It keeps the compiler from taking two of them for one.
    """
    site = next(_sites)
    _names[site] = name
    return site


def name_of(site: int) -> str:
    """The name of the values of a site."""
    return _names[site]


def store(value: jax.Array, site: int, place: str) -> tuple[jax.Array, jax.Array]:
    """`value`, to be used from here on, and the ticket for it; one for each device of its mesh."""
    run = functools.partial(_store, site=site, place=place)
    if (sharding := _explicit(jax.typeof(value))) is None:
        return run(value)
    tickets = PartitionSpec(sharding.mesh.axis_names)
    return _on_shards(sharding, run, (sharding.spec,), (sharding.spec, tickets))(value)


def fetch(ticket: jax.Array, type_: Any, bar: jax.Array, site: int, place: str) -> jax.Array:
    """The value of a ticket, of that type; not before the cotangent `bar` is known."""
    run = functools.partial(_fetch, dtype=type_.dtype, site=site, place=place)
    if (sharding := _explicit(type_)) is None:
        return run(ticket, bar, shape=type_.shape)
    run = functools.partial(run, shape=sharding.shard_shape(type_.shape))
    specs = PartitionSpec(sharding.mesh.axis_names), jax.typeof(bar).sharding.spec
    return _on_shards(sharding, run, specs, sharding.spec)(ticket, bar)


def _explicit(type_: Any) -> NamedSharding | None:
    """Of a type whose axes over several devices are all explicit, for calls that each makes."""
    sharding = getattr(type_, "sharding", None)
    mesh = getattr(sharding, "mesh", None)
    if mesh is None or mesh.empty or mesh.size == 1:
        return None
    return sharding if set(mesh.axis_types) == {AxisType.Explicit} else None


def _on_shards(
    sharding: NamedSharding, run: Callable[..., Any], ins: tuple[Any, ...], outs: Any
) -> Callable[..., Any]:
    return jax.shard_map(run, mesh=sharding.mesh, in_specs=ins, out_specs=outs, check_vma=False)


def _store(value: jax.Array, *, site: int, place: str) -> tuple[jax.Array, jax.Array]:
    ticket = jax.ShapeDtypeStruct((2,), jnp.uint32)
    call = jax.ffi.ffi_call(
        STORE,
        [_compat.result_like(t, value) for t in (_type(value), ticket)],
        vmap_method="broadcast_all",
        input_output_aliases={0: 0},
    )
    same, words = call(value, **_attributes(site, place))
    return same, words


def _fetch(
    ticket: jax.Array, bar: jax.Array, *, shape: tuple[int, ...], dtype: Any, site: int, place: str
) -> jax.Array:
    call = jax.ffi.ffi_call(
        FETCH,
        _compat.result_like(jax.ShapeDtypeStruct(shape, dtype), ticket),
        vmap_method="broadcast_all",
    )
    # With a part of the cotangent nothing is fetched before it is needed, nor out of turn.
    return call(ticket, bar.reshape(-1)[:1], **_attributes(site, place))


def _type(value: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(value.shape, value.dtype)


def _attributes(site: int, place: str) -> dict[str, Any]:
    return {name: _ffi.attribute(v) for name, v in (("site", site), ("tier", TIERS[place]))}
