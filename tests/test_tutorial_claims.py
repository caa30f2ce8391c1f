"""What the tutorial claims and its text blocks cannot state, checked in the namespace of the page itself.

The page trains a network, so it runs once here: one test holds all claims about its results.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import pytest

import graphnode as gn
from tests import docrun

PAGE = "docs/tutorial.md"
PATH = docrun.ROOT / PAGE


def blocks() -> list[docrun.Block]:
    """The blocks of the page that run."""
    return [block for block in docrun.parse_blocks(PATH.read_text(encoding="utf-8"), PAGE) if not block.skip]


@pytest.mark.slow
def test_results_of_the_page():
    """The counter, the losses, the parameter counts and the sharing are what the page says."""
    pytest.importorskip("matplotlib", reason="the examples extra is not installed")
    text = PATH.read_text(encoding="utf-8")
    with docrun._page_module(PATH, text, blocks()) as page, docrun._surroundings(blocks()):
        for block in blocks():
            docrun._run_block(block, page, PATH, PAGE)
        check_training(page)
        check_counting(page)
        check_structures(page)


def check_training(page: dict[str, Any]) -> None:
    # One call a step; `evaluate` and the merge inside of each trace count in copies of their own.
    assert page["total_steps"] == 10_000
    assert int(page["trained"].count.value) == 10_001  # and once for the prediction of the page
    assert int(page["counts"]["count"].value) == 10_000
    assert int(page["model"].count.value) == 10_000
    assert 0.0075 <= page["final_loss"] <= 0.0135

    # Recomputed from the raw parameters, without a node: the loss is that of the network described.
    x, y = page["X"], page["Y"]
    one, two = page["trained"].linear1, page["trained"].linear2
    hidden = jax.numpy.maximum(x @ one.w.value + one.b.value, 0)
    loss = float(((hidden @ two.w.value + two.b.value - y) ** 2).mean())
    assert loss == pytest.approx(page["final_loss"], rel=1e-5)
    assert page["train_step"]._cache_size() == 1  # 10,000 steps, compiled once
    assert page["evaluate"]._cache_size() == 1


def check_counting(page: dict[str, Any]) -> None:
    def affine(din: int, dout: int) -> int:
        return din * dout + dout

    found = {name: (one.nodes, one.depth, one.tensors, one.parameters) for name, one in page["statistics"].items()}
    assert found == {
        "MLP": (4, 1, 6, affine(2, 3) + affine(3, 4) + affine(4, 5)),
        "ResNet": (10, 2, 12, 3 * 2 * affine(10, 10)),
        "Inception": (7, 1, 12, 4 * affine(16, 8) + 2 * affine(8, 8)),
    }
    tied = page["analyse"](page["tied"])
    assert (tied.nodes, tied.depth, tied.tensors, tied.parameters) == (4, 2, 4, 2 * affine(10, 10))


def check_structures(page: dict[str, Any]) -> None:
    tied = page["tied"]
    assert gn.aliases(tied) == {("blocks", 0): (("blocks", 1), ("blocks", 2))}
    assert page["mlp2"].st is not page["mlp"].st

    # The page says that a shared block's gradient is the sum over its uses.
    graphdef, params = gn.treefy_split(tied)
    x = gn.random.randn(5, 10)
    untied = page["ResNet"](dim=10, n_blocks=3)
    shared = gn.treefy_states(tied.blocks[0])
    for block in untied.blocks:
        gn.update_states(block, shared)
    untied_graphdef, untied_params = gn.treefy_split(untied)

    together = jax.grad(lambda p: gn.treefy_merge(graphdef, p)(x).sum())(params).to_dict()
    apart = jax.grad(lambda p: gn.treefy_merge(untied_graphdef, p)(x).sum())(untied_params).to_dict()
    total = jax.tree.map(lambda *parts: sum(parts), *apart["blocks"].values())
    for a, b in zip(jax.tree.leaves(together["blocks"][0]), jax.tree.leaves(total), strict=True):
        assert jax.numpy.allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_page_type_checks(tmp_path: Path):
    """The code of the page passes mypy in strict mode, and mypy finds the two mistakes that the page says it finds."""
    pytest.importorskip("mypy", reason="needs mypy")
    right = "\n\n".join(block.code.text for block in blocks() if block.raises is None)
    wrong = "\n".join(block.code.text for block in blocks() if block.raises in {"UndeclaredFieldError", "FieldError"})
    file = tmp_path / "page.py"
    file.write_text(f"{right}\n\n{wrong}\n", encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary", str(file)],
        cwd=docrun.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line.partition(": error: ")[2] for line in run.stdout.splitlines() if ": error: " in line]
    assert errors == [
        '"MLP" has no attribute "l_1"; maybe "l1"?  [attr-defined]',
        'Incompatible types in assignment (expression has type "Array", variable has type '
        '"ShortTermState[Array]")  [assignment]',
    ], run.stdout + run.stderr
