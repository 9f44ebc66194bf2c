"""What the relational benchmark makes of a program that fails, or whose repetition fails."""

from __future__ import annotations

import sys
from pathlib import Path

import jax.numpy as jnp
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from relational_peers import device


def program(function):
    return device.Program("p", function, None, [jnp.ones(3)], ())


def test_a_short_program_is_repeated():
    timed = program(lambda edges, x: x + 1)
    device.measure([timed], repeat_short=True, count=1)
    assert timed.record["seconds"] > 0
    assert timed.record["repeated"]


def test_without_its_repetition_it_is_timed_call_by_call(monkeypatch):
    def refuse(function):
        raise RuntimeError("RESOURCE_EXHAUSTED: the repetition")

    monkeypatch.setattr(device, "repeated", refuse)
    timed = program(lambda edges, x: x + 1)
    device.measure([timed], repeat_short=True, count=1)
    assert timed.record["seconds"] > 0
    assert not timed.record["repeated"]
    assert timed.record["repetition_failed"] == "RuntimeError: RESOURCE_EXHAUSTED: the repetition"


@pytest.mark.parametrize(
    ("text", "key", "noted"),
    [("RESOURCE_EXHAUSTED: 9 GiB", "oom", "OOM"), ("no such thing", "error", "RuntimeError: no")],
)
def test_a_failure_is_noted(text, key, noted):
    def fail(edges, x):
        raise RuntimeError(text)

    timed = program(fail)
    device.measure([timed], repeat_short=True, count=1)
    assert timed.failed()
    assert timed.record[key].startswith(noted)
    assert timed.record.get("oom_text", text).endswith(text)
