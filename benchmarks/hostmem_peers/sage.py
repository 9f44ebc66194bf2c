"""The network of the epoch comparison: two GraphSAGE layers (mean), plain SGD, plain JAX."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp

import jaxdirect

from . import ours


@dataclasses.dataclass(frozen=True)
class Model:
    """Sizes of the network and of its mini-batch.

    Args:
        batch: seeds per step.
        fanouts: neighbours drawn in hop 1 and hop 2.
        features: input width, float32.
        hidden: hidden width.
        classes: output width; a node's label is its id modulo this.
    """

    batch: int
    fanouts: tuple[int, int] = (10, 25)
    features: int = 128
    hidden: int = 256
    classes: int = 47

    @property
    def ids(self) -> int:
        """Nodes in a mini-batch, pads included."""
        first, second = self.fanouts
        return self.batch * (1 + first + first * second)


def init(model: Model, key: jax.Array) -> dict[str, jax.Array]:
    """Weights: self and neighbour matrices of both layers."""
    shapes = {
        "self1": (model.features, model.hidden),
        "neigh1": (model.features, model.hidden),
        "self2": (model.hidden, model.classes),
        "neigh2": (model.hidden, model.classes),
    }
    keys = jax.random.split(key, len(shapes))
    return {
        name: jax.random.normal(k, shape) / shape[0] ** 0.5
        for k, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def _mean(rows: jax.Array, valid: jax.Array) -> jax.Array:
    """Mean over axis -2 of the rows that are no pads."""
    count = jnp.maximum(valid.sum(-1, keepdims=True), 1)
    return jnp.where(valid[..., None], rows, 0).sum(-2) / count


def _loss(params, model: Model, rows: jax.Array, ids: jax.Array) -> jax.Array:
    batch, (f1, f2) = model.batch, model.fanouts
    split = (batch, batch * (1 + f1))
    x0, x1, x2 = jnp.split(rows, split)
    valid1 = ids[split[0] : split[1]].reshape(batch, f1) >= 0
    valid2 = ids[split[1] :].reshape(batch * f1, f2) >= 0

    def first(self_rows, neighbours):
        return jax.nn.relu(self_rows @ params["self1"] + neighbours @ params["neigh1"])

    hidden0 = first(x0, _mean(x1.reshape(batch, f1, -1), valid1))
    hidden1 = first(x1, _mean(x2.reshape(batch * f1, f2, -1), valid2))
    around = _mean(hidden1.reshape(batch, f1, -1), valid1)
    logits = hidden0 @ params["self2"] + around @ params["neigh2"]
    labels = ids[:batch] % model.classes
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1).mean()


def update(params, model: Model, rows: jax.Array, ids: jax.Array):
    """One SGD step on rows [ids, features]; returns (params, loss)."""
    loss, grads = jax.value_and_grad(_loss)(params, model, rows, ids)
    return jax.tree.map(lambda p, g: p - 0.01 * g, params, grads), loss


@functools.cache
def train_rows(model: Model):
    """jit: a step on features that are on the device, one row per id."""
    return jax.jit(lambda params, rows, ids: update(params, model, rows, ids), donate_argnums=0)


@functools.cache
def train_distinct(model: Model):
    """jit: a step on the distinct rows and each id's place among them."""

    def step(params, rows, ids, inverse):
        return update(params, model, rows[inverse], ids)

    return jax.jit(step, donate_argnums=0)


def sample_ids(model: Model, graph, seeds: jax.Array, key: jax.Array) -> jax.Array:
    """Ids of a mini-batch: seeds, hop 1, hop 2 (-1 pads)."""
    hop1, hop2, _ = ours.two_hops(graph, seeds, model.fanouts, key)
    return jnp.concatenate([seeds, hop1.reshape(-1), hop2.reshape(-1)]).astype(jnp.int32)


@functools.cache
def train_epoch(model: Model):
    """jit: a scan over seeds [steps, B] and keys; each step samples, gathers and updates."""

    def run(params, features, graph, seeds, keys):
        def step(params, seeds_and_key):
            ids = sample_ids(model, graph, *seeds_and_key)
            return update(params, model, jaxdirect.gather(features, ids), ids)

        return jax.lax.scan(step, params, (seeds, keys))[0]

    return jax.jit(run, donate_argnums=0)


@functools.cache
def sample_only(model: Model):
    """jit: the sampling part of a step."""
    return jax.jit(lambda graph, seeds, key: sample_ids(model, graph, seeds, key))
