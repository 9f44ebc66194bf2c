"""Every test leaves the cache as it found it."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest

from jaxdirect import offload
from jaxdirect.offload import _tickets


@pytest.fixture(autouse=True)
def float32_products() -> Iterator[None]:
    """A GPU would round operands as TF32, in one program otherwise than in another."""
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(autouse=True)
def cache() -> Iterator[None]:
    if not _tickets.available():
        pytest.skip("nothing moves here")
    offload.clear()
    yield
    found = offload.stats()
    assert found["waiting"] == 0, "values were left behind"
    offload.clear()  # waits for writes of values that came back before they had ended
    found = offload.stats()
    assert found["used_host_bytes"] == 0
