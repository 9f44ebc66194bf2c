"""Epochs over batches, keyed so that any epoch can be run again on its own."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Int

from jaxdirect.cli.train.options import Options
from jaxdirect.cli.train.step import StepMetrics, TrainState, eval_step, train_step
from jaxdirect.cli.train.task import Task

_WEIGHT_DECAY = 1e-3
_WARM_UP = 0.1  # share of the steps
# Training and evaluations each draw from a stream of keys of their own.
_TRAIN_STREAM, _VALID_STREAM, _TEST_STREAM = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class Epoch:
    """Metrics when an epoch has ended.

    Attributes:
        epoch: number of the last epoch, from 0; the metrics are of it and of those since the last
            validation, means over nodes.
        loss, train_accuracy, valid_accuracy: as usual.
        seconds: of the training part.
        nodes: training nodes seen.
        rows: feature rows read.
    """

    epoch: int
    loss: float
    train_accuracy: float
    valid_accuracy: float
    seconds: float
    nodes: int
    rows: int


@dataclasses.dataclass(frozen=True)
class Trainer:
    """A network, its optimizer and the data, as functions of a `TrainState`."""

    task: Task
    options: Options
    definition: nnx.GraphDef
    optimizer: optax.GradientTransformation
    initial: TrainState

    @classmethod
    def create(cls, task: Task, options: Options) -> Trainer:
        """A trainer for `task` from its initial parameters."""
        definition, params = nnx.split(task.network)
        steps = options.epochs * num_steps(task, options)
        warm_up = max(1, int(_WARM_UP * steps))
        schedule = optax.warmup_cosine_decay_schedule(
            0.0, options.learning_rate, warm_up, max(steps, warm_up + 1)
        )
        optimizer = optax.adamw(schedule, weight_decay=_WEIGHT_DECAY)
        initial = TrainState(params, optimizer.init(params))
        return cls(task, options, definition, optimizer, initial)

    def train(
        self, state: TrainState, first: int, on_step: Callable[[], Any]
    ) -> tuple[TrainState, Epoch]:
        """Trains from epoch `first` to the next validation, and validates.

        In an epoch every training node is a seed once.
        """
        options, seeds = self.options, self.task.graph.train
        last = min(first + options.validate_every, options.epochs)
        metrics = []
        start = time.perf_counter()
        for epoch in range(first, last):
            key = _key(options.seed, _TRAIN_STREAM, epoch)
            order = np.random.default_rng([options.seed, epoch]).permutation(seeds)
            for step, batch in enumerate(self._batches(order)):
                state, batch_metrics = train_step(
                    state,
                    self.task.inputs,
                    batch,
                    jax.random.fold_in(key, step),
                    definition=self.definition,
                    optimizer=self.optimizer,
                    forward=self.task.forward,
                    fanout=options.fanout,
                )
                metrics.append(batch_metrics)
                on_step()
        total = _total(metrics)
        seconds = time.perf_counter() - start
        nodes = seeds.size * (last - first)
        valid = self.task.graph.valid
        return state, Epoch(
            epoch=last - 1,
            loss=float(total.loss) / nodes,
            train_accuracy=float(total.correct) / nodes,
            valid_accuracy=self._accuracy(state, valid, options.fanout, _VALID_STREAM, last - 1),
            seconds=seconds,
            nodes=nodes,
            rows=int(total.rows),
        )

    def test(self, state: TrainState) -> float:
        """Accuracy on all test nodes; samples have the wider neighbourhoods of `eval_fanout`."""
        return self._accuracy(
            state, self.task.graph.test, self.options.eval_fanout, _TEST_STREAM, 0
        )

    def _accuracy(
        self,
        state: TrainState,
        nodes: Int[np.ndarray, " nodes"],
        fanout: tuple[int, ...],
        stream: int,
        epoch: int,
    ) -> float:
        if nodes.size == 0:
            return float("nan")
        key = _key(self.options.seed, stream, epoch)
        metrics = [
            eval_step(
                state.params,
                self.task.inputs,
                seeds,
                jax.random.fold_in(key, step),
                definition=self.definition,
                forward=self.task.forward,
                fanout=fanout,
            )
            for step, seeds in enumerate(self._batches(nodes))
        ]
        return float(_total(metrics).correct) / nodes.size

    def _batches(self, nodes: Int[np.ndarray, " nodes"]) -> Iterator[jax.Array]:
        """Runs of nodes, in order; the last is filled up with -1."""
        size = nodes.size if self.task.whole_graph else self.options.batch_size
        for start in range(0, nodes.size, size):
            batch = nodes[start : start + size]
            yield jnp.asarray(np.pad(batch, (0, size - batch.size), constant_values=-1))


def num_steps(task: Task, options: Options) -> int:
    """Steps of an epoch."""
    return 1 if task.whole_graph else -(-task.graph.train.size // options.batch_size)


def _key(seed: int, stream: int, epoch: int) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), stream), epoch)


def _total(metrics: list[StepMetrics]) -> StepMetrics:
    """Sums over batches, in float64 and int64."""
    host = jax.device_get(metrics)
    return StepMetrics(
        loss=np.sum([m.loss for m in host], dtype=np.float64),
        correct=np.sum([m.correct for m in host], dtype=np.int64),
        rows=np.sum([m.rows for m in host], dtype=np.int64),
    )
