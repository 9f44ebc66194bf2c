"""The formulas of step time and of staging, on numbers made up."""

from __future__ import annotations

import jax.numpy as jnp
import pytest
from offload_layers import assert_same_bits, gradients, layer, make

from jaxdirect import offload
from jaxdirect.offload import _cost, engine
from jaxdirect.offload._cost import Clock, Rates
from jaxdirect.offload._trace import Bytes
from jaxdirect.offload._work import Work

RATES = Rates(host=100.0, disk=10.0, copy=1000.0, flops=50.0)
CLOCK = Clock(forward=2.0, backward=4.0, scale=3.0)


def seconds(places, moved, again=0.0):
    sizes = {name: Bytes(moved=count) for name, count in moved.items()}
    return CLOCK.seconds(again, places, sizes, RATES)


def test_what_is_kept_is_free():
    assert seconds({"a": "keep"}, {"a": 10**9}) == 6


def test_transfers_hide_under_each_pass():
    assert seconds({"a": "host"}, {"a": 200}) == pytest.approx(2 + 4 + 2 * 200 / 1000)
    # Three seconds of link: one shows in the forward pass, none in the backward pass.
    assert seconds({"a": "host"}, {"a": 300}) == pytest.approx(3 + 4 + 2 * 300 / 1000)
    assert seconds({"a": "host"}, {"a": 500}) == pytest.approx(5 + 5 + 2 * 500 / 1000)


def test_the_disk_is_slower_and_shares_the_link():
    moved = {"a": 20, "b": 380}
    assert seconds({"a": "disk", "b": "host"}, moved) == pytest.approx(4 + 4 + 0.8)
    assert seconds({"a": "disk", "b": "keep"}, {"a": 50, "b": 1}) == pytest.approx(5 + 5 + 0.1)


def test_what_is_computed_again_adds_to_the_backward_pass():
    assert seconds({"a": "recompute"}, {}, again=0.5) == 2 + 4 + 3 * 0.5
    # It gives what moves more time as well.
    both = seconds({"a": "recompute", "b": "host"}, {"b": 500}, again=0.5)
    assert both == pytest.approx(5 + 5.5 + 1)


KEPT, AGAIN, FORWARD = Work(flops=300), Work(flops=400), Work(flops=100)


def test_the_clock_agrees_with_both_measurements():
    clock = _cost.clock(KEPT, AGAIN, FORWARD, RATES, 9.0, 11.0)
    assert (clock.forward, clock.backward) == pytest.approx((3, 6))
    assert clock.scale * (400 - 300) / RATES.flops == pytest.approx(2.0)


def test_one_measurement_is_enough():
    from_keep = _cost.clock(KEPT, AGAIN, FORWARD, RATES, 9.0, None)
    from_recompute = _cost.clock(KEPT, AGAIN, FORWARD, RATES, None, 12.0)
    for clock in (from_keep, from_recompute):
        assert (clock.forward, clock.backward) == pytest.approx((3, 6))
        assert clock.scale * 100 / RATES.flops == pytest.approx(3)


def test_noise_makes_recomputing_no_gain():
    clock = _cost.clock(KEPT, AGAIN, FORWARD, RATES, 9.0, 8.5)
    assert clock.scale > 0


@pytest.mark.parametrize(
    ("largest", "want"), [(0, 0), (1, 1024), (512, 1024), (513, 2048), (8 << 20, 16 << 20)]
)
def test_staging_is_two_of_the_largest(largest, want):
    assert engine.staging_bytes(largest) == want


@pytest.mark.parametrize("limit", [0, 1, 1500, 5 << 10, 1 << 20])
@pytest.mark.parametrize("rows", [1, 40, 3000])
def test_staging_is_what_the_cache_takes(rows, limit):
    params, x = make()
    block = offload.checkpoint(layer, offload.Policy(host=["up"]))
    wide = jnp.concatenate([x] * rows)
    offload.configure(staging_bytes=limit)
    try:
        got = gradients(block)(params, wide)
        assert offload.stats()["staging_bytes"] == engine.staging_bytes(2 * wide.nbytes)
    finally:
        offload.configure(staging_bytes=0)
    assert_same_bits(got, gradients(block)(params, wide))


def test_a_larger_staging_is_wanted_where_a_pass_would_wait():
    assert CLOCK.staging(170, 0, RATES) == 0  # 85 % of the forward pass
    assert CLOCK.staging(370, 0, RATES) == 200
    assert CLOCK.staging(100, 34, RATES) == 50  # to disk: twice what there is time for
    assert CLOCK.staging(0, 0, RATES) == 0


def test_what_the_staging_holds_does_not_leave():
    clock = _cost.Clock(1.0, 2.0, 1.0)
    sizes, places = {"up": Bytes(moved=100, waiting=100, largest=10)}, {"up": "host"}
    rates = _cost.Rates(host=10, disk=None, copy=1e9, flops=1)
    seconds = [clock.seconds(0, places, sizes, rates, staging) for staging in (0, 50, 95, 200)]
    assert seconds == pytest.approx([20, 10, 3, 3])
