"""The GPT example learns, and alike wherever its activations wait."""

from __future__ import annotations

import importlib
import re
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxdirect import offload

EXAMPLES = Path(__file__).parents[2] / "examples"
# Long enough for activations to be more than parameters, with layers for what one of them needs.
# The same for all tests: what is compiled once is there for the others.
SMALL = ["--layers=6", "--width=16", "--heads=2", "--length=32", "--batch=4", "--steps=10"]
SMALL += ["--learning-rate=1e-2"]


@pytest.fixture(scope="module")
def example():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        yield importlib.import_module("train_gpt")


@pytest.fixture
def text(tmp_path):
    """A line over and over."""
    path = tmp_path / "text"
    path.write_bytes(b"for number in range(10):\n    print(number)\n" * 200)
    return path


@pytest.fixture
def results(example, monkeypatch):
    """What `main` has found, when it has run."""
    found = {}

    def keep(name, task, train=example.train):
        found[name] = train(name, task)
        return found[name]

    monkeypatch.setattr(example, "train", keep)
    return found


def test_the_same_curve_wherever_activations_wait(example, results, text, tmp_path, capsys):
    picture = tmp_path / "gpt.png"
    policies = "keep,recompute,host,disk"
    places = [f"--text={text}", f"--picture={picture}", f"--directory={tmp_path}"]
    example.main([*places, *SMALL, f"--policies={policies}"])
    assert list(results) == policies.split(",")
    keep = results["keep"]
    assert keep.losses.size == 10
    assert keep.losses[-1] < 0.8 * keep.losses[0]
    for result in results.values():
        np.testing.assert_allclose(result.losses, keep.losses, rtol=1e-4)
        assert result.held_out == pytest.approx(keep.held_out, rel=1e-4)
    assert keep.activations == 1
    for name in ("recompute", "host", "disk"):
        assert results[name].peak_bytes < keep.peak_bytes
        assert results[name].activations < 0.7
    assert results["host"].host_bytes > 0
    assert results["host"].disk_rate == 0
    assert results["disk"].disk_rate > 0
    assert offload.stats()["waiting"] == 0
    rows = capsys.readouterr().out.splitlines()[-6:-1]
    assert [row.split()[0] for row in rows] == ["policy", *results]
    assert len({len(row) for row in rows}) == 1
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_plan_for_a_share_of_the_activations(example, results, text, monkeypatch, capsys):
    asked = {}

    class Plan:
        policy = offload.Policy()
        staging_bytes = 0

    def plan(step, *args, budget_bytes, donate_argnums, compiler_options, progress):
        assert donate_argnums == (0,)
        assert (compiler_options is None) == (jax.default_backend() != "gpu")
        asked.update(budget=budget_bytes, found=jax.eval_shape(partial(step, Plan.policy), *args))
        asked["state"] = args[0]
        return Plan()

    monkeypatch.setattr(offload, "plan", plan, raising=False)
    options = [f"--text={text}", "--policies=keep,planned", "--budget=0.25", "--limit=1e-9"]
    example.main([*options, *SMALL])
    keep, planned = results["keep"], results["planned"]
    named = 6 * 4 * 32 * 10 * 16 * 4
    assert asked["budget"] == keep.peak_bytes - named * 3 // 4
    state, loss = asked["found"]
    assert jax.tree.structure(state) == jax.tree.structure(asked["state"])
    assert loss.shape == ()
    assert planned.activations < 0.7
    printed = capsys.readouterr().out
    assert "planned: for a peak of" in printed
    assert "1e-09 s have passed, 1 steps were taken" in printed
    assert keep.losses.size == 1


def test_policies_that_do_not_fit(example, monkeypatch, capsys):
    def train(name, task):
        if name not in failures:
            return Result(np.ones(3), 1.0, 0.1, 5, 2**20, 0.5, 0, 0.0)
        raise failures[name]

    Result = example.Result
    monkeypatch.setattr(example, "train", train)
    monkeypatch.setattr(offload, "plan", None, raising=False)
    full = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
    failures = {"keep": full, "planned": ValueError("the least peak is 3 bytes")}
    example.main([*SMALL, "--policies=keep,planned,recompute"])
    printed = capsys.readouterr().out
    assert "keep: RESOURCE_EXHAUSTED: out of memory" in printed
    assert "planned: the least peak is 3 bytes" in printed
    assert printed.splitlines()[-1].startswith("recompute")
    with pytest.raises(SystemExit, match="no policy fits"):
        example.main([*SMALL, "--policies=keep,planned"])
    failures = {"keep": jax.errors.JaxRuntimeError("INTERNAL: disk")}
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        example.main([*SMALL, "--policies=keep"])


def test_the_library_is_read(example):
    text = example.gpt_text.read()
    assert text.dtype == np.uint8
    assert len(text) > 2**20
    source = text.tobytes()
    assert Path(importlib.__file__).read_bytes() in source
    assert b"class TestCase" in source, "unittest is no test"
    assert b"import jaxdirect" not in source
    np.testing.assert_array_equal(text, example.gpt_text.read())


def test_sequences(example, rng):
    text = np.arange(200, dtype=np.uint8)
    learn, held_out = example.gpt_text.split(text, 9)
    np.testing.assert_array_equal(np.concatenate([learn, held_out]), text)
    assert len(held_out) == 10
    drawn = example.gpt_text.drawn(learn, 9, (50, 4), seed=0)
    assert drawn.shape == (50, 4, 10)
    assert (np.diff(drawn) == 1).all()
    assert drawn.max() < 190
    np.testing.assert_array_equal(drawn, example.gpt_text.drawn(learn, 9, (50, 4), seed=0))
    spread = example.gpt_text.spread(text, 9, (3, 2))
    assert spread[0, 0, 0] == 0
    assert spread[-1, -1, -1] == 199


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--heads=5"], "--heads 5 does not divide --width 96"),
        (["--policies=keep,attic"], "'attic' is none of keep, recompute, host, disk"),
        (["--host-names=low"], "'low' is none of input, qkv, attn, proj, up"),
        (["--disk-names=up,down"], "'down' is none of input, qkv, attn, proj, up"),
        (["--steps=0"], "--steps must be positive, got 0"),
        (["--budget=-1"], "--budget must be positive, got -1.0"),
    ],
)
def test_options_that_do_not_go_together(example, capsys, options, message):
    with pytest.raises(SystemExit) as found:
        example.main(options)
    assert found.value.code == 2
    assert message in capsys.readouterr().err


def test_texts_that_cannot_be_learned(example, text, tmp_path):
    short = re.escape("the text held out has 430 bytes of 8600; give a longer text")
    with pytest.raises(SystemExit, match=short):
        example.main([f"--text={text}", "--length=430"])
    with pytest.raises(SystemExit, match="No such file"):
        example.main([f"--text={tmp_path / 'none'}"])
