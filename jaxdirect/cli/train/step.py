"""One step of training and of evaluation, whatever the network: one program each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Int

# (model, inputs, seeds, a key per hop, fanout, rngs of dropout or None) -> class scores of the
# seeds, and how many feature rows were read.
Forward = Callable[
    [Any, Any, Array, Sequence[Array], tuple[int, ...], nnx.Rngs | None], tuple[Array, Array]
]


class TrainState(NamedTuple):
    """What a checkpoint holds."""

    params: Any
    optimizer: Any


class StepMetrics(NamedTuple):
    """Of one batch: sum of the losses, right answers, and rows read (pads are not)."""

    loss: Array | np.generic
    correct: Array | np.generic
    rows: Array | np.generic


def _loss(
    definition: nnx.GraphDef,
    params: Any,
    inputs: Any,
    seeds: Int[Array, " batch"],
    key: Array,
    forward: Forward,
    fanout: tuple[int, ...],
    train: bool,
) -> tuple[Array, StepMetrics]:
    dropout_key, *keys = jax.random.split(key, len(fanout) + 1)
    rngs = nnx.Rngs(dropout=dropout_key) if train else None
    logits, rows = forward(nnx.merge(definition, params), inputs, seeds, keys, fanout, rngs)

    labels = jnp.where(seeds >= 0, inputs.labels[seeds], -1)
    known = labels >= 0  # the last batch is filled up with -1
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
    total = jnp.where(known, losses, 0).sum()
    metrics = StepMetrics(loss=total, correct=(logits.argmax(-1) == labels).sum(), rows=rows)
    return total / jnp.maximum(known.sum(), 1), metrics


@partial(
    jax.jit,
    static_argnames=("definition", "optimizer", "forward", "fanout"),
    donate_argnames="state",
)
def train_step(
    state: TrainState,
    inputs: Any,
    seeds: Int[Array, " batch"],
    key: Array,
    *,
    definition: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    forward: Forward,
    fanout: tuple[int, ...],
) -> tuple[TrainState, StepMetrics]:
    """Computes the loss of a batch and updates the parameters once.

    Args:
        state: parameters and moments; donated.
        inputs: what `forward` reads, an argument and never a constant; it has `labels`
            `[num_nodes]`, -1 where unlabelled.
        seeds: the nodes to classify; -1 fills a batch up.
        key: of samples and dropout.
        definition, optimizer, forward, fanout: what is trained, and how.
    """

    def loss(params: Any) -> tuple[Array, StepMetrics]:
        return _loss(definition, params, inputs, seeds, key, forward, fanout, train=True)

    gradient, metrics = jax.grad(loss, has_aux=True)(state.params)
    updates, moments = optimizer.update(gradient, state.optimizer, state.params)
    return TrainState(optax.apply_updates(state.params, updates), moments), metrics


@partial(jax.jit, static_argnames=("definition", "forward", "fanout"))
def eval_step(
    params: Any,
    inputs: Any,
    seeds: Int[Array, " batch"],
    key: Array,
    *,
    definition: nnx.GraphDef,
    forward: Forward,
    fanout: tuple[int, ...],
) -> StepMetrics:
    """The metrics of one batch, without dropout."""
    return _loss(definition, params, inputs, seeds, key, forward, fanout, train=False)[1]
