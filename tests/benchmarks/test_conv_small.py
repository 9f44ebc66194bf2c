"""The convolution benchmark at tiny sizes: the float64 sample, programs, sums, one whole run."""

from __future__ import annotations

import functools
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from conv_peers import cases, goals, operands, ours, programs, report, resnet, run, shapes  # noqa: E402
from conv_peers.problem import MOST_SETS, OPERANDS, RESULTS, Problem  # noqa: E402
from conv_peers.sampled import samples  # noqa: E402
from harness.results import Results  # noqa: E402

CASES = [
    ("conv1", "valid", "forward"),
    ("conv4", "same", "dgrad"),
    ("conv4", "same", "wgrad"),
    ("depthwise3x3s2", "same", "training"),
    ("grouped32x8s2", "same", "training"),
    ("causal4", "causal", "training"),
]


def tiny(layer: str, padding: str, mode: str = "fp32") -> Problem:
    return Problem(shapes.small(shapes.LAYERS[layer]), 2, padding, mode)


def float64_pass(problem: Problem, what: str, x, w, y) -> dict[str, np.ndarray]:
    """Every output of a pass in float64, tap by tap."""
    layer, ((top, bottom), (left, right)) = problem.layer, problem.pads
    wide = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    wide_bar, w_bar, out = np.zeros_like(wide), np.zeros_like(w), np.zeros(problem.shape("y"))
    high, broad = problem.out
    for u, v in np.ndindex(*layer.kernel):
        at = (
            slice(None),
            slice(u, u + (high - 1) * layer.stride + 1, layer.stride),
            slice(v, v + (broad - 1) * layer.stride + 1, layer.stride),
        )
        for g in range(layer.groups):
            cs = slice(*(np.array([g, g + 1]) * (layer.channels // layer.groups)))
            ks = slice(*(np.array([g, g + 1]) * (layer.features // layer.groups)))
            out[..., ks] += wide[at][..., cs] @ w[u, v][:, ks]
            wide_bar[at][..., cs] += y[..., ks] @ w[u, v][:, ks].T
            w_bar[u, v][:, ks] = np.einsum("npqc,npqk->ck", wide[at][..., cs], y[..., ks])
    x_bar = wide_bar[:, top : top + layer.height, left : left + layer.width]
    every = {"y": out, "x": x_bar, "w": w_bar}
    return {r: every[r] for r in RESULTS[what]}


@pytest.mark.parametrize(("layer", "padding", "what"), CASES)
def test_the_sample_is_of_the_float64_convolution(layer: str, padding: str, what: str) -> None:
    problem = tiny(layer, padding)
    rng = np.random.default_rng(1)
    arrays = {o: rng.standard_normal(problem.shape(o)) for o in "xwy"}
    want = float64_pass(problem, what, **arrays)
    drawn = samples(problem, RESULTS[what], arrays, lambda array, index: array[index])
    for result, sample in drawn.items():
        np.testing.assert_allclose(sample.want, want[result][sample.index], atol=1e-12)
        assert sample.errors(want[result][sample.index])["rel_l2"] < 1e-14
        assert sample.errors(1.01 * sample.want)["rel_l2"] == pytest.approx(0.01)
        assert (sample.magnitude >= abs(sample.want) - 1e-12).all()


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """XLA's convolution in the place of ours; what is depthwise is refused."""

    def conv(*arguments, implementation, **options):
        if implementation == "native" and options["feature_group_count"] > 1:
            raise ValueError("groups are not covered")
        return jax.lax.conv_general_dilated(*arguments, **options)

    monkeypatch.setattr(ours, "missing", lambda: None)
    monkeypatch.setattr(ours, "function", lambda: conv)


@pytest.mark.parametrize(
    ("layer", "padding", "what"), [*CASES[:3], ("causal4", "causal", "training")]
)
def test_programs_do_every_call(monkeypatch, layer: str, padding: str, what: str) -> None:
    """As on a GPU: many calls in one program, none of which the compiler leaves out."""
    stand_in(monkeypatch)
    monkeypatch.setattr(Problem, "copies", lambda self, what: 2)
    case = cases.Case("layer", layer, 128, padding, "fp32", what)
    record = run.layer_case(run.Context("cuda", set(), set(), rounds=1, small=True), case)
    report.derive(record)
    found = record["contenders"]
    assert set(found) == {report.OURS, report.AUTO, *report.XLA}
    if shapes.LAYERS[layer].depthwise:
        assert found.pop(report.OURS) == {"skipped": "groups are not covered"}
    for figures in found.values():
        assert figures["seconds"] > 0
        assert set(figures["accuracy"]) == set(RESULTS[what])
        assert report.worst_error(figures)[0] < 1e-5
        assert figures["workspace_bytes"] >= 0
        assert not figures["lost_convolutions"], figures["convolutions"]
    assert "err" in report.line(case.name, record)


def test_a_lost_call_is_noticed() -> None:
    problem = tiny("conv9", "valid")
    conv = programs.convolution(jax.lax.conv_general_dilated, problem, "nhwc")
    made = operands.Operands(problem)
    sets = made.sets("xw", 2, "nhwc")
    lost = jax.jit(lambda s: programs.rotated(lambda x, w: (conv(x, w),))(s)[:1])
    assert programs.convolutions(lost.lower(sets).compile().as_text()) == 1


@pytest.mark.parametrize("what", ["forward", "dgrad", "wgrad", "training"])
def test_pytorch_computes_the_same(what: str) -> None:
    pytest.importorskip("torch")
    from conv_peers import peers_torch

    for layer, padding in (("conv4", "same"), ("conv9", "valid"), ("causal4", "causal")):
        figures = peers_torch.measure(tiny(layer, padding), what, "cpu", 1)
        assert report.worst_error(figures)[0] < 1e-5


def test_sizes_are_those_of_the_papers() -> None:
    """Heights of the outputs, and GFLOP of a batch of 128."""
    heights = (55, 56, 111, 109, 20, 10, 222, 110, 54, 26, 12, 5)
    gflop = (27.0, 28.0, 29.7, 610.4, 62.9, 30.2, 21.8, 228.4, 27.5, 25.5, 21.7, 15.1)
    for layer, height, work in zip(shapes.TWELVE, heights, gflop, strict=True):
        problem = Problem(layer, 128, "valid", "bf16")
        assert problem.out == (height, height)
        assert problem.flops("forward") / 1e9 == pytest.approx(work, abs=0.06)
        for what in OPERANDS:
            count = problem.copies(what)
            assert count == MOST_SETS or count * problem.nbytes(OPERANDS[what]) > 240e6
        same = Problem(layer, 128, "same", "bf16")
        assert same.out == (-(-layer.height // layer.stride),) * 2


def test_core_table_is_108_cases_and_fits_one_call() -> None:
    core = [c for c in cases.gpu_cases() if c.tier == 0]
    assert sum(c.kind == "layer" for c in core) == 108
    assert sum(c.seconds for c in core) < 560


def test_cases_of_a_group_stand_together_and_quick_ones_first() -> None:
    every = [c for c in cases.gpu_cases() if c.kind == "layer"]
    assert len({c.name for c in every}) == len(every)
    groups = [key for key, _ in itertools.groupby(every, key=lambda c: c.group)]
    assert len(set(groups)) == len(groups)
    rest = [c.seconds for c in every if c.tier == 2]
    assert rest == sorted(rest)


@pytest.mark.parametrize(
    ("only", "count", "seconds"),
    [
        (r"^conv\d+/b32/valid/", 108, 250),
        (r"^conv\d+/b1/valid/", 108, 130),
        (r"^conv\d+/b128/same/", 108, 250),
        (r"^depthwise.*/(forward|training)$", 15, 152),
        (r"^causal4/b(1|2|4|8)/.*/training$", 8, 81),
        (r"^(conv|res)\d+/b8/", 82, 120),
    ],
)
def test_rows_that_issues_ask_for(only: str, count: int, seconds: float) -> None:
    found = [c for c in cases.gpu_cases() if re.search(only, c.name)]
    assert len(found) == count
    assert sum(c.seconds for c in found) < seconds


def test_goals_take_the_fastest_peer() -> None:
    def record(**seconds: float) -> dict:
        made = {k: {"seconds": v, "rounds": [v], "workspace_bytes": 0} for k, v in seconds.items()}
        return {"floors": {}, "contenders": made}

    data = {}
    for layer in shapes.TWELVE:
        name = f"{layer.name}/b128/valid/bf16/forward"
        data[name] = record(jaxdirect=1.0, auto=1.0, xla_nhwc=3.0, xla_nchw=2.0)
        data[f"torch/{name}"] = {"contenders": {"torch": {"seconds": 1.5, "rounds": [1.5]}}}
    data["conv4/b128/valid/bf16/forward"] = record(jaxdirect=1.0, auto=3.2, xla_nhwc=3.0)
    left = record(jaxdirect=1.0, auto=3.5, xla_nhwc=3.0, xla_nchw=2.0)  # to XLA: noise
    left["contenders"]["auto"]["native"] = 0
    data["conv5/b128/valid/bf16/forward"] = left
    found = {goal.what: goal for goal in goals.evaluate(data)}
    body = found["body, forward, bf16: best peer / ours"]
    assert body.values == {"geomean of 8 of 8": pytest.approx(1.5)}
    assert body.verdict(1.5) == "ok"
    after = found["any case that dispatch gives to ours: XLA / auto, worst"].values
    worst = "bf16, 11 cases (conv4/b128/valid/bf16/forward)"
    assert after[worst] == pytest.approx(3.0 / 3.2)
    assert found["workspace"].values["forward"] == 0
    assert found["stems, wgrad, fp32: best peer / ours"].values == {"geomean of 0 of 4": None}


def test_the_network_is_the_same_in_both_layouts() -> None:
    config = resnet.Config(blocks=(1,), width=4, size=8, classes=5)
    found = {}
    for layout in ("nhwc", "nchw"):
        conv = resnet.convolution(jax.lax.conv_general_dilated, layout)
        state = resnet.init(layout, config)
        images, labels = resnet.batch(layout, config, 2, 0)
        after, loss = jax.eval_shape(resnet.step(conv, layout, config), state, images, labels)
        assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)
        assert loss.shape == ()
        logits = functools.partial(resnet.logits, conv, layout, config)
        found[layout], new = jax.jit(logits)(state["parameters"], state["statistics"], images)
        assert new.keys() == state["statistics"].keys()
    np.testing.assert_allclose(found["nhwc"], found["nchw"], atol=0.02 * abs(found["nhwc"]).max())
    assert len(resnet._layers(resnet.RESNET50)) == 53


def test_a_run_from_end_to_end(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    command = [sys.executable, str(BENCHMARKS / "conv.py"), "--platform", "cpu", "--small"]
    command += ["--rounds", "1", "--without", "torch", "--only", "^conv9/b8/valid/fp32/"]
    done = subprocess.run(
        [*command, "--output", str(output)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "goals:" in done.stdout
    data = json.loads(output.read_text())
    assert set(data["cases"]) == {f"conv9/b8/valid/fp32/{k}" for k in ("forward", "dgrad", "wgrad")}
    assert data["goals"]
    again = Results(output, resume=True)
    assert all(again.done(name) for name in data["cases"])
