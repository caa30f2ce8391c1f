"""An object as treescope shows it, which opens and closes parts, and draws arrays."""

from typing import Any

from ._parts import Plain, class_of
from ._records import Pretty, Record, Text, is_pretty
from ._shown import Shown


# Any: a path and a renderer of treescope, and what its functions return.
def rendering(value: Pretty, path: str | None, subtree_renderer: Any) -> Any:
    """What treescope shows of an object that describes itself."""
    return _rendering(value.__pretty__(), type(value), path, subtree_renderer)


def _rendering(record: Record, cls: type, path: str | None, renderer: Any) -> Any:
    """What treescope shows of a record.

    Args:
        record: What there is to show.
        cls: The class whose name stands before it.
        path: How treescope calls the place.
        renderer: Shows the parts.
    """
    # It is installed where this is called, as only it does so.
    from treescope import repr_lib

    # Any: treescope takes mappings with keys of any class, and says so of strings alone.
    fields: Any = _fields(record)
    if record.name:
        return repr_lib.render_object_constructor(
            object_type=cls,
            attributes={str(name): part for name, part in fields.items()},
            path=path,
            subtree_renderer=renderer,
        )
    return repr_lib.render_dictionary_wrapper(
        object_type=cls, wrapped_dict=fields, path=path, subtree_renderer=renderer
    )


def _fields(record: Record) -> dict[object, object]:
    """The parts by name; of a State the value itself in place of dtype and shape."""
    fields = [(name, part) for name, part in record.fields if name is not None]
    unnamed = [part for name, part in record.fields if name is None]
    if record.content:
        *unnamed, _ = unnamed
        fields = [("value", record.content[0]), *fields]
    first = [("type", part) for part in unnamed]
    return {name: _shown(part) for name, part in [*first, *fields]}


def _shown(part: object) -> object:
    """A part for treescope: without classes of our own that stand for a list, a dict or a text."""
    if isinstance(part, Text):
        return _Text(part.text)
    # Such as a branch of a state tree.
    if is_pretty(part) and not isinstance(part, Shown):
        part = part.__pretty__()
    if isinstance(part, Record):
        return class_of(_Part, part.name)(part) if part.name else _fields(part)
    if isinstance(part, list):
        return list(map(_shown, part))
    if type(part) is tuple:
        return tuple(map(_shown, part))
    if isinstance(part, dict):
        return {key: _shown(item) for key, item in part.items()}
    return part


class _Text(Plain):
    """A text in what treescope shows."""

    __slots__ = ()

    def __treescope_repr__(self, path: str | None, subtree_renderer: Any) -> Any:
        from treescope import rendering_parts

        return rendering_parts.text(self.text)


class _Part:
    """A record that no object stands for. Its class has the name of the record."""

    __slots__ = ("record",)

    def __init__(self, record: Record) -> None:
        self.record = record

    def __treescope_repr__(self, path: str | None, subtree_renderer: Any) -> Any:
        return _rendering(self.record, type(self), path, subtree_renderer)
