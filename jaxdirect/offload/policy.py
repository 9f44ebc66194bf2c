"""Which named activations are kept, moved or computed again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax

PLACES = ("keep", "host", "disk", "recompute")


@dataclasses.dataclass(frozen=True, init=False)
class Policy:
    """Where the named values of a layer wait for its backward pass.

    Values are named by `jaxdirect.offload.name`, which is `jax.ad_checkpoint.checkpoint_name`.
    What has no name is computed again in the backward pass.

    Args:
        host: names of values that go to host memory.
        disk: names of values that go on to files; see `jaxdirect.offload.configure`.
        keep: names of values that stay on the device.
        recompute: names of values that are computed again.
        default: the place of all other names: `"recompute"`, `"keep"`, `"host"` or `"disk"`.

    Raises:
        ValueError: a name stands in two places, or a place is none.
        TypeError: a list of names is one string, or holds what is no string.

    Example:
        >>> from jaxdirect import offload
        >>> policy = offload.Policy(host=["up"], keep=["attn"])
        >>> policy.place("up"), policy.place("qkv")
        ('host', 'recompute')
    """

    places: tuple[tuple[str, str], ...]
    default: str

    def __init__(
        self,
        host: Iterable[str] = (),
        disk: Iterable[str] = (),
        keep: Iterable[str] = (),
        recompute: Iterable[str] = (),
        default: str = "recompute",
    ):
        if default not in PLACES:
            raise ValueError(f"Policy: default must be one of {', '.join(PLACES)}, got {default!r}")
        places: dict[str, str] = {}
        lists = {"host": host, "disk": disk, "keep": keep, "recompute": recompute}
        for place, listed in lists.items():
            for name in _names(place, listed):
                if places.setdefault(name, place) != place:
                    raise ValueError(
                        f"Policy: {name!r} stands in {places[name]} and in {place}; "
                        "name one place for it"
                    )
        object.__setattr__(self, "places", tuple(sorted(places.items())))
        object.__setattr__(self, "default", default)

    def place(self, name: str) -> str:
        """Where values of that name wait: one of `"keep"`, `"host"`, `"disk"`, `"recompute"`."""
        return dict(self.places).get(name, self.default)

    def names(self, *places: str) -> tuple[str, ...]:
        """The listed names of some places, sorted."""
        return tuple(name for name, place in self.places if place in places)


def _names(place: str, listed: Iterable[str]) -> Iterable[str]:
    if isinstance(listed, str):
        raise TypeError(f"Policy: {place} must be a list of names, got the string {listed!r}")
    for name in listed:
        if not isinstance(name, str):
            raise TypeError(f"Policy: names must be strings, got {name!r} in {place}")
        yield name


def jax_policy(policy: Policy) -> Callable[..., Any]:
    """The same places as a policy of `jax.checkpoint`, for comparison and for other platforms.

    Names that go to disk go to pinned host memory there. Only listed names are known to it: its
    default is to compute again.

    Args:
        policy: what to translate.

    Returns:
        For `jax.checkpoint(policy=)`.

    Raises:
        ValueError: the policy's default is another.

    Example:
        >>> import jax
        >>> from jaxdirect import offload
        >>> policy = offload.jax_policy(offload.Policy(keep=["up"]))
        >>> layer = jax.checkpoint(lambda x: offload.name(x * x, "up"), policy=policy)
        >>> float(jax.grad(layer)(3.0))
        6.0
    """
    if policy.default != "recompute":
        raise ValueError(
            f"jax_policy: JAX knows listed names only, got default={policy.default!r}; list them"
        )
    policies = jax.checkpoint_policies
    saved, moved = policy.names("keep"), policy.names("host", "disk")
    if not moved:
        return policies.save_only_these_names(*saved)
    return policies.save_and_offload_only_these_names(
        names_which_can_be_saved=list(saved),
        names_which_can_be_offloaded=list(moved),
        offload_src="device",
        offload_dst="pinned_host",
    )
