"""`offload.plan` on a step that is compiled; its seconds are made up, for a CPU's are noise."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import pytest
from offload_layers import loss
from plan_steps import (
    FAST,
    SLOW,
    clock,
    dear_to_recompute,
    light,
    light_layer,
    make_light,
    peak_of,
    step_of,
)

from jaxdirect import offload
from jaxdirect.offload import _measure, _tickets, engine
from jaxdirect.offload.engine import staging_bytes

__all__ = ["clock"]
KEEP = offload.Policy(default="keep")
AGAIN = offload.Policy()
DEPTH, BATCH, WIDTH = 3, 8, 16
UP = 4 * BATCH * WIDTH * DEPTH


def planned(budget, args, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return offload.plan(light, *args, budget_bytes=budget, **options)


def test_a_budget_of_all(clock):
    clock(dear_to_recompute, FAST)
    args = make_light(BATCH * 40)
    peak = peak_of(light, KEEP, *args)
    plan = planned(peak, args)
    assert set(dict(plan.policy.places).values()) == {"keep"}
    assert plan.peak_bytes == plan.keep.peak_bytes == peak
    assert (plan.host_bytes, plan.staging_bytes) == (0, 0)
    assert plan.step_seconds == 1


@pytest.mark.parametrize("rates", [FAST, SLOW], ids=["fast", "slow"])
def test_a_budget_between(clock, rates):
    clock(dear_to_recompute, rates)
    args = make_light(BATCH * 40)
    most, least = (peak_of(light, policy, *args) for policy in (KEEP, AGAIN))
    budget = (most + least) // 2
    plan = planned(budget, args)
    assert plan.peak_bytes <= budget
    assert plan.peak_bytes == peak_of(light, plan.policy, *args) + plan.staging_bytes
    assert plan.step_seconds == dear_to_recompute(plan.policy)
    assert plan.step_seconds <= plan.recompute.seconds
    assert plan.chosen.is_compiled
    assert plan.chosen.is_timed
    assert plan.chosen.policy == plan.policy
    moved = [n.bytes // n.count for n in plan.names if n.place == "host"]
    assert plan.staging_bytes == staging_bytes(max(moved, default=0))


def test_the_plan_runs_and_gives_the_same(clock):
    clock(dear_to_recompute, FAST)
    args = make_light(BATCH * 40)
    most, least = (peak_of(light, policy, *args) for policy in (KEEP, AGAIN))
    plan = planned((most + least) // 2, args)
    ours = jax.jit(lambda *args: light(plan.policy, *args))(*args)
    theirs = jax.jit(lambda *args: light(KEEP, *args))(*args)
    assert jnp.allclose(ours[1], theirs[1])


def test_a_budget_below_all(clock):
    clock(dear_to_recompute, FAST)
    with pytest.raises(ValueError, match=r"no policy found needs 5000 bytes") as caught:
        planned(5000, make_light())
    words = str(caught.value)
    least = int(words.split("the least is ")[1].split()[0])
    assert f"the budget is {least - 5000} bytes short" in words
    assert least > 5000


def test_what_is_known_of_names(clock):
    clock(dear_to_recompute, FAST)
    params, x = make_light()
    plan = planned(1 << 30, (params, x))
    sizes = {name.name: (name.bytes, name.waiting_bytes, name.count) for name in plan.names}
    assert sizes["up"] == (UP, UP, DEPTH)
    assert sizes["down"] == (UP, UP, DEPTH)
    again = {name.name: name.recompute_seconds for name in plan.names}
    assert again["up"] == again["down"] > 0  # a product each
    assert {name.reason for name in plan.names} == {"fits"}
    assert plan.names[0].transfer_seconds == pytest.approx(2 * UP / FAST.host)


def test_a_name_that_nothing_needs(clock):
    def block(params, x):
        up = offload.name(x @ params, "up")
        return offload.name(jnp.tanh(up) @ params, "out")

    clock(dear_to_recompute, FAST)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = offload.plan(step_of(block), *make_light(), budget_bytes=1 << 30)
    up, out = plan.names
    assert (up.place, up.reason) == ("keep", "fits")
    assert (out.place, out.reason) == ("recompute", "not needed by the backward pass")
    assert out.bytes == 0


def test_a_step_that_is_jitted(clock):
    clock(dear_to_recompute, FAST)
    jitted = jax.jit(light, static_argnums=0)
    params, x = make_light()
    jitted(KEEP, params, x)
    plan = offload.plan(jitted, params, x, budget_bytes=1 << 30)
    assert plan.policy == planned(1 << 30, (params, x)).policy


def test_donated_arguments_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(_measure.Steps, "rates", lambda *_: FAST)
    params, x = make_light()
    before = jax.tree.map(jnp.copy, params)
    plan = planned(1 << 30, (params, x), donate_argnums=0)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), params, before)))
    assert plan.step_seconds > 0


def test_steps_are_timed_and_rates_measured(monkeypatch):
    monkeypatch.setattr(engine, "_directories", ())
    params, x = make_light()
    said = []
    plan = planned(1 << 30, (params, x), progress=said.append)
    assert plan.step_seconds > 0
    assert plan.rates.host > 0
    assert plan.rates.disk is None
    assert said[0] == "names: up, down"
    assert any(line.startswith("keep all: ") for line in said)


def test_where_nothing_can_move(clock, monkeypatch):
    clock(dear_to_recompute, FAST)
    args = make_light(BATCH * 40)
    most, least = (peak_of(light, policy, *args) for policy in (KEEP, AGAIN))
    monkeypatch.setattr(_tickets, "available", lambda: False)
    plan = planned((most + least) // 2, args)
    assert set(dict(plan.policy.places).values()) <= {"keep", "recompute"}
    assert not plan.moves
    assert "nothing can be moved on this platform" in str(plan)
    assert [name.bytes for name in plan.names if name.name == "up"] == [UP * 40]


@pytest.mark.parametrize("budget", [0, -5])
def test_budgets_that_are_none(budget):
    with pytest.raises(ValueError, match=f"budget_bytes must be positive, got {budget}"):
        planned(budget, make_light())


def test_steps_without_names():
    def bare(policy, params, x):
        return jax.grad(loss(light_layer))(params, x)

    def nameless(policy, params, x):
        block = offload.checkpoint(lambda p, x: jnp.tanh(x @ p @ p), policy)
        return jax.grad(loss(block))(params, x)

    for wrong in (bare, nameless):
        with pytest.raises(ValueError, match=r"offload\.name\(x, 'up'\).*offload\.checkpoint"):
            offload.plan(wrong, *make_light(), budget_bytes=1 << 30)


def test_arguments_to_donate_are_counted_from_either_end(clock):
    clock(dear_to_recompute, FAST)
    args = make_light(BATCH * 40)

    def step(policy, params, x):
        return light(policy, params, x), x + 1

    def peak(**options):
        return offload.plan(step, *args, budget_bytes=1 << 30, **options).keep.peak_bytes

    assert peak(donate_argnums=1) == peak(donate_argnums=-1) < peak()
    with pytest.raises(ValueError, match=r"donate_argnums \(2,\) are not all of 2 arguments"):
        planned(1 << 30, args, donate_argnums=2)


def test_a_step_that_prints_is_read(clock):
    clock(dear_to_recompute, FAST)

    def step(policy, params, x):
        jax.debug.callback(lambda total: None, x.sum())
        return light(policy, params, x)

    assert offload.plan(step, *make_light(), budget_bytes=1 << 30).keep.peak_bytes > 0


def test_planning_and_running_do_not_share_what_jit_has_traced(clock):
    clock(dear_to_recompute, FAST)

    def block(matrix, x):  # the backward pass needs nothing of "out"
        return x + offload.name(light_layer(matrix, x), "out")

    step = jax.jit(step_of(block), static_argnums=0)
    everywhere = offload.Policy(default="host")
    offload.plan(step, *make_light(), budget_bytes=1 << 30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jax.block_until_ready(step(everywhere, *make_light()))
    assert offload.stats()["waiting"] == 0, "what is planned with was run"


def test_little_host_memory_keeps_no_plan_from_being_made():
    offload.configure(host_limit_bytes=64 << 10)
    try:
        plan = planned(1 << 30, make_light(512))
    finally:
        offload.configure(host_limit_bytes=1 << 62)
    assert plan.policy.names("host") == ()
    found = offload.stats()
    assert (found["staging_bytes"], found["host_bytes"]) == (0, 0), "measuring has left memory"
