"""A GPT whose layer names its activations, and its training step. Layers are scanned."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

Block = Callable[[Any, jax.Array], jax.Array]
RATE = 1e-3


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of a model and of its batch.

    Args:
        layers, hidden, heads: of the model; a layer's inner width is four times `hidden`.
        steps: length of a sequence.
        batch: sequences.
        vocabulary: of the tokens.
    """

    layers: int
    hidden: int
    heads: int
    steps: int
    batch: int
    vocabulary: int = 256


MODELS = {
    # FACTS: JAX's own offload doubles its step.
    "gpt4096": Config(layers=12, hidden=4096, heads=32, steps=2048, batch=8),
    # Those of SSDTrain's evaluation (arXiv 2408.10013), heads of 128.
    "wide8192": Config(layers=4, hidden=8192, heads=64, steps=1024, batch=16),
    "wide12288": Config(layers=3, hidden=12288, heads=96, steps=1024, batch=16),
    "wide16384": Config(layers=2, hidden=16384, heads=128, steps=1024, batch=16),
}
SMALL = Config(layers=3, hidden=32, heads=2, steps=16, batch=2)

# Of a layer, in forward order, with their widths in multiples of `hidden`.
NAMES = {"input": 1, "qkv": 3, "attn": 1, "proj": 1, "up": 4}


def value_bytes(config: Config) -> dict[str, int]:
    """Bytes of one layer's value of each name."""
    return {n: 2 * wide * config.hidden * config.batch * config.steps for n, wide in NAMES.items()}


def init(config: Config, seed: int = 0) -> dict[str, jax.Array]:
    """Parameters: bfloat16, layers stacked."""
    d, n = config.hidden, config.layers
    shapes = {
        "qkv": (n, d, 3 * d),
        "proj": (n, d, d),
        "up": (n, d, 4 * d),
        "down": (n, 4 * d, d),
        "tokens": (config.vocabulary, d),
    }
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    return {
        name: jax.random.normal(key, shape, "bfloat16") * shape[-2] ** -0.5
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def tokens(config: Config, seed: int) -> jax.Array:
    """[batch, steps + 1]."""
    shape = (config.batch, config.steps + 1)
    return jax.random.randint(jax.random.key(seed), shape, 0, config.vocabulary)


def _norm(x: jax.Array) -> jax.Array:
    wide = x.astype("float32")
    return (wide * jax.lax.rsqrt((wide**2).mean(-1, keepdims=True) + 1e-6)).astype(x.dtype)


def layer(config: Config, params: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """A block of attention and a feed-forward network; x is [batch, steps, hidden]."""
    x = checkpoint_name(x, "input")
    qkv = checkpoint_name(_norm(x) @ params["qkv"], "qkv")
    heads = qkv.reshape(*x.shape[:2], 3, config.heads, config.hidden // config.heads)
    attend = "cudnn" if jax.default_backend() == "gpu" else "xla"
    mixed = jax.nn.dot_product_attention(
        heads[:, :, 0], heads[:, :, 1], heads[:, :, 2], is_causal=True, implementation=attend
    )
    mixed = checkpoint_name(mixed.reshape(x.shape), "attn")
    x = checkpoint_name(x + mixed @ params["proj"], "proj")
    up = checkpoint_name(_norm(x) @ params["up"], "up")
    return x + jax.nn.gelu(up) @ params["down"]


def step(config: Config, wrap: Callable[[Block], Block]) -> Callable[..., Any]:
    """(parameters, tokens) to (updated parameters, loss): forward, backward and SGD."""
    block = wrap(lambda params, x: layer(config, params, x))

    def loss(params: dict[str, jax.Array], given: jax.Array) -> jax.Array:
        stacked = {k: v for k, v in params.items() if k != "tokens"}
        x = params["tokens"][given[:, :-1]]
        x, _ = jax.lax.scan(lambda x, p: (block(p, x), None), x, stacked)
        logits = (_norm(x) @ params["tokens"].T).astype("float32")
        found = jax.nn.log_softmax(logits)
        return -jnp.take_along_axis(found, given[:, 1:, None], -1).mean()

    def run(params: dict[str, jax.Array], given: jax.Array) -> Any:
        value, bars = jax.value_and_grad(loss)(params, given)
        return jax.tree.map(lambda p, b: p - RATE * b.astype(p.dtype), params, bars), value

    return run
