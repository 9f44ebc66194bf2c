"""Prints the root of the CUDA toolkit wheels (the folder of bin/nvcc), or nothing."""

from __future__ import annotations

import importlib.util
from pathlib import Path

spec = importlib.util.find_spec("nvidia")
folders = (spec and spec.submodule_search_locations) or []
compilers = sorted(path for folder in folders for path in Path(folder).glob("cu*/bin/nvcc"))
if compilers:
    print(compilers[-1].parent.parent)
