"""The readers of containers: files may come from anywhere, and run nothing."""

import pickle
import subprocess
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.published.containers import _Tensor, file_of, torch_pickle

MAGIC = 0x1950A86A20F9469CFC6C


class Command:
    """What would run a command, where pickle imports what it is asked for."""

    def __reduce__(self) -> Any:
        return subprocess.check_call, (["touch", "ran"],)


def write(path: Path, *pickles: Any, numbers: bytes = b"") -> None:
    """Pickles, one after the other, and what stands behind them."""
    path.write_bytes(b"".join([pickle.dumps(item, protocol=4) for item in pickles]) + numbers)


def test_a_pickle_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is no part of a state dict is not imported."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.pt", MAGIC, 1001, {}, OrderedDict(a=Command()))
    with pytest.raises(pickle.UnpicklingError) as caught:
        torch_pickle(tmp_path / "a.pt")
    assert str(caught.value) == "subprocess.check_call is not part of a state dict"
    assert not Path("ran").exists()


def test_a_tensor_stays_within_its_storage():
    """Offsets and strides of a file are not believed."""
    storage: Any = None
    numbers = np.arange(4, dtype=np.float32)
    np.testing.assert_array_equal(_Tensor(storage, 1, (3,), (1,)).array(numbers), [1, 2, 3])
    with pytest.raises((TypeError, ValueError)):
        _Tensor(storage, 1, (4,), (1,)).array(numbers)
    with pytest.raises((TypeError, ValueError)):
        _Tensor(storage, 0, (2,), (-1,)).array(numbers)


def test_a_package_that_is_missing_is_told():
    """With what brings it: a test of a published model fails then, and is not skipped."""
    with pytest.raises(FileNotFoundError) as caught:
        file_of("no_such_package", "weights.npz")
    assert str(caught.value) == "no_such_package is not installed; `make venv` does so, from requirements-published.txt"
