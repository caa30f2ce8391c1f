"""`gn.config.DEFAULT`: what stands in a config for a value that the class makes itself."""

from typing import TYPE_CHECKING, Final

_LEFT_OUT: Final = (
    "the config leaves this field to its class, which makes the value; assign one to the field first, for a node a "
    "config such as gn.config.config_of(cls)(...), or write gn.config.override(config, ['field.name=value'])"
)


# Not an enum, as other sentinels are: a member has attributes such as `name`, which
# somebody may look for in the node.
class _Default:
    """Stands for what the class itself gives a field, such as a node or a value that it computes. It has no attributes.

    One object stands in all places: what somebody wrote to it would be in every config,
    and in no model.
    """

    __slots__ = ()

    if not TYPE_CHECKING:

        def __getattr__(self, name):
            # copy, pickle and the printers of notebooks look for special names, and
            # show no message.
            if name.startswith("__"):
                raise AttributeError(f"{name!r}")
            raise AttributeError(f"there is no .{name} here: {_LEFT_OUT}")

        def __setattr__(self, name, value):
            raise AttributeError(f"there is no .{name} here: {_LEFT_OUT}")

        def __getitem__(self, key):
            raise TypeError(f"there is no [{key!r}] here: {_LEFT_OUT}")

        def __setitem__(self, key, value):
            raise TypeError(f"there is no [{key!r}] here: {_LEFT_OUT}")

    def __repr__(self) -> str:
        return "DEFAULT"

    def __copy__(self) -> "_Default":
        """Itself: whether a field is left out is asked by identity."""
        return self

    def __deepcopy__(self, memo: object) -> "_Default":
        """Itself: whether a field is left out is asked by identity."""
        return self

    def __reduce__(self) -> str:
        """By name, so that pickle gives the one object: whether a field is left out is asked by identity."""
        return "DEFAULT"


DEFAULT: Final = _Default()
