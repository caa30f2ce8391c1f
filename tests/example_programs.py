"""The programs of docs/examples as modules, for their tests."""

import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType

import jax
import pytest

from tests.docrun import ROOT

EXAMPLES = ROOT / "docs" / "examples"


def load(name: str) -> ModuleType:
    """A program as a module."""
    for library in ("matplotlib", "optax", "sklearn", "tqdm"):
        pytest.importorskip(library, reason="the examples extra is not installed")
    if f"{name}_example" in sys.modules:
        return sys.modules[f"{name}_example"]
    spec = importlib.util.spec_from_file_location(f"{name}_example", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and string annotations look it up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def as_a_reader_has_it() -> Iterator[None]:
    """JAX without the strictness of the tests, which the program does not ask its readers for."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
