"""Relational layers benchmark: RGCN, RGAT and HGT against their byte floors and real peers.

    python benchmarks/relational.py --output relational.json --budget 580
    python benchmarks/relational.py --resume relational.json --only '/bf16/|/d128/' --budget 580
    python benchmarks/relational.py --platform cpu --output relational_cpu.json

See benchmarks/README.md for the columns and the method.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from harness import command, watch
from relational_peers import options as relational


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the selected cases; returns 1 if one failed with an error."""
    parser = relational.parser(__doc__)
    add = parser.add_argument
    add("--rivals", choices=("auto", "all", "none"), default="auto", help="auto: all on a GPU")
    add("--pyg-python", default=sys.executable, metavar="FILE", help="a Python that has PyG")
    options = command.parse(parser, argv)
    relational.environment(options)
    return watch.run("relational_peers.benchmark", "Relational", options)


if __name__ == "__main__":
    sys.exit(main())
