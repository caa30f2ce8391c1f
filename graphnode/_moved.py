"""Old names of modules, so that pickles of earlier versions still load: they name modules of functions and classes.

Importing a module by a name of version 0.1 gives the module of today. The old names go
in version 0.3.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Final

# fmt: off
_IN_FOLDERS: Final[Mapping[str, Sequence[str]]] = {
    "_declare": (
        "_annotations", "_body", "_copying", "_init_errors", "_makers", "_node", "_overrides", "_pickling", "_plan",
        "_replace", "_schema", "_stack_marks", "_twins", "_unpickling",
    ),
    "_graph": ("_binding", "_diff", "_graphdef", "_layout", "_table", "_template", "_tokens_json"),
}
# fmt: on
_RENAMED: Final[Mapping[str, str]] = {
    "_collector": "_gc",
    "_containers": "_nesting",
    "_convert": "_graph_to_tree",
    "_faults": "_class_faults",
    "_match": "_lookup",
    "_names": "_registered",
    "_optax_arguments": "optim._arguments",
    "_optax_calls": "optim._calls",
    "_optax_groups": "optim._groups",
    "_optax_labels": "optim._labels",
    "_optax_lookahead": "optim._lookahead",
    "_optax_parameters": "optim._parameters",
    "_optax_state": "optim._memory",
    "_state_axes": "_stack_axes",
    "_tracked": "_declare._containers",
    "_traverse": "_inspect",
    "config._live": "config._to_config",
    "config._models": "config._config",
    "transforms._chosen": "transforms._wrt",
    "transforms._directions": "transforms._vjp_jvp",
    "transforms._map": "transforms._vmap",
    "transforms._streams": "transforms._fork",
}
_HOMES: Final[Mapping[str, str]] = {
    **{
        name: f"{folder}.{name}"
        for folder, names in _IN_FOLDERS.items()
        for name in names
    },
    **_RENAMED,
}
MOVED: Final[Mapping[str, str]] = {
    f"{__package__}.{old}": f"{__package__}.{new}" for old, new in _HOMES.items()
}


class _Moved(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports a module by its old name: the same object as by the new one, not a copy."""

    def find_spec(
        self,
        name: str,
        # Of a namespace package it is no sequence.
        path: Iterable[str] | None = None,
        target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        """For the import system: how to load a module by its old name; `None` for other names."""
        return importlib.machinery.ModuleSpec(name, self) if name in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        """For the import system: put the module of today under the old name."""
        # The import system returns what is in `sys.modules` afterwards, and not the empty
        # module that it has made.
        sys.modules[module.__name__] = importlib.import_module(MOVED[module.__name__])


def find_moved() -> None:
    """So that pickles of earlier versions load: let old names of modules be found, after all other finders."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        # Last: a module that exists is never looked for here.
        sys.meta_path.append(_Moved())
