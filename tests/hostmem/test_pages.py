"""Registered pages: shared, released with their last user, and kept where that fails."""

from __future__ import annotations

import queue

import numpy as np
import pytest

from jaxdirect.hostmem import _pages


class Driver:
    """Stands in for the CUDA module."""

    def __init__(self):
        self.registered = {}
        self.lost = False

    def host_register(self, start, size, read_only):
        stop = start + size
        assert all(stop <= low or high <= start for low, high in self.registered.items())
        if read_only:
            raise RuntimeError("refused")
        self.registered[start] = stop

    def host_unregister(self, start):
        del self.registered[start]

    def synchronize(self, devices):
        if self.lost:
            raise RuntimeError("the GPU has fallen off the bus")


@pytest.fixture
def driver():
    return Driver()


@pytest.fixture
def registry(driver):
    return _pages._Registry(driver)


def reap(registry, driver, *held):
    returned = queue.SimpleQueue()
    for one in held:
        returned.put(one)
    returned.put(None)
    _pages._reap(registry, driver, returned)


def test_shared_pages_are_registered_once(registry, driver):
    middle = registry.acquire(100, 200, False)
    everything = registry.acquire(0, 300, False)
    assert driver.registered == {0: 100, 100: 200, 200: 300}
    assert registry.registered_bytes() == 300
    registry.release(everything)
    assert driver.registered == {100: 200}
    registry.release(middle)
    assert driver.registered == {}


def test_a_refused_registration_leaves_nothing_behind(registry, driver):
    held = registry.acquire(100, 200, False)
    with pytest.raises(RuntimeError, match="refused"):
        registry.acquire(0, 300, True)
    assert driver.registered == {100: 200}
    registry.release(held)
    assert registry.registered_bytes() == 0


def test_the_reaper_goes_on_after_a_failure_and_the_next_table_reports_it(registry, driver):
    arrays = [np.zeros(1), np.ones(1)]
    first, second = (registry.acquire(100 * i, 100 * i + 50, False) for i in range(2))
    driver.lost = True
    reap(registry, driver, (first, arrays[0]))
    assert driver.registered == {0: 50, 100: 150}
    assert _pages._kept.pop()[1] is arrays[0]
    with pytest.raises(RuntimeError, match=r"could not be released.*fallen off the bus"):
        _pages._report_failure()
    _pages._report_failure()  # once is enough
    driver.lost = False
    reap(registry, driver, (second, arrays[1]))
    assert driver.registered == {0: 50}
