"""The examples in public docstrings run and print what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import jaxdirect

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(jaxdirect.__path__, "jaxdirect.")
    if not module.name.endswith(("._cpu", "._cuda", "__main__"))
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("name", jaxdirect.__all__)
def test_public_functions_have_an_example(name):
    public = getattr(jaxdirect, name)
    if callable(public) and not hasattr(public, "_fields"):
        assert ">>>" in (public.__doc__ or ""), f"{name} has no example"
