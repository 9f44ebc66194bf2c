"""What show_config, config and include_dir say."""

from __future__ import annotations

from pathlib import Path

import jax
import pytest

import jaxdirect
from jaxdirect import _ffi, _info


def test_config_names_versions_build_and_targets():
    data = _info.config(measure=False)
    assert data["versions"]["jax"] == jax.__version__
    assert data["versions"]["jaxdirect"][0].isdigit()
    assert data["build"]["type"] == "Release"
    assert "jaxdirect_hostmem_gather" in data["targets"]["cpu"]


def test_show_config_prints_every_section(capsys):
    jaxdirect.show_config(measure=False)
    out = capsys.readouterr().out
    for title in ("versions:", "build:", "cpu targets:", "cuda targets:", "GPUs:", "missing:"):
        assert title in out
    assert f"jax {jax.__version__}" in out


def test_missing_modules_come_with_the_command_that_gets_them(monkeypatch, capsys):
    monkeypatch.setattr(_ffi, "module", lambda platform: ModuleNotFoundError(platform))
    monkeypatch.setattr(_info, "_version", lambda package: None)
    jaxdirect.show_config(measure=False)
    out = capsys.readouterr().out
    assert "native CPU code\n    jaxdirect's native code is not built" in out
    assert "JAXDIRECT_CUDA=ON pip install" in out
    assert "flax" in out
    assert "pip install '.[train]'" in out


def test_nothing_missing_is_said():
    data = _info.config(measure=False)
    assert _info.report({**data, "missing": []}).endswith("missing:\n  nothing")


def test_a_gpu_line_has_its_link_and_rate():
    gpu = {"id": 0, "name": "H200", "memory_bytes": 141e9, "link": "PCIe 5 x16", "copy_gbps": 55.5}
    line = _info._gpu_line(gpu)
    assert line == ("0: H200, 141 GB for JAX, PCIe 5 x16, copies from pinned memory at 55.5 GB/s")


def test_no_driver_tool_means_no_link(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert _info._links() == []


def test_the_driver_s_answer_is_read(monkeypatch, tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '5, 16'\necho '4, 8'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert _info._links() == ["PCIe 5 x16", "PCIe 4 x8"]


def test_include_dir_holds_the_headers():
    folder = Path(jaxdirect.include_dir())
    assert folder.is_absolute()
    assert (folder / "jaxdirect" / "common" / "handler.h").is_file()


def test_include_dir_without_headers_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(jaxdirect, "__path__", [str(tmp_path)])
    with pytest.raises(RuntimeError, match=r"include_dir: the headers are not installed; .*pip"):
        jaxdirect.include_dir()


@pytest.mark.gpu
def test_the_gpu_s_copy_rate_is_measured():
    gpus = _info.config()["gpus"]
    assert len(gpus) == jax.local_device_count()
    assert all(1 < gpu["copy_gbps"] < 1000 for gpu in gpus)
