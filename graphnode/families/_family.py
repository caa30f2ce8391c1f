"""`Family`, what is known of a family of published models."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..checkpoint import Changes
from ..nn import Module
from ._settings import Settings

M = TypeVar("M", bound=Module)


def _is_never_bare(_: Module) -> bool:
    """The default of `Family.is_bare`."""
    return False


@dataclass(frozen=True)
class Family(Generic[M]):
    """How the published models of a family become nodes: their settings, and the names of their weights.

    `register` makes `load` and `save` know it.

    Attributes:
        model_type: What its `config.json` has as `model_type`.
        cls: The class of its models. Its constructor takes `param_dtype`, beside what
            `from_config` gives.
        from_config: From the settings of a `config.json` to arguments of the class. It
            asks for each key that counts; keys that nobody has asked for are refused.
        to_config: From a model back to such settings; `model_type` and the dtype are
            added to them.
        table: The changes that lead from the names and layouts in the files of a model to
            its paths. They have an inverse.
        ignored: Keys that are read over, as what the model computes does not depend on
            them; beside those that are so in all families (`gn.families.IGNORED`).
        unused: Names or globs: what files may have beyond that, such as a second copy of
            what is tied.
        prefix: What stands before the names of the base model, beside which there are
            heads. The files of a base model alone have no such names, and are read too.
        is_bare: Whether a model is the base alone, and is written so.
        former: Names that early files have for some of today's: globs, each with its new
            one. They are read, and not written.

    Example:
        >>> bigrams = Family(
        ...     "bigrams",
        ...     gn.nn.Embedding,
        ...     from_config=lambda settings: {
        ...         "num_embeddings": settings.integer("vocab_size"), "width": settings.integer("hidden_size"),
        ...     },
        ...     to_config=lambda model: {"vocab_size": model.num_embeddings, "hidden_size": model.width},
        ...     table=lambda model: gn.checkpoint.Changes([gn.checkpoint.Rename("wte.weight", "weight")]),
        ... )
        >>> gn.families.register(bigrams)
        >>> gn.families.save(gn.nn.Embedding(5, 5), "models/bigrams")
        >>> gn.families.load("models/bigrams", gn.nn.Embedding).weight.value.shape
        (5, 5)
    """

    model_type: str
    cls: type[M]
    # Any: arguments of the class, which it checks.
    from_config: Callable[[Settings], dict[str, Any]]
    # Any: values of JSON.
    to_config: Callable[[M], dict[str, Any]]
    table: Callable[[M], Changes]
    ignored: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    prefix: str = ""
    is_bare: Callable[[M], bool] = _is_never_bare
    former: tuple[tuple[str, str], ...] = ()
