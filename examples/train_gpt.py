"""A byte-level GPT on real text, once for each place where its activations can wait.

Kept on the device, computed again, in host memory, on disk, and planned for a memory budget: the
same parameters and batches each time, so that the curves must agree. The text is the source of
Python's standard library, or `--text FILE`.

Run it with `pip install 'jaxdirect[train]'`, then `python examples/train_gpt.py --picture gpt.png`:
two minutes on two CPU cores. On a GPU add `--preset gpu`, which an H200 needs a few minutes for.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
import time
from pathlib import Path

import gpt_text
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from gpt_model import GPT, NAMES, loss_of
from gpt_report import Result, picture, table

from jaxdirect import offload

POLICIES = ["keep", "recompute", "host", "disk", "planned"]
PRESETS = {
    "cpu": {
        "layers": 8, "width": 96, "heads": 4, "length": 128, "batch": 8, "steps": 40,
        "dtype": "float32", "learning_rate": 3e-3,
        "host_names": ",".join(NAMES), "disk_names": ",".join(NAMES),
    },
    # 1.6G parameters. As wide as that, a layer takes longer than moving half of its activations,
    # 11 GB a step, to the host; a disk keeps up with the tenth.
    "gpu": {
        "layers": 8, "width": 4096, "heads": 32, "length": 2048, "batch": 8, "steps": 60,
        "dtype": "bfloat16", "learning_rate": 2e-4,
        "host_names": "proj,up", "disk_names": "input",
    },
}  # fmt: skip
# On a GPU a program repeats its bits only where it is told to, and what is computed again has those
# of the first time only where no step of it is left in float32.
REPEATABLE = {"xla_gpu_deterministic_ops": True, "xla_allow_excess_precision": False}


def build(options):
    rate = optax.warmup_cosine_decay_schedule(
        0, options.learning_rate, max(options.steps // 10, 1), max(options.steps, 2)
    )
    update = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate))
    model = GPT(options, nnx.Rngs(options.seed))
    return model, nnx.Optimizer(model, update, wrt=nnx.Param)


class Task:
    """What all policies share: the text, the batches, the start, and the step itself."""

    def __init__(self, options):
        learn, held_out = gpt_text.split(gpt_text.read(options.text), options.length)
        drawn = (options.steps, options.batch)
        self.batches = gpt_text.drawn(learn, options.length, drawn, options.seed)
        self.held_out = gpt_text.spread(held_out, options.length, (4, options.batch))
        self.options = options
        graph = nnx.graphdef(nnx.eval_shape(lambda: build(options)))
        self.start = jax.jit(lambda: nnx.state(build(options)))

        def step(policy, state, text):
            model, optimizer = nnx.merge(graph, state)
            value, gradient = nnx.value_and_grad(lambda model: loss_of(model, text, policy))(model)
            optimizer.update(model, gradient)
            return nnx.state((model, optimizer)), value

        self.step = step
        self.compiler_options = REPEATABLE if jax.default_backend() == "gpu" else None
        jitted = jax.jit(
            step,
            static_argnums=0,
            donate_argnums=1,
            compiler_options=self.compiler_options,
        )
        shapes = jax.eval_shape(self.start), self.batches[0]
        self.compile = functools.cache(lambda policy: jitted.lower(policy, *shapes).compile())
        self.evaluate = jax.jit(
            lambda state, text: loss_of(nnx.merge(graph, state)[0], text, offload.Policy())
        )

    def value_bytes(self, name) -> int:
        """Bytes of a named activation in one layer."""
        o = self.options
        return o.batch * o.length * NAMES[name] * o.width * jnp.dtype(o.dtype).itemsize

    @property
    def named_bytes(self) -> int:
        """Bytes of all named activations of a step."""
        return self.options.layers * sum(map(self.value_bytes, NAMES))

    @functools.cached_property
    def rest_bytes(self) -> int:
        """Device memory of a step whose named activations are kept, without these."""
        return peak_bytes(self.compile(offload.Policy(keep=NAMES))) - self.named_bytes

    def policy(self, name) -> offload.Policy:
        offload.configure(staging_bytes=0)  # as usual, whatever another policy's plan has set
        if name == "planned":
            budget = self.rest_bytes + int(self.options.budget * self.named_bytes)
            say = functools.partial(print, "planned:", flush=True)
            say(f"for a peak of {budget / 2**20:.1f} MiB")
            example = self.start(), self.batches[0]
            plan = offload.plan(
                self.step,
                *example,
                budget_bytes=budget,
                donate_argnums=(0,),
                compiler_options=self.compiler_options,
                progress=say,
            )
            print(plan)
            offload.configure(staging_bytes=plan.staging_bytes)
            return plan.policy
        return {
            "keep": offload.Policy(keep=NAMES),
            "recompute": offload.Policy(),
            "host": offload.Policy(
                host=self.options.host_names, keep=set(NAMES) - set(self.options.host_names)
            ),
            "disk": offload.Policy(disk=self.options.disk_names),
        }[name]


def peak_bytes(compiled) -> int:
    memory = compiled.memory_analysis()
    sizes = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return sizes + memory.temp_size_in_bytes - memory.alias_size_in_bytes


def train(name, task) -> Result:
    """Trains from the start with one policy."""
    policy = task.policy(name)
    start = time.perf_counter()
    compiled = task.compile(policy)
    print(f"{name}: compiled in {time.perf_counter() - start:.0f} s", flush=True)
    offload.clear()  # of the memory that others took
    state, losses, times = task.start(), [], []
    before, begin = offload.stats(), time.perf_counter()
    for number, text in enumerate(task.batches, 1):
        start = time.perf_counter()
        state, loss = compiled(state, text)
        losses.append(float(loss))  # which waits for it
        times.append(time.perf_counter() - start)
        if number % -(-len(task.batches) // 4) == 0:
            print(f"{name}: step {number}, loss {losses[-1]:.3f}", flush=True)
        if time.perf_counter() - begin > task.options.limit:
            print(f"{name}: {task.options.limit:g} s have passed, {number} steps were taken")
            break
    seconds, after = time.perf_counter() - begin, offload.stats()
    moved = sum(after[k] - before[k] for k in ("disk_written_bytes", "disk_read_bytes"))
    peak = peak_bytes(compiled) + after["staging_bytes"]
    return Result(
        losses=np.array(losses),
        held_out=float(np.mean([task.evaluate(state, text) for text in task.held_out])),
        seconds=float(np.median(times[3:] or times)),  # the first ones warm up
        tokens=task.options.batch * task.options.length,
        peak_bytes=peak,
        activations=(peak - task.rest_bytes) / task.named_bytes,
        host_bytes=after["host_bytes"],
        disk_rate=moved / seconds,
    )


def check(options) -> None:
    """Raises ValueError for options that do not go together."""
    for name in ("layers", "width", "heads", "length", "batch", "steps", "limit", "budget"):
        if getattr(options, name) <= 0:
            raise ValueError(f"--{name} must be positive, got {getattr(options, name)}")
    if options.width % options.heads:
        raise ValueError(f"--heads {options.heads} does not divide --width {options.width}")
    for listed, known in (
        (options.policies, POLICIES),
        (options.host_names, NAMES),
        (options.disk_names, NAMES),
    ):
        for name in listed:
            if name not in known:
                raise ValueError(f"{name!r} is none of {', '.join(known)}")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", choices=list(PRESETS), default="cpu", help="sets the sizes")
    parser.add_argument("--text", type=Path, help="a file to learn instead of Python's library")
    parser.add_argument("--policies", default=",".join(POLICIES), help="(default: %(default)s)")
    for size in ("layers", "width", "heads", "length", "batch", "steps"):
        parser.add_argument(f"--{size}", type=int)
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--seed", type=int, default=0)
    names = ",".join(NAMES)
    parser.add_argument("--host-names", help=f"what goes to the host of {names}; others are kept")
    parser.add_argument("--disk-names", help=f"what goes to disk of {names}; others are recomputed")
    parser.add_argument("--directory", type=Path, help="where (default: for temporary files)")
    parser.add_argument(
        "--budget", type=float, default=0.5, help="for planned: share of keep's activations"
    )
    parser.add_argument("--limit", type=float, default=120, help="most seconds for a policy")
    parser.add_argument("--picture", type=Path, help="where to draw curves, rates and memory")
    parser.set_defaults(**PRESETS[parser.parse_known_args(arguments)[0].preset])
    options = parser.parse_args(arguments)
    for listed in ("policies", "host_names", "disk_names"):
        names = dict.fromkeys(getattr(options, listed).split(","))  # each once
        setattr(options, listed, tuple(names))
    try:
        check(options)
        return options
    except ValueError as error:
        parser.error(str(error))


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    try:
        task = Task(options)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        if {"disk", "planned"} & set(options.policies):
            offload.configure(directory=options.directory or temporary)
        for name in options.policies:
            try:
                results[name] = train(name, task)
            except (ValueError, jax.errors.JaxRuntimeError) as error:
                if name != "planned" and "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                print(f"{name}: {error}")  # one that does not fit leaves the others their row
    offload.clear()
    if not results:
        sys.exit("no policy fits")
    print(table(results))
    if options.picture is not None:
        picture(results, options.picture)
        print(options.picture)


if __name__ == "__main__":
    main()
