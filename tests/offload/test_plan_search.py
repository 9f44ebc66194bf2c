"""Which policy a plan chooses, by measurements that are made up."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import pytest
from plan_steps import FAST, SLOW, step_of

from jaxdirect import offload
from jaxdirect.offload._candidate import Candidate, describe, pareto
from jaxdirect.offload._cost import Rates
from jaxdirect.offload._search import NEAR_MISSES, TRIALS_TO_REFUSE, Search
from jaxdirect.offload._trace import trace
from jaxdirect.offload._trial import Limits

MIB = 1 << 20
BASE = 100 * MIB  # bytes of a step that computes all again
LAYERS = 4
SIZE = LAYERS * 16 * MIB  # of each of three names
KEEP = BASE + 3 * SIZE
STAGING = 2 * 16 * MIB
LEAST = BASE + STAGING + 16 * MIB  # moves all, and keeps none beside it


def block(params, x):
    """Three products, each as dear as the others and no part of them."""
    for name in ("a", "b", "c"):
        x = jnp.sin(offload.name(x @ params[name], name))
    return x


def shaped(names):
    matrix = jax.ShapeDtypeStruct((LAYERS, 1024, 1024), "float32")
    return dict.fromkeys(names, matrix), jax.ShapeDtypeStruct((4096, 1024), "float32")


@pytest.fixture(scope="module")
def traced():
    return trace(step_of(block), shaped("abc"))


class MadeUp:
    """A device on which bytes and seconds are sums over the names.

    Args:
        rates: of its links.
        move_s, again_s: seconds for each MB that moves, and for computing all again.
        surprise: MiB more than predicted of every policy that moves something.
    """

    def __init__(self, traced, rates=FAST, move_s=1e-5, again_s=1.0, surprise=0):
        self.traced, self.sizes = traced, traced.bytes(frozenset())
        self.move_s, self.again_s, self.surprise, self.made_rates = move_s, again_s, surprise, rates
        self.tried = []

    def placed(self, policy, *places):
        return sum(b.moved for name, b in self.sizes.items() if policy.place(name) in places)

    def peak(self, policy):
        self.tried.append(policy)
        surprise = self.surprise * MIB if self.placed(policy, "host", "disk") else 0
        return BASE + self.placed(policy, "keep") + surprise

    def seconds(self, policy, needs, staging=0):
        again = [name for name in self.traced.names if policy.place(name) == "recompute"]
        kept, done, most = (
            self.traced.work(frozenset(n)).flops for n in ((), again, self.traced.names)
        )
        moved = self.placed(policy, "host", "disk")
        return 1 + self.move_s * moved / 1e6 + self.again_s * (done - kept) / (most - kept)

    def rates(self, value_bytes, disk):
        return self.made_rates


def search(traced, steps, budget, **limits):
    found = Search(traced, steps, Limits(budget, **limits), lambda sentence: None)
    return found, found.candidate(found.run())


def places(candidate):
    return {place for _, place in candidate.policy.places}


def test_all_is_kept_where_it_fits(traced):
    steps = MadeUp(traced)
    _, chosen = search(traced, steps, KEEP)
    assert places(chosen) == {"keep"}
    assert chosen.peak_bytes == KEEP
    assert len(steps.tried) == 2  # and recomputing; nothing else can be faster


def test_a_fast_link_moves(traced):
    _, chosen = search(traced, MadeUp(traced), LEAST)
    assert places(chosen) == {"host"}
    assert chosen.peak_bytes == BASE + STAGING


def test_a_slow_link_computes_again(traced):
    _, chosen = search(traced, MadeUp(traced, SLOW, move_s=0.1), KEEP - 1)
    assert places(chosen) == {"keep", "recompute"}
    assert len(chosen.policy.names("recompute")) == 1


def test_keeps_what_fits_and_moves_the_rest(traced):
    budget = KEEP - SIZE + STAGING + 16 * MIB
    _, chosen = search(traced, MadeUp(traced), budget)
    assert places(chosen) == {"keep", "host"}
    assert len(chosen.policy.names("host")) == 1
    assert chosen.peak_bytes == budget - 16 * MIB


SLOWER = Rates(host=SIZE / 10, disk=None, copy=1e13, flops=1e12)  # a name takes ten seconds


class Stalling(MadeUp):
    """What the staging does not hold makes the step wait."""

    def seconds(self, policy, needs, staging=0):
        moved = self.placed(policy, "host")
        return 1 + max(0, moved - staging) / SIZE if moved else super().seconds(policy, needs)


def test_what_the_budget_has_left_is_staging_where_the_link_is_waited_for(traced):
    budget = KEEP - SIZE + STAGING + 24 * MIB
    found, chosen = search(traced, Stalling(traced, SLOWER, again_s=100.0), budget)
    assert len(chosen.policy.names("host")) == 1
    assert found.staging(found.best()) == STAGING + 24 * MIB
    assert chosen.peak_bytes == budget
    assert chosen.seconds == pytest.approx(1 + (SIZE - STAGING - 24 * MIB) / SIZE)
    # A link that is fast enough leaves it alone; so does a size that was set.
    found, _ = search(traced, MadeUp(traced), budget)
    assert found.staging(found.best()) == STAGING
    offload.configure(staging_bytes=4 * STAGING)
    try:
        found, _ = search(traced, Stalling(traced, SLOWER, again_s=100.0), KEEP)
        assert {trial.staging for trial in found.trials.values()} <= {0, 4 * STAGING}
    finally:
        offload.configure(staging_bytes=0)


def test_the_budget_holds_the_staging_too(traced):
    _, chosen = search(traced, MadeUp(traced), BASE + STAGING - 1)
    assert not {"host", "disk"} & places(chosen)


def test_a_wrong_prediction_is_corrected(traced):
    budget = BASE + 2 * SIZE
    _, plain = search(traced, MadeUp(traced), budget)
    assert len(plain.policy.names("host")) == 2
    assert len(plain.policy.names("keep")) == 1
    # Now that needs 8 MiB more than there are; then those like it are near misses.
    found, chosen = search(traced, MadeUp(traced, surprise=40), budget)
    assert chosen.fits
    assert len(chosen.policy.names("host")) == 3
    over = [
        trial for trial in found.trials.values() if trial.peak == BASE + SIZE + STAGING + 40 * MIB
    ]
    assert 1 <= len(over) <= 1 + NEAR_MISSES
    assert all(trial.seconds is None for trial in over)


def test_what_was_wrong_of_one_is_expected_of_its_neighbours(traced):
    # Nothing that moves fits, against all that is predicted.
    found, chosen = search(traced, MadeUp(traced, surprise=2 * 64), BASE + 2 * SIZE)
    assert places(chosen) == {"keep", "recompute"}
    assert len([p for p in found.trials if "host" in p]) == 1


def test_never_slower_than_recomputing_or_keeping_what_fits(traced):
    # It is predicted that moving is free, and measured that it is not.
    found, chosen = search(traced, MadeUp(traced, FAST, move_s=1.0), BASE + 2 * SIZE)
    assert chosen.seconds <= found.candidate(found.model.recompute).seconds
    still = [p for p in found.trials if not {"host", "disk"} & set(p)]
    assert len(still) == 3
    assert chosen.seconds == found.seconds(still[2])
    assert places(chosen) == {"keep", "recompute"}


def test_no_policy_fits(traced):
    message = (
        rf"no policy found needs {BASE - 1000} bytes or less; the least is {BASE} bytes, with "
        r"recompute all: the budget is 1000 bytes short; raise it"
    )
    with pytest.raises(ValueError, match=message):
        search(traced, MadeUp(traced), BASE - 1000)


class Odd(MadeUp):
    """Moving all needs least, which no prediction says."""

    def peak(self, policy):
        peak = super().peak(policy)
        return BASE - 50 * MIB if len(policy.names("host")) == 3 else peak


def test_what_moves_all_is_tried_before_a_refusal(traced):
    _, chosen = search(traced, Odd(traced), BASE - MIB)
    assert places(chosen) == {"host"}
    steps = Odd(traced)
    with pytest.raises(
        ValueError, match=f"least is {BASE - 50 * MIB + STAGING} bytes, with host all"
    ):
        search(traced, steps, 10 * MIB)
    assert len(steps.tried) >= TRIALS_TO_REFUSE


def test_host_memory_has_a_limit(traced):
    found, chosen = search(traced, MadeUp(traced), LEAST, host=2 * SIZE)
    assert found.model.host_bytes(found.best()) == 2 * SIZE
    assert len(chosen.policy.names("host")) == 2
    assert len(chosen.policy.names("recompute")) == 1


def test_the_disk_takes_what_host_memory_cannot(traced):
    limit = SIZE + 7 * 16 * MIB  # seven values are on their way to the disk or back
    found, chosen = search(traced, MadeUp(traced), LEAST, host=limit, disk=True)
    assert len(chosen.policy.names("disk")) == 2
    assert len(chosen.policy.names("host")) == 1
    assert found.model.host_bytes(found.best()) == limit


def test_no_disk_where_host_memory_is_enough(traced):
    _, chosen = search(traced, MadeUp(traced), LEAST, disk=True)
    assert len(chosen.policy.names("host")) == 3


def test_nothing_moves_where_nothing_can(traced):
    found, chosen = search(traced, MadeUp(traced), KEEP - 1, moves=False)
    assert places(chosen) <= {"keep", "recompute"}
    assert not any({"host", "disk"} & set(known) for known in found.known)


class Untimed(MadeUp):
    def seconds(self, policy, needs, staging=0):
        return super().seconds(policy, needs, staging) if needs < KEEP else None


def test_a_step_too_large_to_run_is_predicted(traced):
    found, _ = search(traced, Untimed(traced), KEEP - 1)
    keep = found.candidate(found.model.keep)
    assert keep.is_compiled
    assert not keep.is_timed
    assert keep.seconds < found.candidate(found.model.recompute).seconds


class Failing(MadeUp):
    def seconds(self, policy, needs, staging=0):
        return math.inf if self.placed(policy, "host") else super().seconds(policy, needs, staging)


def test_a_step_that_fails_is_not_chosen(traced):
    _, chosen = search(traced, Failing(traced), KEEP - 1)
    assert not {"host", "disk"} & places(chosen)
    assert chosen.seconds < math.inf


class Full(MadeUp):
    def seconds(self, policy, needs, staging=0):
        return math.inf if needs >= KEEP else super().seconds(policy, needs, staging)


def test_keeping_all_may_fail_for_want_of_memory(traced):
    found, chosen = search(traced, Full(traced), 2 * KEEP)
    assert places(chosen) == {"keep", "recompute"} or places(chosen) == {"keep", "host"}
    assert 1 <= chosen.seconds < 1.4
    assert found.candidate(found.model.keep).seconds == math.inf


def test_many_names_share_places():
    def deep(params, x):
        for name, matrix in params.items():
            x = jnp.sin(offload.name(x @ matrix, name))
        return x

    traced = trace(step_of(deep), shaped("abcdefghi"))
    assert len(traced.names) == 9
    found, chosen = search(traced, MadeUp(traced), BASE + 4 * SIZE)
    assert 1000 < len(found.known) <= 4**6
    assert chosen.fits


def candidate(peak, seconds):
    return Candidate(offload.Policy(), peak, seconds, True, True, True)


def test_pareto_has_what_nothing_beats():
    best = [candidate(1, 5.0), candidate(2, 4.0), candidate(4, 1.0)]
    worse = [candidate(2, 4.5), candidate(3, 4.0), candidate(5, 2.0)]
    assert pareto([*worse, *best]) == best


def test_a_policy_in_words():
    assert describe(offload.Policy(keep=["a", "b"])) == "keep all"
    assert describe(offload.Policy(keep=["a"], host=["c", "b"])) == "keep a; host b, c"
