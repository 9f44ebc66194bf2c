"""`jaxdirect plan`: prints and draws a plan, and has a sentence for every mistake."""

from __future__ import annotations

import sys

import pytest

from jaxdirect.cli import main
from jaxdirect.cli.plan import parse_size

MODULE = """
import jax, jax.numpy as jnp
from jaxdirect import offload

def make():
    def layer(x, w):
        return jnp.sin(offload.name(x @ w, "up")) @ w
    def step(policy, w, x):
        block = offload.checkpoint(layer, policy)
        loss = lambda w: jax.lax.scan(lambda x, w: (block(x, w), None), x, w)[0].sum()
        return w - jax.grad(loss)(w)
    return step, (jnp.ones((3, 8, 8)), jnp.ones((4, 8)))

def nothing():
    return None

def swapped():
    return make()[::-1]

number = 3
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a module `mine`, and in it."""
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("import a_module_that_is_missing\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("mine", "broken"):
        sys.modules.pop(name, None)


def test_prints_and_draws(here, capsys):
    path = list(sys.path)
    assert main(["plan", "mine:make", "--budget", "1MiB", "--figure", "out.png"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].split() == [
        "name",
        "bytes",
        "compute",
        "again",
        "move",
        "place",
        "reason",
    ]
    assert out.splitlines()[1].split()[:3] == ["up", "384", "B"]
    assert "recompute all" in out
    assert "names: up" in err
    assert (here / "out.png").read_bytes().startswith(b"\x89PNG")
    assert sys.path == path


MISTAKES = [
    (["mine", "--budget", "1GiB"], "expected module:function, got 'mine'"),
    (["gone:make", "--budget", "1GiB"], "there is no module 'gone'"),
    (["mine:gone", "--budget", "1GiB"], "module 'mine' has no function 'gone'"),
    (["mine:number", "--budget", "1GiB"], "'number' of module 'mine' is no function but int"),
    (["mine:nothing", "--budget", "1GiB"], "mine:nothing must return (step, args)"),
    (["mine:nothing", "--budget", "1GiB"], "got NoneType"),
    (["mine:swapped", "--budget", "1GiB"], "got (tuple, function)"),
    (["broken:make", "--budget", "1GiB"], "No module named 'a_module_that_is_missing'"),
    (["mine:make", "--budget", "many"], "--budget must be a size such as 40GiB"),
    (["mine:make", "--budget", "0GiB"], "--budget must be positive, got '0GiB'"),
    (["mine:make", "--budget", "1GiB", "--figure", "no/such.png"], "--figure: there is no folder"),
    (["mine:make", "--budget", "100"], "the budget is"),
    (["mine:make"], "--budget"),
]


@pytest.mark.parametrize(("flags", "message"), MISTAKES, ids=lambda value: str(value)[:40])
def test_mistakes(here, flags, message, capsys):
    assert main(["plan", *flags]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("40GiB", 40 << 30),
        ("40 gib", 40 << 30),
        ("40GB", 40 * 10**9),
        ("1.5MiB", 3 << 19),
        ("2MB", 2 * 10**6),
        ("3KiB", 3072),
        ("1TiB", 1 << 40),
        ("12345", 12345),
        ("12345 bytes", 12345),
    ],
)
def test_sizes(text, count):
    assert parse_size(text, "--budget") == count


@pytest.mark.parametrize("text", ["", "GiB", "4 GiB GiB", "-4GiB", "4XB", "1e9", "4GiB2"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="--budget must be a size"):
        parse_size(text, "--budget")
