"""Host-table benchmark: gather, sampling and training from host memory, against real peers.

    python benchmarks/hostmem.py --output hostmem.json --budget 540
    python benchmarks/hostmem.py --resume hostmem.json --only '^(sampler|epoch)/'
    python benchmarks/hostmem.py --platform cpu --output hostmem_cpu.json

See benchmarks/README.md for the columns and the method.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from harness import command, watch


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the selected cases; returns 1 if one failed with an error."""
    parser = command.parser(__doc__, "small")
    add = parser.add_argument
    add("--threads", type=int, help="threads of the CPU peers (default: all cores, at most 16)")
    options = command.parse(parser, argv)
    # PyTorch, CuPy and WholeGraph allocate on the same GPU.
    command.environment(options, memory="0.4", preallocate="true")
    return watch.run("hostmem_peers.benchmark", "Hostmem", options)


if __name__ == "__main__":
    sys.exit(main())
