"""Native convolutions for the tests, whatever the rules choose."""

from __future__ import annotations

import jax
import pytest

from jaxdirect import _ffi
from jaxdirect.conv import rules


@pytest.fixture(scope="module")
def native():
    """All passes native on the CPU; the targets that are traced are in the list it gives.

    On a GPU kernels run wherever there is one.
    """
    calls = []
    real = _ffi.native_call

    def native_call(target, results, *operands, **attributes):
        calls.append(target)
        return real(target, results, *operands, **attributes)

    everywhere = tuple(
        rules.Rule(platform, rules.PASSES, "any", lambda *_: True, "a test asks for it")
        for platform in ("cpu", "cuda")
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_ffi, "native_call", native_call)
        patch.setattr(rules, "TABLE", everywhere)
        _forget()
        yield calls
    _forget()


def _forget():
    # What was traced keeps its kernels.
    jax.clear_caches()
    _ffi._composed.cache_clear()
