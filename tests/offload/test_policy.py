from __future__ import annotations

import jax
import pytest
from offload_layers import assert_same_bits, gradients, layer, make

from jaxdirect import offload


def test_places():
    policy = offload.Policy(host=["a"], disk=["b"], keep=["c"], recompute=["d"], default="keep")
    assert [policy.place(n) for n in "abcde"] == ["host", "disk", "keep", "recompute", "keep"]
    assert policy.names("host", "disk") == ("a", "b")


def test_equal_policies_are_equal_and_hash_alike():
    one, other = (offload.Policy(host=names) for names in (["a", "b"], ("b", "a")))
    assert one == other
    assert hash(one) == hash(other)
    assert one != offload.Policy(host=["a"], keep=["b"])


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"host": ["a"], "keep": ["a"]}, ValueError, "'a' stands in host and in keep"),
        ({"host": "abc"}, TypeError, "got the string 'abc'"),
        ({"disk": [1]}, TypeError, "names must be strings, got 1"),
        ({"default": "cloud"}, ValueError, "default must be one of keep, host, disk, recompute"),
    ],
)
def test_what_is_no_policy(arguments, error, words):
    with pytest.raises(error, match=words):
        offload.Policy(**arguments)


def test_jax_policy_saves_the_same_names():
    params, x = make()
    policy = offload.Policy(keep=["up", "nested"], recompute=["down"])
    with_jax = gradients(jax.checkpoint(layer, policy=offload.jax_policy(policy)))
    with_ours = gradients(offload.checkpoint(layer, policy))
    assert_same_bits(with_ours(params, x), with_jax(params, x))


def test_jax_policy_moves_what_goes_to_disk_to_the_host():
    policy = offload.jax_policy(offload.Policy(keep=["up"], host=["down"], disk=["nested"]))
    params, x = make()
    loss, _ = gradients(jax.checkpoint(layer, policy=policy))(params, x)
    assert loss == gradients(layer)(params, x)[0]


def test_jax_policy_has_no_other_default():
    with pytest.raises(ValueError, match="JAX knows listed names only"):
        offload.jax_policy(offload.Policy(default="host"))
