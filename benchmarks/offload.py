"""Activation offload benchmark: a GPT's training step by where its named activations wait.

    python benchmarks/offload.py --output offload.json --budget 580
    python benchmarks/offload.py --resume offload.json --only '^wide.*policies' --budget 580
    python benchmarks/offload.py --resume offload.json --only '/budgets$' --budget 580
    python benchmarks/offload.py --resume offload.json --only '/batch$|^disk|^torch' --budget 580

See benchmarks/README.md for the columns and the method.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from harness import command, watch


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the selected cases; returns 1 if one failed with an error."""
    parser = command.parser(__doc__, "again", "rounds", "small", "goals")
    add = parser.add_argument
    add("--torch-python", default=sys.executable, metavar="FILE", help="a Python with PyTorch")
    add("--directory", type=Path, help="for the disk tier; default: that of the results")
    options = command.parse(parser, argv)
    # The cache's staging lies beside what JAX takes.
    command.environment(options, memory="0.85")
    return watch.run("offload_peers.benchmark", "Offload", options)


if __name__ == "__main__":
    sys.exit(main())
