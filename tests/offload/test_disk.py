"""The disk tier: right values, or an error of that step that says what failed."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from offload_layers import (
    BATCH,
    DEPTH,
    WIDTH,
    assert_same_bits,
    gradients,
    layer,
    make,
)

from jaxdirect import _compat, _ffi, offload

ours = offload.checkpoint(layer, offload.Policy(disk=["up"], keep=["nested"]))
PAGE = 4096


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    offload.configure(directory=tmp_path)
    yield tmp_path
    offload.clear()
    offload.configure(directory=[])


def descriptors(folder: Path) -> list[int]:
    """Of the files in a folder that this process has open."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if path.startswith(str(folder)):
            found.append(int(name))
    return found


def want(params, x):
    save = jax.checkpoint_policies.save_only_these_names("up", "nested")
    return gradients(jax.checkpoint(layer, policy=save))(params, x)


def test_how_the_disk_is_written_is_told(folder):
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_DIRECT))
        direct = 1
    except OSError:
        direct = 0
    assert offload.stats()["disk_direct"] == direct
    offload.configure(directory=[])
    assert offload.stats()["disk_direct"] == 0


def test_values_come_back(folder):
    params, x = make()
    before = offload.stats()
    step = gradients(ours)
    for _ in range(20):
        got = step(params, x)
    assert_same_bits(got, want(params, x))
    found = offload.stats()
    assert found["disk_written_bytes"] == 20 * DEPTH * PAGE
    assert found["disk_file_bytes"] <= 2 * DEPTH * PAGE
    assert found["stored"] - before["stored"] == 20 * DEPTH


def test_several_folders_take_turns(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for one in folders:
        one.mkdir()
    offload.configure(directory=folders)
    params, x = make()
    assert_same_bits(gradients(ours)(params, x), want(params, x))
    sizes = [os.fstat(fd).st_size for one in folders for fd in descriptors(one)]
    assert len(sizes) == 2
    assert all(size >= 2 * PAGE for size in sizes)


def test_files_have_no_name_and_are_ours_alone(folder):
    gradients(ours)(*make())
    assert list(folder.iterdir()) == []
    (descriptor,) = descriptors(folder)
    assert os.fstat(descriptor).st_mode & 0o777 == 0o600


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises(RuntimeError, match=f"no file can be made in '{tmp_path}/nowhere'"):
        offload.configure(directory=tmp_path / "nowhere")


def test_no_folder_any_more(folder):
    offload.configure(directory=[])
    params, x = make()
    with pytest.raises(Exception, match="no directory is set"):
        gradients(ours)(params, x)
    offload.clear()


@pytest.mark.parametrize("slabs", [1, 2, 3])
def test_where_host_memory_is_full_values_go_on_to_disk(folder, slabs):
    params, x = make()
    block = offload.checkpoint(layer, offload.Policy(host=["up"], keep=["nested"]))
    before = offload.stats()
    offload.configure(host_limit_bytes=slabs * PAGE)
    try:
        step = gradients(block)
        for _ in range(10):
            got = step(params, x)
        found = offload.stats()
    finally:
        offload.configure(host_limit_bytes=1 << 62)
    assert_same_bits(got, want(params, x))
    assert found["host_bytes"] <= slabs * PAGE
    assert found["spilled"] - before["spilled"] >= 10 * (DEPTH - slabs - 1)


def test_no_folder_is_set():
    code = (
        "import jax, jax.numpy as jnp\n"
        "from jaxdirect import offload\n"
        "f = offload.checkpoint(lambda x: jnp.sin(offload.name(x * x, 'n')),"
        " offload.Policy(disk=['n']))\n"
        "jax.block_until_ready(jax.jit(jax.grad(lambda x: f(x).sum()))(jnp.ones(3)))\n"
    )
    command = [sys.executable, "-P", "-c", code]  # the package as installed, not as checked out
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert "no directory is set; call offload.configure(directory=...)" in run.stderr


@contextlib.contextmanager
def no_file_past_a_page() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (PAGE, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk(folder, tmp_path):
    params, x = make()
    step = gradients(ours)
    step(params, x)  # a compiler may write files too
    offload.configure(directory=tmp_path)  # a new one
    with (
        no_file_past_a_page(),
        pytest.raises(Exception, match=f"no {PAGE} bytes more in '{folder}'"),
    ):
        step(params, x)
    offload.clear()


def test_a_disk_that_does_not_write(folder):
    (descriptor,) = descriptors(folder)
    params, x = make()
    step = gradients(ours)
    step(params, x)  # the space is there
    full, keep = os.open("/dev/full", os.O_RDWR), os.dup(descriptor)
    os.dup2(full, descriptor)

    def run():
        for _ in range(20):  # what had not left the staging does not need the disk
            step(params, x)

    try:
        with pytest.raises(Exception, match=rf"writing {PAGE} bytes in '{folder}' failed"):
            run()
    finally:
        os.dup2(keep, descriptor)
        os.close(full)
        os.close(keep)
    offload.clear()


def test_a_file_that_is_shorter(folder):
    (descriptor,) = descriptors(folder)
    params, x = make()
    # A callback's own default device is a CPU.
    native = _ffi.require(_compat.default_platform(), "test")

    def truncate(x):
        while native.offload_stats()["disk_written_bytes"] < DEPTH * PAGE:
            time.sleep(0.01)
        os.ftruncate(descriptor, 0)
        return x

    @jax.custom_vjp
    def truncating(x):
        return x

    truncating.defvjp(lambda x: (jax.pure_callback(truncate, x, x), None), lambda _, bar: (bar,))

    def loss(params, x):
        x, _ = jax.lax.scan(lambda x, p: (ours(p, x), None), x, params)
        return (truncating(x) ** 2).sum()

    with pytest.raises(Exception, match=r"the file is shorter|reading"):
        jax.block_until_ready(jax.jit(jax.grad(loss))(params, x))
    offload.clear()


def test_a_killed_process_leaves_nothing(tmp_path):
    code = (
        "import os, signal, sys, jax, jax.numpy as jnp\n"
        "from jaxdirect import offload\n"
        "offload.configure(directory=sys.argv[1])\n"
        "f = offload.checkpoint(lambda x: jnp.sin(offload.name(x * x, 'n')),"
        " offload.Policy(disk=['n']))\n"
        "jax.block_until_ready(jax.jit(jax.grad(lambda x: f(x).sum()))(jnp.ones(3)))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = subprocess.run([sys.executable, "-P", "-c", code, str(tmp_path)], check=False)
    assert run.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_sizes(folder):
    assert BATCH * 2 * WIDTH * 4 <= PAGE, "the tests count on a value in a page"
