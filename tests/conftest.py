"""What every test runs under: strict JAX on the CPU, and patience for compiling."""

import gc
import tempfile
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

import hypothesis
import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float, TypeCheckError, install_import_hook

# Set here and not in the environment, so that a bare `pytest` has the same rules as `make test`.
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Where each operation stands in the source is worked out at every lowering, and no test looks at it.
jax.config.update("jax_traceback_in_locations_limit", 0)

# Many tests compile what another one has compiled: the same layer, the same loss. Everything counts as worth keeping.
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# The first call of an example compiles, the second does not: a deadline would call that flaky.
hypothesis.settings.register_profile("quick", deadline=None, print_blob=True, max_examples=25)
hypothesis.settings.register_profile("thorough", deadline=None, print_blob=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--runtime-types`: check every call inside the package against its annotations."""
    parser.addoption("--runtime-types", action="store_true", help="check annotations with beartype")


def pytest_configure(config: pytest.Config) -> None:
    """Instrument the package before anything imports it, and name what doctests use.

    Where the slow tests run, the others are thorough: properties are tried on more examples, and XLA optimizes what it
    compiles. Without that, compiling takes about a quarter less time.
    """
    is_quick = _is_quick(config)
    hypothesis.settings.load_profile("quick" if is_quick else "thorough")
    jax.config.update("jax_disable_most_optimizations", is_quick)
    compiled = tempfile.TemporaryDirectory(prefix="graphnode-tests-")
    config.add_cleanup(compiled.cleanup)
    jax.config.update("jax_compilation_cache_dir", compiled.name)
    if config.getoption("--runtime-types"):
        # It asks for `type X = ...`, which Python 3.11 has not, and warns of what it cannot check.
        config.addinivalue_line("filterwarnings", "ignore::beartype.roar.BeartypeWarning")
        # It looks at a random item of a container, also of those that strategies make.
        random = "ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning"
        config.addinivalue_line("filterwarnings", random)
        install_import_hook("graphnode", "beartype.beartype")
    # A plugin's fixtures hold everywhere, those of this file only below tests/.
    config.pluginmanager.register(DoctestNames())


def _is_quick(config: pytest.Config) -> bool:
    """Whether the slow tests are left out."""
    return str(config.getoption("markexpr")).strip() == "not slow"


# What single files of tests import, and what `make venv` installs for them. Without one of these all others run.
OPTIONAL = {
    "IPython",
    "cattrs",
    "cloudpickle",
    "equinox",
    "flax",
    "igraph",
    "joblib",
    "lsprotocol",
    "pygls",
    "traitlets",
}


class OptionalModule(pytest.Module):
    """A file of tests, skipped where something that is optional is not installed: also where a helper imports it.

    `pytest.importorskip` would have to stand before the other imports of every such file, and gives no types.
    """

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        try:
            return super().collect()
        except self.CollectError as error:
            missing = error.__cause__
            if isinstance(missing, ModuleNotFoundError) and str(missing.name).partition(".")[0] in OPTIONAL:
                pytest.skip(f"{missing.name} is not installed", allow_module_level=True)
            raise


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    """Collect every file of tests as one that may be skipped."""
    return OptionalModule.from_parent(parent, path=module_path)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--runtime-types`, leave out what the checks would disturb: they put frames of their own between ours."""
    if not config.getoption("--runtime-types"):
        return
    left_out = [item for item in items if item.get_closest_marker("no_runtime_types") is not None]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item.get_closest_marker("no_runtime_types") is None]


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """With `--runtime-types`, what is marked `wrong_types` must be stopped by the type checker."""
    is_checked = pyfuncitem.config.getoption("--runtime-types")
    if not is_checked or pyfuncitem.get_closest_marker("wrong_types") is None:
        return (yield)
    # Its error is a TypeError: a test that waits for one of graphnode's compares its text, which is cut in the middle.
    with pytest.raises((TypeCheckError, AssertionError), match=r"Type-check e"):
        yield
    return True


class DoctestNames:
    """What every doctest can use without an import."""

    @pytest.fixture(autouse=True, scope="module")
    @classmethod
    def small_heap(cls, request: pytest.FixtureRequest) -> Iterator[None]:
        """Keep the collector from going over what the tests of a module leave behind, above all in JAX's caches.

        With the objects of thousands of tests each collection takes seconds, and many tests collect. What the slow
        tests leave in the caches would take more than ten gigabytes in the end.
        """
        yield
        if not _is_quick(request.config):
            jax.clear_caches()
        gc.collect()
        gc.freeze()

    @pytest.fixture(autouse=True)
    @classmethod
    def own_folder(cls, request: pytest.FixtureRequest) -> None:
        """Run the doctests of what writes files in a folder of their own."""
        if isinstance(request.node, pytest.DoctestItem) and request.path.parent.name in ("checkpoint", "families"):
            request.getfixturevalue("monkeypatch").chdir(request.getfixturevalue("tmp_path"))

    @pytest.fixture(autouse=True, scope="session")
    @classmethod
    def doctest_names(cls, doctest_namespace: dict[str, object]) -> None:
        """The names that the documentation uses too."""
        import graphnode  # not above: --runtime-types comes first

        doctest_namespace.update(gn=graphnode, jax=jax, jnp=jnp, Array=Array, Float=Float)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Collect test files only.

    `--doctest-modules`, meant for the package, would import every file here, also the benchmarks
    and the files that must not type-check.
    """
    if collection_path.suffix == ".py" and not collection_path.name.startswith("test_"):
        return True
    return None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the documentation blocks that nobody ran, so that they stay few; and what tests have to say."""
    skipped = sorted(set(_properties(terminalreporter, "no-run")))
    if skipped:
        terminalreporter.section(f"{len(skipped)} documentation blocks marked no-run", sep="-")
        for block in skipped:
            terminalreporter.write_line(block)
    for note in sorted(_properties(terminalreporter, "note")):
        terminalreporter.write_line(note)


def _properties(terminalreporter: pytest.TerminalReporter, wanted: str) -> Iterator[str]:
    # Properties of the reports, because with xdist the test ran in another process.
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            yield from (str(value) for name, value in report.user_properties if name == wanted)
