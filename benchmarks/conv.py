"""Convolution benchmark: forward, dgrad and wgrad against their floors, cuDNN and PyTorch.

    python benchmarks/conv.py --output conv.json --budget 580
    python benchmarks/conv.py --resume conv.json --only '^(depthwise|causal|resnet)' --budget 580
    python benchmarks/conv.py --platform cpu --output conv_cpu.json

See benchmarks/README.md for the columns and the method.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from harness import command, watch


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the selected cases; returns 1 if one failed with an error."""
    parser = command.parser(__doc__, "again", "rounds", "small", "goals")
    add = parser.add_argument
    add("--torch-python", default=sys.executable, metavar="FILE", help="a Python with PyTorch")
    options = command.parse(parser, argv)
    command.environment(options)
    return watch.run("conv_peers.benchmark", "Conv", options)


if __name__ == "__main__":
    sys.exit(main())
