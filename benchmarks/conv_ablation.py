"""The paper's form of Im2win taken apart: what each feature is worth, and what is held in memory.

    python benchmarks/conv_ablation.py --output conv_ablation.json --budget 580
    python benchmarks/conv_ablation.py --platform cpu --output conv_ablation_cpu.json

See benchmarks/README.md for the columns and the method.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from harness import command, watch


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the selected cases; returns 1 if one failed with an error."""
    options = command.parse(command.parser(__doc__, "rounds", "small"), argv)
    command.environment(options)
    return watch.run("conv_peers.ablation", "Ablation", options)


if __name__ == "__main__":
    sys.exit(main())
