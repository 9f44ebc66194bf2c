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

from jaxdirect.cli.train.model import Sage
from jaxdirect.cli.train.options import Options
from jaxdirect.cli.train.step import Inputs, StepMetrics, TrainState, eval_step, train_step
from jaxdirect.data import Graph

_WEIGHT_DECAY = 1e-3
_WARM_UP = 0.1  # share of the steps
# Training and evaluations each draw from a stream of keys of their own.
_TRAIN_STREAM, _VALID_STREAM, _TEST_STREAM = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class Epoch:
    """Metrics of one epoch: means over nodes, seconds of the training part, rows gathered."""

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

    graph: Graph
    inputs: Inputs
    options: Options
    definition: nnx.GraphDef
    optimizer: optax.GradientTransformation
    initial: TrainState

    @classmethod
    def create(cls, graph: Graph, inputs: Inputs, options: Options) -> Trainer:
        """A new network for `graph`, one convolution per hop of `options.fanout`."""
        model = Sage(
            graph.features.shape[1],
            options.hidden,
            graph.num_classes,
            num_hops=len(options.fanout),
            dropout=options.dropout,
            rngs=nnx.Rngs(options.seed),
        )
        definition, params = nnx.split(model)
        steps = options.epochs * num_batches(graph.train.size, options.batch_size)
        warm_up = max(1, int(_WARM_UP * steps))
        schedule = optax.warmup_cosine_decay_schedule(
            0.0, options.learning_rate, warm_up, max(steps, warm_up + 1)
        )
        optimizer = optax.adamw(schedule, weight_decay=_WEIGHT_DECAY)
        initial = TrainState(params, optimizer.init(params))
        return cls(graph, inputs, options, definition, optimizer, initial)

    def epoch(
        self, state: TrainState, epoch: int, on_step: Callable[[], Any]
    ) -> tuple[TrainState, Epoch]:
        """Trains on every training node once, then validates."""
        options = self.options
        key = _key(options.seed, _TRAIN_STREAM, epoch)
        order = np.random.default_rng([options.seed, epoch]).permutation(self.graph.train)
        metrics = []
        start = time.perf_counter()
        for step, seeds in enumerate(batches(order, options.batch_size)):
            state, batch_metrics = train_step(
                state,
                self.inputs,
                seeds,
                jax.random.fold_in(key, step),
                definition=self.definition,
                optimizer=self.optimizer,
                fanout=options.fanout,
            )
            metrics.append(batch_metrics)
            on_step()
        total = _total(metrics)
        seconds = time.perf_counter() - start
        nodes = self.graph.train.size
        return state, Epoch(
            epoch=epoch,
            loss=float(total.loss) / nodes,
            train_accuracy=float(total.correct) / nodes,
            valid_accuracy=self._accuracy(
                state, self.graph.valid, options.fanout, _VALID_STREAM, epoch
            ),
            seconds=seconds,
            nodes=nodes,
            rows=int(total.rows),
        )

    def test(self, state: TrainState, on_step: Callable[[], Any] = lambda: None) -> float:
        """Accuracy on all test nodes, with the wider neighbourhoods of `eval_fanout`."""
        return self._accuracy(
            state, self.graph.test, self.options.eval_fanout, _TEST_STREAM, 0, on_step
        )

    def _accuracy(
        self,
        state: TrainState,
        nodes: Int[np.ndarray, " nodes"],
        fanout: tuple[int, ...],
        stream: int,
        epoch: int,
        on_step: Callable[[], Any] = lambda: None,
    ) -> float:
        if nodes.size == 0:
            return float("nan")
        key = _key(self.options.seed, stream, epoch)
        metrics = []
        for step, seeds in enumerate(batches(nodes, self.options.batch_size)):
            metrics.append(
                eval_step(
                    state.params,
                    self.inputs,
                    seeds,
                    jax.random.fold_in(key, step),
                    definition=self.definition,
                    fanout=fanout,
                )
            )
            on_step()
        return float(_total(metrics).correct) / nodes.size


def num_batches(num_nodes: int, batch_size: int) -> int:
    """How many batches `batches` gives."""
    return -(-num_nodes // batch_size)


def batches(nodes: Int[np.ndarray, " nodes"], batch_size: int) -> Iterator[jax.Array]:
    """Runs of `batch_size` nodes, in order; the last is filled up with -1."""
    for start in range(0, nodes.size, batch_size):
        batch = nodes[start : start + batch_size]
        yield jnp.asarray(np.pad(batch, (0, batch_size - batch.size), constant_values=-1))


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
