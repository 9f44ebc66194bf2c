"""Runs of the command in one session share their compiled programs."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

_OPTIONS = {
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


@pytest.fixture(scope="package", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[None]:
    """Every run trains the same GraphSAGE as a floor, and a continued run is compiled again."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "compiled"
    before = {name: getattr(jax.config, name) for name in _OPTIONS}
    for name, value in _OPTIONS.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    compilation_cache.set_cache_dir(str(folder))
    yield
    compilation_cache.reset_cache()
    compilation_cache.set_cache_dir(None)
    for name, value in before.items():
        jax.config.update(name, value)
