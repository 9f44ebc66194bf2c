"""RGCN on WordNet in one file: batches of sampled, typed neighbourhoods, one compiled step for all.

Neighbours are sampled, features gathered from host memory and each hop planned inside the step.
Run it with `python examples/train_rgcn.py`; it needs `pip install 'jaxdirect[train]'`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxdirect
from jaxdirect.data import relational_wordnet
from jaxdirect.nn import RGCNConv
from jaxdirect.relational import block

BATCH, HIDDEN, FANOUT = 256, 64, (6, 4)
data = relational_wordnet(feature_dim=1024).with_inverses()
indptr, indices, etype = data.in_edges()
# All of it stays in host memory; on a GPU the kernels read it over the link.
host = (
    jaxdirect.unified(data.features),
    jaxdirect.CSRGraph(jaxdirect.unified(indptr), jaxdirect.unified(indices)),
    jaxdirect.unified(etype),
)
labels = jnp.asarray(data.labels)


class Network(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.project = nnx.Linear(data.features.shape[1], HIDDEN, rngs=rngs)
        convs = [RGCNConv(HIDDEN, HIDDEN, data.num_relations, rngs=rngs) for _ in FANOUT]
        self.convs = nnx.List(convs)
        self.head = nnx.Linear(HIDDEN, data.num_classes, rngs=rngs)

    def __call__(self, host, seeds, key):
        table, graph, etype = host
        hops, nodes = [], seeds
        for fanout, hop_key in zip(FANOUT, jax.random.split(key, len(FANOUT)), strict=True):
            drawn = jaxdirect.sample_neighbors(graph, nodes, fanout, hop_key)
            hops.append(block(drawn, etype, num_relations=data.num_relations))
            nodes = jnp.concatenate([nodes, drawn.neighbors.reshape(-1)])
        hidden = nnx.relu(self.project(jaxdirect.gather(table, nodes)))
        # From the outermost hop to the seeds: the rows of each hop's destinations come first.
        for hop, conv in zip(hops[::-1], self.convs, strict=True):
            hidden = hidden[: hop.num_dst] + nnx.relu(conv(hop, hidden))
        return self.head(hidden)


# Pass tables, graphs and plans as arguments: a jitted function must not close over them.
@nnx.jit
def step(model, optimizer, host, labels, seeds, key):
    def loss(model):
        logits = model(host, seeds, key)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels[seeds]).mean()

    value, gradient = nnx.value_and_grad(loss)(model)
    optimizer.update(model, gradient)
    return value


@nnx.jit
def count_right(model, host, labels, seeds, key):
    return (model(host, seeds, key).argmax(-1) == labels[seeds]).sum()


def batches(ids):
    return jnp.asarray(ids[: ids.size // BATCH * BATCH].reshape(-1, BATCH))


model = Network(nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.adamw(6e-3), wrt=nnx.Param)
key = jax.random.key(0)
losses = []
for number, seeds in enumerate(batches(np.random.default_rng(0).permutation(data.train))):
    losses.append(step(model, optimizer, host, labels, seeds, jax.random.fold_in(key, number)))
    if number % 100 == 99:
        print(f"step {number + 1}: loss {np.mean(losses[-100:]):.3f}")

test = batches(data.test)
right = sum(count_right(model, host, labels, seeds, key) for seeds in test)
print(f"test accuracy {int(right) / test.size:.3f}")
