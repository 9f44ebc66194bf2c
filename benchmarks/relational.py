"""Relational layers benchmark: RGCN, RGAT and HGT against their byte floors and real peers.

    python benchmarks/relational.py --output relational.json --budget 580
    python benchmarks/relational.py --resume relational.json --only '/bf16/|/d128/' --budget 580
    python benchmarks/relational.py --platform cpu --output relational_cpu.json

See benchmarks/README.md for the columns and the method.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from harness import command, watch

# What the JAX rivals need to be at their best: scatters with the hardware's atomics (jaxlib 0.10.2
# to 0.11.0 would retry by compare-and-swap), and cuDNN's ragged products.
BEST_FLAGS = (
    "--xla_backend_extra_options=-nvptx-allow-ftz-atomics",
    "--xla_gpu_experimental_use_ragged_dot_fusion=true",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the selected cases; returns 1 if one failed with an error."""
    parser = command.parser(__doc__, "again", "rounds", "goals")
    add = parser.add_argument
    add("--graphs", metavar="NAMES", help="run on these graphs, e.g. tiny or aifb,wordnet")
    add("--rivals", choices=("auto", "all", "none"), default="auto", help="auto: all on a GPU")
    add("--flags", choices=("best", "plain"), default="best", help="XLA flags of the JAX rivals")
    add("--pyg-python", default=sys.executable, metavar="FILE", help="a Python that has PyG")
    options = command.parse(parser, argv)
    command.environment(options)
    if options.flags == "best" and options.platform != "cpu":
        os.environ["XLA_FLAGS"] = " ".join((os.environ.get("XLA_FLAGS", ""), *BEST_FLAGS)).strip()
    return watch.run("relational_peers.benchmark", "Relational", options)


if __name__ == "__main__":
    sys.exit(main())
