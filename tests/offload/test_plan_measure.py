"""What a plan measures: bytes of compiled steps, steps that cannot run, rates."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import pytest
from plan_steps import light, make_light

from jaxdirect import offload
from jaxdirect.offload import _measure, engine
from jaxdirect.offload._measure import Steps

KEEP = offload.Policy(default="keep")
MIB = 1 << 20


def doubled(policy, x):
    return x * 2


def test_donated_memory_counts_once():
    x = jnp.ones(MIB // 4)
    assert Steps(doubled, (x,), ()).peak(KEEP) == 2 * MIB
    donating = Steps(doubled, (x,), (0,))
    assert donating.peak(KEEP) == MIB
    assert donating.seconds(KEEP, MIB) > 0
    assert float(x.sum()) == MIB // 4


@pytest.mark.parametrize(
    ("donate", "room", "runs"), [((), 2, True), ((0,), 2, False), ((), 1, False)]
)
def test_a_step_larger_than_the_device_is_not_run(monkeypatch, donate, room, runs):
    monkeypatch.setattr(_measure, "memory_bytes", lambda: room * MIB)
    steps = Steps(doubled, (jnp.ones(MIB // 4),), donate)
    assert (steps.seconds(KEEP, 3 * MIB // 2 if donate else 2 * MIB) is not None) == runs


def test_a_step_that_host_memory_is_too_small_for():
    args = make_light()
    offload.configure(host_limit_bytes=4096)
    try:
        steps = Steps(light, args, ())
        assert steps.seconds(offload.Policy(host=["up", "down"]), 0) == math.inf
        assert engine.host_limit_bytes() == 4096
    finally:
        offload.configure(host_limit_bytes=1 << 62)


def test_other_errors_are_raised():
    def wrong(policy, x):
        return missing

    with pytest.raises(NameError):
        Steps(wrong, (jnp.ones(2),), ()).peak(KEEP)


def test_steps_are_compiled_with_the_options_that_are_given():
    args, options = (jnp.ones(2),), {"xla_allow_excess_precision": False}
    assert Steps(doubled, args, (), options).peak(KEEP) == Steps(doubled, args, ()).peak(KEEP)
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_no_such_option"):
        Steps(doubled, args, (), {"xla_no_such_option": True}).peak(KEEP)


def test_the_machine_has_a_host_limit(monkeypatch):
    monkeypatch.setattr(engine, "_host_limit_bytes", None)
    assert 1 << 28 < engine.host_limit_bytes() < 1 << 50


def test_rates_of_the_disk(tmp_path):
    assert isinstance(engine.directories(), tuple)
    offload.configure(directory=tmp_path)
    assert engine.directories() == (str(tmp_path),)
    before = offload.stats()["disk_written_bytes"]
    folders = (str(tmp_path),)
    rates = _measure.measured_rates("cpu", 8192, folders)
    assert rates.disk > 0
    assert offload.stats()["disk_written_bytes"] - before >= 6 * 8192
    assert _measure.measured_rates("cpu", 8192, folders) is rates  # measured once


@pytest.mark.parametrize("staging", [0, 1 << 20])
def test_a_rate_counts_what_moved(monkeypatch, staging):
    """The last two of six values do not leave, however much would stay with another staging."""

    def second(run, *args):
        jax.block_until_ready(run(*args))
        return 1.0

    monkeypatch.setattr(_measure, "_timed", second)
    offload.configure(staging_bytes=staging)
    try:
        assert _measure._round_trip("host", 1 << 16) == 8 * (1 << 16)
        assert engine.staging_bytes(1 << 16) == (staging or 2 << 16)
    finally:
        offload.configure(staging_bytes=0)
