"""Values leave for host memory or disk and come back: a value for a ticket.

A ticket is two 32-bit words that stand for one value which the native cache has taken
(`ffi/offload/engine.h`). Calls are pure: what is stored goes on through the call, and what is
fetched needs a part of the cotangent, so that data alone orders them, whatever a loop's `unroll`.
"""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp

from jaxdirect import _compat, _ffi

TIERS = {"host": 0, "disk": 1}
PLATFORMS = ("cpu", "cuda")  # those whose streams have been run
_sites = itertools.count()


def available() -> bool:
    """Whether values can be stored where calls run by default."""
    platform = _compat.default_platform()
    return platform in PLATFORMS and _ffi.available(platform)


def new_site() -> int:
    """A number for one place of a program that stores and fetches.

    It keeps the compiler from taking two of them for one.
    """
    return next(_sites)


def store(value: jax.Array, site: int, place: str) -> tuple[jax.Array, jax.Array]:
    """`value`, to be used from here on, and the ticket for it."""
    ticket = jax.ShapeDtypeStruct((2,), jnp.uint32)
    call = jax.ffi.ffi_call(
        "jaxdirect_offload_store",
        [_compat.result_like(t, value) for t in (_type(value), ticket)],
        vmap_method="broadcast_all",
        input_output_aliases={0: 0},
    )
    same, words = call(value, **_attributes(site, place))
    return same, words


def fetch(ticket: jax.Array, like: Any, anchor: jax.Array, site: int, place: str) -> jax.Array:
    """The value of a ticket, of the type of `like`; not before `anchor` is known."""
    call = jax.ffi.ffi_call(
        "jaxdirect_offload_fetch",
        _compat.result_like(jax.ShapeDtypeStruct(like.shape, like.dtype), ticket),
        vmap_method="broadcast_all",
    )
    return call(ticket, anchor, **_attributes(site, place))


def _type(value: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(value.shape, value.dtype)


def _attributes(site: int, place: str) -> dict[str, Any]:
    return {name: _ffi.attribute(v) for name, v in (("site", site), ("tier", TIERS[place]))}
