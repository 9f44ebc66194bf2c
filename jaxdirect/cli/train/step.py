"""One step of training and of evaluation: sampling, gathering and computing in one program."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Int

import jaxdirect


class Inputs(NamedTuple):
    """What every step reads: arguments of its program, never constants in it.

    Attributes:
        graph: `jaxdirect.CSRGraph` in host memory.
        table: features `[num_nodes, feature_dim]` in host memory, some cached if wanted.
        labels: `[num_nodes]` on the device, -1 where unlabelled.
    """

    graph: jaxdirect.CSRGraph
    table: Array | jaxdirect.CachedTable
    labels: Int[Array, " nodes"]


class TrainState(NamedTuple):
    """What a checkpoint holds."""

    params: Any
    optimizer: Any


class StepMetrics(NamedTuple):
    """Of one batch: sum of the losses, right answers, and rows read (pads are not)."""

    loss: Array | np.generic
    correct: Array | np.generic
    rows: Array | np.generic


def _forward(
    definition: nnx.GraphDef,
    params: Any,
    inputs: Inputs,
    seeds: Int[Array, " batch"],
    key: Array,
    fanout: tuple[int, ...],
    train: bool,
) -> tuple[Array, StepMetrics]:
    dropout_key, *keys = jax.random.split(key, len(fanout) + 1)
    hops = [seeds]
    for size, hop_key in zip(fanout, keys, strict=True):
        hops.append(jaxdirect.sample_neighbors(inputs.graph, hops[-1], size, hop_key).neighbors)
    # One gather for all hops: its order is chosen over all rows at once.
    rows = jaxdirect.gather(inputs.table, jnp.concatenate([hop.reshape(-1) for hop in hops]))
    parts = jnp.split(rows, [sum(h.size for h in hops[:i]) for i in range(1, len(hops))])
    features = [part.reshape(*hop.shape, -1) for part, hop in zip(parts, hops, strict=True)]
    rngs = nnx.Rngs(dropout=dropout_key) if train else None
    model = nnx.merge(definition, params)
    logits = model(features, [hop >= 0 for hop in hops[1:]], rngs)

    labels = jnp.where(seeds >= 0, inputs.labels[seeds], -1)
    known = labels >= 0  # the last batch is filled up with -1
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
    total = jnp.where(known, losses, 0).sum()
    metrics = StepMetrics(
        loss=total,
        correct=(logits.argmax(-1) == labels).sum(),
        rows=sum((hop >= 0).sum() for hop in hops),  # pyright: ignore[reportArgumentType]
    )
    return total / jnp.maximum(known.sum(), 1), metrics


@partial(jax.jit, static_argnames=("definition", "optimizer", "fanout"), donate_argnames="state")
def train_step(
    state: TrainState,
    inputs: Inputs,
    seeds: Int[Array, " batch"],
    key: Array,
    *,
    definition: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    fanout: tuple[int, ...],
) -> tuple[TrainState, StepMetrics]:
    """Samples, gathers, and updates the parameters once."""

    def loss(params: Any) -> tuple[Array, StepMetrics]:
        return _forward(definition, params, inputs, seeds, key, fanout, train=True)

    gradient, metrics = jax.grad(loss, has_aux=True)(state.params)
    updates, moments = optimizer.update(gradient, state.optimizer, state.params)
    return TrainState(optax.apply_updates(state.params, updates), moments), metrics


@partial(jax.jit, static_argnames=("definition", "fanout"))
def eval_step(
    params: Any,
    inputs: Inputs,
    seeds: Int[Array, " batch"],
    key: Array,
    *,
    definition: nnx.GraphDef,
    fanout: tuple[int, ...],
) -> StepMetrics:
    """The metrics of one batch, without dropout."""
    return _forward(definition, params, inputs, seeds, key, fanout, train=False)[1]
