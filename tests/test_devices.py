"""The machine's differences, and the torchvision whose native library does not load."""

import importlib.machinery
import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch

from seglib import devices


def test_the_device_asked_for_is_the_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for device in ("cpu", "cuda", "cuda:1"):
        assert devices.choose(device) == device


@pytest.mark.parametrize("device", ["gpu", "mps", "cuda", "cuda:7", ""])
def test_a_device_that_is_not_here_is_refused_with_those_that_are(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(devices.NoDevice, match=f"'{device}' is not here; expected cpu"):
        devices.choose(device)


@pytest.mark.parametrize(("there_is_one", "chosen"), [(True, "cuda"), (False, "cpu")])
def test_cuda_is_chosen_where_there_is_one(there_is_one, chosen, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there_is_one)
    assert devices.choose() == chosen


@pytest.mark.parametrize(
    ("device", "native", "dtype"),
    [
        ("cuda", True, torch.bfloat16),
        ("cuda:1", True, torch.bfloat16),
        ("cuda", False, torch.float32),  # Colab's T4
        ("cpu", True, torch.float32),
    ],
)
def test_half_precision_is_for_gpus_that_compute_in_it(device, native, dtype, monkeypatch):
    def supported(including_emulation=True):
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert devices.dtype(device) == dtype


def test_transformers_vision_classes_import_whatever_torchvision_this_is():
    code = (
        "from seglib import devices; devices.let_torchvision_import();"
        "import torchvision, transformers; print(transformers.DINOv3ViTModel.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "DINOv3ViTModel\n", done.stderr


def spec_in(folder):
    return importlib.machinery.ModuleSpec("torchvision", None, origin=str(folder / "__init__.py"))


def test_a_library_that_loads_is_left_alone(tmp_path, monkeypatch):
    loaded = []
    (tmp_path / "_C.so").touch()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec_in(tmp_path))
    monkeypatch.setattr(torch.ops, "load_library", loaded.append)
    assert devices.let_torchvision_import.__wrapped__() is None
    assert loaded == [tmp_path / "_C.so"]


def test_no_torchvision_is_no_trouble(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert devices.let_torchvision_import.__wrapped__() is None


def test_a_cpu_gets_a_small_batch_and_no_trial():
    assert devices.batch("cpu", pytest.fail) == devices.BATCH


@pytest.mark.parametrize(
    ("room", "a_crop", "expected"),
    [(100, 10, 8), (80, 10, 8), (79, 10, 4), (10, 10, 1), (9, 10, 1), (1e12, 10, 32), (5, 0, 4)],
)
def test_as_many_crops_as_fit_travel_together(room, a_crop, expected):
    assert devices.fitting(room, a_crop) == expected


def test_on_a_cpu_a_tensor_is_the_array_itself():
    array = np.zeros((2, 3), np.uint8)
    devices.sent(array, "cpu")[0, 0] = 7
    assert array[0, 0] == 7
