"""The command line that benchmarks of relational layers share. Like `harness.command`, no JAX."""

from __future__ import annotations

import argparse
import os

from harness import command

# What the JAX rivals need to be at their best: scatters with the hardware's atomics (jaxlib 0.10.2
# to 0.11.0 would retry by compare-and-swap), and cuDNN's ragged products.
BEST_FLAGS = (
    "--xla_backend_extra_options=-nvptx-allow-ftz-atomics",
    "--xla_gpu_experimental_use_ragged_dot_fusion=true",
)


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The harness's options, `--graphs` and `--flags`; a script adds its own."""
    made = command.parser(doc, "again", "rounds", "goals")
    made.add_argument("--graphs", metavar="NAMES", help="on these graphs, e.g. tiny or aifb,mutag")
    flags = "XLA flags of the JAX rivals"
    made.add_argument("--flags", choices=("best", "plain"), default="best", help=flags)
    return made


def environment(options: argparse.Namespace) -> None:
    """Sets what JAX reads; before it is imported."""
    command.environment(options)
    if options.flags == "best" and options.platform != "cpu":
        os.environ["XLA_FLAGS"] = " ".join((os.environ.get("XLA_FLAGS", ""), *BEST_FLAGS)).strip()
