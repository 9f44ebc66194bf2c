"""Two CPU devices for every test, and GPU tests that cannot be skipped unseen."""

from __future__ import annotations

import os
from collections.abc import Iterator

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
)
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


def has_gpu() -> bool:
    return jax.default_backend() == "gpu"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("gpu") and not has_gpu():
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator:
    report = yield
    if report.skipped and os.environ.get("JAXDIRECT_REQUIRE_GPU") == "1":
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped although JAXDIRECT_REQUIRE_GPU=1"
    return report


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
