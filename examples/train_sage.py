"""GraphSAGE on WordNet in one file: a training loop of your own over jaxdirect's public functions.

Neighbours are sampled and features gathered from host memory inside the jitted step.
Run it with `python examples/train_sage.py`; it needs `pip install 'jaxdirect[train]'`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxdirect
from jaxdirect.data import wordnet
from jaxdirect.nn import SAGEConv

BATCH, HIDDEN, FANOUT = 256, 64, 6
data = wordnet(feature_dim=1024)
# Both stay in host memory; on a GPU the kernels read them over the link.
table = jaxdirect.unified(data.features)
graph = jaxdirect.CSRGraph(jaxdirect.unified(data.indptr), jaxdirect.unified(data.indices))
labels = jnp.asarray(data.labels)


class Network(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.project = nnx.Linear(data.features.shape[1], HIDDEN, rngs=rngs)
        self.conv = SAGEConv(HIDDEN, HIDDEN, rngs=rngs)
        self.head = nnx.Linear(HIDDEN, data.num_classes, rngs=rngs)

    def __call__(self, table, graph, seeds, key):
        hop = jaxdirect.sample_neighbors(graph, seeds, FANOUT, key)
        nodes, neighbors = (
            nnx.relu(self.project(jaxdirect.gather(table, ids))) for ids in (seeds, hop.neighbors)
        )
        return self.head(nnx.relu(self.conv(nodes, neighbors, hop.counts)))


# Pass the table and the graph as arguments: a jitted function must not close over them.
@nnx.jit
def step(model, optimizer, table, graph, labels, seeds, key):
    def loss(model):
        logits = model(table, graph, seeds, key)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels[seeds]).mean()

    value, gradient = nnx.value_and_grad(loss)(model)
    optimizer.update(model, gradient)
    return value


@nnx.jit
def count_right(model, table, graph, labels, seeds, key):
    return (model(table, graph, seeds, key).argmax(-1) == labels[seeds]).sum()


model = Network(nnx.Rngs(0))
optimizer = nnx.Optimizer(model, optax.adamw(1e-2), wrt=nnx.Param)
key = jax.random.key(0)
for epoch in range(2):
    order = np.random.default_rng(epoch).permutation(data.train)
    batches = order[: order.size // BATCH * BATCH].reshape(-1, BATCH)
    losses = []
    for seeds in batches:
        key, subkey = jax.random.split(key)
        losses.append(step(model, optimizer, table, graph, labels, jnp.asarray(seeds), subkey))
    print(f"epoch {epoch + 1}: loss {np.mean(losses):.3f}")

batches = data.test[: data.test.size // BATCH * BATCH].reshape(-1, BATCH)
right = sum(count_right(model, table, graph, labels, jnp.asarray(b), key) for b in batches)
print(f"test accuracy {int(right) / batches.size:.3f}")
