"""The documentation runs, and prints what it shows."""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import pytest
from jax.experimental import checkify as jax_checkify

import graphnode as gn
from graphnode._registered import VALUES
from tests.docrun import ROOT, PageError, check_page, left_out_blocks, missing_for_page, skipped_blocks

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("README.md", "docs/*.md", "docs/*/*.md")
    for path in ROOT.glob(pattern)
)


@pytest.fixture(autouse=True)
def names_of_pages() -> Iterator[None]:
    """Names that a page registers are gone after it: other tests list those that there are."""
    before = dict(VALUES)
    yield
    VALUES.clear()
    VALUES.update(before)


# These run the other libraries, too, whose first calls take long; or compile many layers and steps.
_SLOW_PAGES = (
    "docs/coming_from/",
    "docs/guides/display.md",
    "docs/guides/families.md",
    "docs/guides/generation.md",
    "docs/guides/layers.md",
    "docs/guides/optimizers.md",
    "docs/guides/metrics.md",
    "docs/guides/porting.md",
    "docs/guides/recipes.md",
    "docs/guides/save_and_load.md",
    "docs/guides/sharding.md",
    "docs/guides/state_and_modes.md",
    "docs/guides/surgery.md",
    "docs/transforms.md",
)


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow if page.startswith(_SLOW_PAGES) else ()) for page in PAGES],
)
def test_page_prints_what_it_shows(page: str, record_property: Callable[[str, object], None]):
    """Every block of a page runs, and every output that it shows is the real one."""
    path = Path(ROOT, page)
    try:
        if missing := missing_for_page(path, page):
            pytest.skip(f"the page needs {', '.join(missing)}, not installed")
        for block in skipped_blocks(path, page):
            record_property("no-run", block)
        if left_out := left_out_blocks(path, page):
            record_property("note", left_out)
        messages = check_page(path, page)
    except PageError as error:
        messages = [str(error)]
    if messages:
        update = f"To write the real output into the page: python -m tests.docrun --update {page}"
        pytest.fail("\n\n".join([*messages, update]), pytrace=False)


JAX_FUNCTIONS: dict[str, Callable[..., object]] = {
    "associative_scan": jax.lax.associative_scan,
    "checkify": jax_checkify.checkify,
    "cond": jax.lax.cond,
    "custom_jvp": jax.custom_jvp,
    "custom_vjp": jax.custom_vjp,
    "eval_shape": jax.eval_shape,
    "fori_loop": jax.lax.fori_loop,
    "grad": jax.grad,
    "hessian": jax.hessian,
    "jacfwd": jax.jacfwd,
    "jacrev": jax.jacrev,
    "jit": jax.jit,
    "jvp": jax.jvp,
    "linearize": jax.linearize,
    "make_jaxpr": jax.make_jaxpr,
    "remat": jax.checkpoint,
    "scan": jax.lax.scan,
    "shard_map": jax.shard_map,
    "switch": jax.lax.switch,
    "value_and_grad": jax.value_and_grad,
    "vjp": jax.vjp,
    "vmap": jax.vmap,
    "while_loop": jax.lax.while_loop,
}


@pytest.mark.parametrize("name", JAX_FUNCTIONS)
def test_the_page_on_transforms_names_each_argument_that_differs(name: str):
    """What a transform lacks of JAX's arguments, and what it has beside them, stands in the first lines."""
    of_jax = set(inspect.signature(JAX_FUNCTIONS[name]).parameters)
    of_jax.discard("abstracted_axes")  # which JAX had before 0.10
    own = set(inspect.signature(getattr(gn, name)).parameters)
    page = (ROOT / "docs/transforms.md").read_text(encoding="utf-8")
    first_lines = page.partition("Every block on this page")[0]
    differing = {argument for argument in of_jax ^ own if not argument.startswith("_")}
    assert {argument for argument in differing if f"`{argument}`" not in first_lines} == set()
