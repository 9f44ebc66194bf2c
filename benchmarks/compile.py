"""Compiled layers benchmark: against layers by hand, without the passes, and against plain JAX.

    python benchmarks/compile.py --output compile.json --budget 580
    python benchmarks/compile.py --resume compile.json --only '/h1$|/ablation$' --budget 580
    python benchmarks/compile.py --platform cpu --graphs tiny --rounds 2

See benchmarks/README.md for the columns and the method.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from harness import command, watch
from relational_peers import options as relational


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the selected cases; returns 1 if one failed with an error."""
    options = command.parse(relational.parser(__doc__), argv)
    relational.environment(options)
    return watch.run("compile_peers.benchmark", "Compile", options)


if __name__ == "__main__":
    sys.exit(main())
