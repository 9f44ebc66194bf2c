"""What the tests of the command share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from jaxdirect.cli.train.loop import Trainer


@pytest.fixture
def interrupt_at(monkeypatch: pytest.MonkeyPatch) -> Callable:
    """`with interrupt_at(epoch)`: Ctrl-C where training would begin that epoch."""
    train = Trainer.train

    @contextlib.contextmanager
    def at(epoch: int) -> Iterator[None]:
        def interrupted(self, state, first, on_step):
            if first == epoch:
                raise KeyboardInterrupt
            return train(self, state, first, on_step)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "train", interrupted)
            yield

    return at
