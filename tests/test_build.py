"""What an installation holds, and what CMake says when it cannot build."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import jaxdirect

ROOT = Path(__file__).parents[1]
INSTALLED = Path(jaxdirect.include_dir()).parent


def configure(tmp_path, *options):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    cmake = shutil.which("cmake", path=path)
    if cmake is None:
        pytest.fail("this test needs cmake; pip install cmake")
    command = [cmake, "-S", ROOT / "ffi", "-B", tmp_path, f"-DPython_EXECUTABLE={sys.executable}"]
    return subprocess.run([*command, *options], capture_output=True, text=True, check=False)


def test_installation_holds_headers_data_and_licences():
    package = Path(jaxdirect.__file__).parent
    assert (INSTALLED / "include" / "jaxdirect" / "common" / "handler.h").is_file()
    assert (INSTALLED / "_build_info.py").is_file()
    assert (package / "py.typed").is_file()
    assert (package / "data" / "wordnet" / "wordnet.npz").is_file()
    files = [str(file) for file in importlib.metadata.files("jaxdirect") or []]
    assert sum("licenses/" in file for file in files) == 2, files


def test_no_build_tool_or_cache_is_shipped():
    files = [str(file) for file in importlib.metadata.files("jaxdirect") or []]
    outside = [file for file in files if file.endswith((".cmake", ".cc", ".cu"))]
    assert outside == []


def test_installed_headers_are_self_contained():
    for header in (INSTALLED / "include").rglob("*.h"):
        assert '#include "common/' not in header.read_text(), header
        assert "nanobind" not in header.read_text(), header


def test_every_installed_header_compiles_alone(tmp_path):
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.fail("this test needs a C++ compiler")
    folders = [f"-I{jaxdirect.include_dir()}", "-isystem", jax.ffi.include_dir()]
    for header in sorted((INSTALLED / "include").rglob("*.h")):
        if header.name == "cuda.h":  # needs the CUDA toolkit
            continue
        source = tmp_path / "alone.cc"
        source.write_text(f'#include "jaxdirect/common/{header.name}"\n')
        command = [compiler, "-std=c++20", "-fsyntax-only", *folders, source]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("-DJAXDIRECT_CUDA=maybe", 'JAXDIRECT_CUDA must be AUTO, ON or OFF, got "maybe"'),
        ("-DXLA_FFI_INCLUDE_DIR=/nowhere", "/nowhere holds no xla/ffi/api/ffi.h"),
    ],
)
def test_a_wrong_option_is_named(tmp_path, option, message):
    done = configure(tmp_path, option)
    assert done.returncode != 0
    assert message in " ".join(done.stderr.split())
