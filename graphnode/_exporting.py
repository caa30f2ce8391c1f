"""Let `jax.export` write the treedefs of our pytrees into files, and read them.

Static data of a treedef is written as text, by the functions that a class is registered
with. A reader gets what nobody has checked: it raises `ConfigError`, and nothing else.
"""

import contextlib
import json
from collections.abc import Callable
from typing import Any, TypeVar

import jax

from ._errors import ConfigError

A = TypeVar("A")


def register_export(
    cls: type, to_text: Callable[[A], str], from_text: Callable[[str], A]
) -> None:
    """Let `jax.export` write a registered pytree, under the name of its class.

    Args:
        cls: The class of the pytree.
        to_text: Gives the text of its static data.
        from_text: The inverse; raises `ConfigError` where the text is not one.
    """

    def read(data: bytes) -> A:
        """The static data in a file."""
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise ConfigError([f"the static data of {cls.__name__}: {error}"]) from None
        return from_text(text)

    # JAX keeps names for ever, and refuses one a second time: where graphnode is
    # imported again, the first import's classes go on having them.
    with contextlib.suppress(ValueError):
        jax.export.register_pytree_node_serialization(
            cls,
            serialized_name=f"graphnode.{cls.__name__}",
            serialize_auxdata=lambda data: to_text(data).encode(),
            deserialize_auxdata=read,
        )


def loads(text: str, cls: type) -> Any:
    """The JSON of the static data of a class.

    Raises:
        ConfigError: It is no JSON.
    """
    try:
        return json.loads(text)
    # `RecursionError` where it nests too deeply
    except (ValueError, RecursionError) as error:
        reason = f"the static data of {cls.__name__} is not JSON: {str(error)[:200]}"
        raise ConfigError([reason]) from None
