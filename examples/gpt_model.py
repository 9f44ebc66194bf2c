"""The byte-level GPT of train_gpt.py, with names for the activations of its blocks."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxdirect import offload

# In forward order, with their widths in multiples of the model's.
NAMES = {"input": 1, "qkv": 3, "attn": 1, "proj": 1, "up": 4}


class Block(nnx.Module):
    def __init__(self, width, heads, dtype, rngs):
        self.heads, self.dtype = heads, dtype
        linear = functools.partial(nnx.Linear, use_bias=False, dtype=dtype, rngs=rngs)
        self.norms = nnx.List([nnx.LayerNorm(width, dtype=dtype, rngs=rngs) for _ in range(2)])
        self.qkv, self.proj = linear(width, 3 * width), linear(width, width)
        self.up, self.down = linear(width, 4 * width), linear(4 * width, width)

    def __call__(self, x):
        x = offload.name(x, "input")
        qkv = offload.name(self.qkv(self.norms[0](x)), "qkv")
        q, k, v = jnp.unstack(qkv.reshape(*x.shape[:2], 3, self.heads, -1), axis=2)
        flash = jax.default_backend() == "gpu" and self.dtype != jnp.float32
        attn = jax.nn.dot_product_attention(
            q, k, v, is_causal=True, implementation="cudnn" if flash else "xla"
        )
        attn = offload.name(attn.reshape(x.shape), "attn")
        x = offload.name(x + self.proj(attn), "proj")
        up = offload.name(self.up(self.norms[1](x)), "up")
        return x + self.down(nnx.gelu(up))


class GPT(nnx.Module):
    def __init__(self, options, rngs):
        width, self.dtype = options.width, jnp.dtype(options.dtype)
        linear = functools.partial(nnx.Linear, dtype=self.dtype, use_bias=False, rngs=rngs)
        self.bytes, self.head = linear(256, width), linear(width, 256)
        self.positions = nnx.Param(jax.random.normal(rngs.params(), (options.length, width)) / 16)

        @nnx.split_rngs(splits=options.layers)
        @nnx.vmap
        def stack(rngs):
            return Block(width, options.heads, self.dtype, rngs)

        self.blocks = stack(rngs)  # one block whose parameters have the layers as first axis
        self.norm = nnx.LayerNorm(width, dtype=self.dtype, rngs=rngs)

    def __call__(self, text, policy):
        # Products and sums, which unlike lookups add their gradients in one order on GPUs too.
        x = self.bytes(jax.nn.one_hot(text, 256, dtype=self.dtype))
        x += self.positions[: text.shape[1]].astype(self.dtype)[None]
        graph, layers = nnx.split(self.blocks)
        # In a loop nothing is merged with the forward pass: prevent_cse has nothing to prevent.
        block = offload.checkpoint(
            lambda layer, x: nnx.merge(graph, layer)(x), policy, prevent_cse=False
        )
        x, _ = jax.lax.scan(lambda x, layer: (block(layer, x), None), x, layers)
        return self.head(self.norm(x)).astype(jnp.float32)


def loss_of(model, text, policy):
    logits = model(text[:, :-1], policy)
    return optax.softmax_cross_entropy_with_integer_labels(logits, text[:, 1:]).mean()
