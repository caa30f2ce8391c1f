"""The changes between two layouts of arrays: a closed set of records, data and not code.

    Changes([
        Rename("blocks.*.mlp.**", "layers.*.ff.**"),
        Split("layers.*.qkv", ["layers.*.query", "layers.*.key", "layers.*.value"], axis=1),
    ])

What they do is in `_plan_changes`, for names, shapes and dtypes, and in `_expressions`,
for arrays. Here they are checked, printed, written as JSON, and turned around.
"""

import dataclasses
import json
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Final, overload

import numpy as np

from .._errors import CheckpointError, Fault, PathError
from .._hints import did_you_mean
from ._globs import Glob
from ._leaf import DTYPES


class Change:
    """One change: a record of texts and numbers. What there is: `Rename`, `Split`, `Join` and so on."""

    __slots__ = ()
    kind: ClassVar[str]

    def __post_init__(self) -> None:
        for field in _fields_of(self):
            value = getattr(self, field.name)
            object.__setattr__(self, field.name, _plain(value))
        try:
            faults = list(self._faults())
        except PathError as error:
            faults = [str(error)]
        if faults:
            raise CheckpointError(f"not a valid change, {self!r}", faults)

    def _faults(self) -> Iterator[str]:
        """What is wrong with it.

        Raises:
            PathError: One of its texts is neither a path nor a glob.
        """
        old = [Glob(text) for text in self.sources]
        new = [Glob(text) for text in self.targets]
        wanted = (max(old[0].stars - self._lost_stars, 0), old[0].runs)
        for glob in [*old[1:], *new]:
            expected = wanted if glob in new else (old[0].stars, old[0].runs)
            if (glob.stars, glob.runs) != expected:
                stars = " and ".join(
                    f"{count} {star}"
                    for count, star in zip(expected, ("*", "**"), strict=True)
                )
                yield f"{glob.text!r} should have {stars}, to correspond to {old[0].text!r}"
        if len(set(self.targets)) < len(self.targets):
            yield "two of its new paths are the same"

    # How many stars its new paths have fewer than the old ones.
    _lost_stars: ClassVar[int] = 0

    @property
    def sources(self) -> tuple[str, ...]:
        """The paths or globs of what it takes."""
        raise NotImplementedError

    @property
    def targets(self) -> tuple[str, ...]:
        """The paths or globs of what it gives, where that has other names; else nothing."""
        return ()

    def inverted(self) -> "Change | str":
        """The change that undoes it, or what it would take to have one."""
        raise NotImplementedError

    def __repr__(self) -> str:
        # As code: what has no default by position.
        parts: list[str] = []
        for field in _fields_of(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple):
                value = list(value)
            if field.default is dataclasses.MISSING:
                parts.append(repr(value))
            elif value != field.default:
                parts.append(f"{field.name}={value!r}")
        return f"{type(self).__name__}({', '.join(parts)})"


# Any: each class of changes is a dataclass, which their base is not.
def _fields_of(change: Any) -> "tuple[dataclasses.Field[Any], ...]":
    """The fields of a change."""
    return dataclasses.fields(change)


def _plain(value: Any) -> Any:
    """For `Change`: what a field holds, with tuples for sequences, Python's integers, and names of dtypes."""
    if isinstance(value, str) or value is None:
        return value
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value))
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return operator.index(value)
    # Any: NumPy says whether it is a dtype.
    dtype: Any = np.dtype
    try:
        return dtype(value).name
    except TypeError:
        return value


def _axis_faults(name: str, value: object) -> Iterator[str]:
    """Whether something is the number of an axis."""
    if type(value) is not int:
        yield f"{name} is a number; found {value!r}"


def _sizes_faults(name: str, value: object, least: int) -> Iterator[str]:
    """Whether something is a row of sizes, or `None`."""
    if value is None and name != "shape":
        return
    if not isinstance(value, tuple) or not all(
        type(size) is int and size >= least for size in value
    ):
        yield f"{name} is a list of sizes; found {value!r}"


def _dtype_faults(name: str, value: object) -> Iterator[str]:
    """Whether something is the name of a dtype."""
    if value not in DTYPES:
        hint = did_you_mean(value, DTYPES)
        yield f"{name}: {value!r} is not a valid dtype" + (f"; {hint}" if hint else "")


def _repeated_faults(sources: tuple[str, ...]) -> Iterator[str]:
    """Whether two of the old paths are one."""
    if len(set(sources)) < len(sources):
        yield "two of its old paths are the same"


def _texts(value: object) -> tuple[str, ...]:
    """Some paths or globs; a single text is one of them, and not its letters."""
    if isinstance(value, tuple) and value:
        return value
    raise PathError(f"expected a list of paths or globs; found {value!r}")


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Rename(Change):
    """Give States another path: another name, or another place.

    The stars of both paths correspond. `**` stands for a whole part of a model, so that
    `Rename("encoder.**", "enc.**")` moves it with its nodes and static values.

    Example:
        >>> gn.checkpoint.Rename("blocks.*.mlp.**", "layers.*.ff.**").inverted()
        Rename('layers.*.ff.**', 'blocks.*.mlp.**')
    """

    kind: ClassVar[str] = "rename"
    old: str
    new: str

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.old,)

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.new,)

    def inverted(self) -> "Rename":
        """The change that undoes it."""
        return Rename(self.new, self.old)


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Split(Change):
    """Cut an array into parts along an axis: equal ones, unless `sizes` has the size of each.

    Example:
        >>> gn.checkpoint.Split("qkv.weight", ["q.weight", "k.weight", "v.weight"]).inverted()
        Join(['q.weight', 'k.weight', 'v.weight'], 'qkv.weight')
    """

    kind: ClassVar[str] = "split"
    old: str
    new: Sequence[str]
    axis: int = 0
    sizes: Sequence[int] | None = None

    def _faults(self) -> Iterator[str]:
        yield from Change._faults(self)
        yield from _axis_faults("axis", self.axis)
        yield from _sizes_faults("sizes", self.sizes, 0)
        if isinstance(self.sizes, tuple) and len(self.sizes) != len(self.new):
            yield f"sizes has {len(self.sizes)} sizes for {len(self.new)} paths"

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.old,)

    @property
    def targets(self) -> tuple[str, ...]:
        return _texts(self.new)

    def inverted(self) -> "Join":
        """The change that undoes it."""
        return Join(self.new, self.old, self.axis, self.sizes)


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Join(Change):
    """Put arrays together along an axis that they have: of equal sizes, unless `sizes` has the size of each."""

    kind: ClassVar[str] = "join"
    old: Sequence[str]
    new: str
    axis: int = 0
    sizes: Sequence[int] | None = None

    def _faults(self) -> Iterator[str]:
        yield from Change._faults(self)
        yield from _axis_faults("axis", self.axis)
        yield from _sizes_faults("sizes", self.sizes, 0)
        if isinstance(self.sizes, tuple) and len(self.sizes) != len(self.old):
            yield f"sizes has {len(self.sizes)} sizes for {len(self.old)} paths"
        yield from _repeated_faults(self.sources)

    @property
    def sources(self) -> tuple[str, ...]:
        return _texts(self.old)

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.new,)

    def inverted(self) -> "Split":
        """The change that undoes it."""
        return Split(self.new, self.old, self.axis, self.sizes)


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Sum(Change):
    """Add arrays of one shape and dtype.

    Recurrent layers of PyTorch and Keras have two biases where those of `gn.nn` have
    one. What an optimizer remembers of several arrays does not add up to what it would
    remember of their sum: it is refused, and can be filled.

    Example:
        >>> gn.checkpoint.Sum(["lstm.bias_ih", "lstm.bias_hh"], "lstm.bias")
        Sum(['lstm.bias_ih', 'lstm.bias_hh'], 'lstm.bias')
    """

    kind: ClassVar[str] = "sum"
    old: Sequence[str]
    new: str

    def _faults(self) -> Iterator[str]:
        yield from Change._faults(self)
        yield from _repeated_faults(self.sources)

    @property
    def sources(self) -> tuple[str, ...]:
        return _texts(self.old)

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.new,)

    def inverted(self) -> str:
        """What it would take to undo it."""
        return "a sum does not say what was added"


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Transpose(Change):
    """Put the axes of arrays into another order, as `numpy.transpose` does: reversed, unless `axes` says which.

    An array with one axis, or none, is its own transpose.
    """

    kind: ClassVar[str] = "transpose"
    path: str
    axes: Sequence[int] | None = None

    def _faults(self) -> Iterator[str]:
        yield from Change._faults(self)
        if self.axes is not None and (
            not isinstance(self.axes, tuple)
            or sorted(self.axes) != list(range(len(self.axes)))
        ):
            yield f"axes names each axis once, from 0; found {self.axes!r}"

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.path,)

    def inverted(self) -> "Transpose":
        """The change that undoes it."""
        if self.axes is None:
            return self
        return Transpose(self.path, [int(at) for at in np.argsort(self.axes)])


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Reshape(Change):
    """Give arrays other axes for the same items, in the same order; -1 is the size that is left.

    Attributes:
        path: A path or glob.
        shape: The new shape.
        before: The shape before, which an inverse needs.
    """

    kind: ClassVar[str] = "reshape"
    path: str
    shape: Sequence[int]
    before: Sequence[int] | None = None

    def _faults(self) -> Iterator[str]:
        yield from Change._faults(self)
        yield from _sizes_faults("shape", self.shape, -1)
        yield from _sizes_faults("before", self.before, -1)
        for shape in (self.shape, self.before):
            if isinstance(shape, tuple) and shape.count(-1) > 1:
                yield f"only one size can be left open; found {list(shape)}"

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.path,)

    def inverted(self) -> "Reshape | str":
        """The change that undoes it, if it says what the shape was before."""
        if self.before is None:
            return "before= has to say what the shape was"
        return Reshape(self.path, self.before, self.shape)


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Stack(Change):
    """Put the arrays of layers, counted by a star, into one with a new axis.

    Attributes:
        old: A glob, such as `layers.*.**`.
        new: The same without the star that counts the layers: `layers.**`.
        axis: The new axis.
        star: Which `*` of `old` counts the layers, from 0.
    """

    kind: ClassVar[str] = "stack"
    old: str
    new: str
    axis: int = 0
    star: int = 0
    _lost_stars: ClassVar[int] = 1

    def _faults(self) -> Iterator[str]:
        yield from Change._faults(self)
        yield from _axis_faults("axis", self.axis)
        yield from _star_faults(self.old, self.star)

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.old,)

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.new,)

    def inverted(self) -> "Unstack":
        """The change that undoes it."""
        return Unstack(self.new, self.old, self.axis, self.star)


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Unstack(Change):
    """Take the arrays of layers out of one, along an axis, which goes.

    Attributes:
        old: A path or glob, such as `layers.**`.
        new: The same with a star that counts the layers: `layers.*.**`.
        axis: The axis of the layers.
        star: Which `*` of `new` counts the layers, from 0.
    """

    kind: ClassVar[str] = "unstack"
    old: str
    new: str
    axis: int = 0
    star: int = 0
    _lost_stars: ClassVar[int] = -1

    def _faults(self) -> Iterator[str]:
        yield from Change._faults(self)
        yield from _axis_faults("axis", self.axis)
        yield from _star_faults(self.new, self.star)

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.old,)

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.new,)

    def inverted(self) -> Stack:
        """The change that undoes it."""
        return Stack(self.new, self.old, self.axis, self.star)


def _star_faults(text: str, star: object) -> Iterator[str]:
    """Whether a number is that of a star in a glob."""
    count = Glob(text).stars
    if type(star) is not int or not 0 <= star < count:
        yield f"star is the number of a * in {text!r}, which has {count}; found {star!r}"


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Cast(Change):
    """Give arrays another dtype of the same kind: floats stay floats, and integers integers.

    Attributes:
        path: A path or glob. What it fits of another kind, such as the counts in a part
            of a model, stays as it is.
        dtype: The new dtype.
        before: The dtype before, which an inverse needs.
    """

    kind: ClassVar[str] = "cast"
    path: str
    # Any: whatever NumPy and JAX take for a dtype; it becomes its name.
    dtype: Any
    before: Any = None

    def _faults(self) -> Iterator[str]:
        yield from Change._faults(self)
        yield from _dtype_faults("dtype", self.dtype)
        if self.before is not None:
            yield from _dtype_faults("before", self.before)

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.path,)

    def inverted(self) -> "Cast | str":
        """The change that gives the dtype back, if it says what that was; what was rounded stays so."""
        if self.before is None:
            return "before= has to say what the dtype was"
        return Cast(self.path, self.before, self.dtype)


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Drop(Change):
    """Leave out what the model has no place for."""

    kind: ClassVar[str] = "drop"
    path: str

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.path,)

    def inverted(self) -> str:
        """What it would take to undo it."""
        return "what is dropped cannot be made again"


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class Fill(Change):
    """Leave States as the initialisers of the live model have made them.

    What a file has there is dropped.
    """

    kind: ClassVar[str] = "fill"
    path: str

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.path,)

    def inverted(self) -> Drop:
        """The change that leaves out what was filled."""
        return Drop(self.path)


_CLASSES: Final = {
    cls.kind: cls
    for cls in (
        *(Rename, Split, Join, Sum, Transpose, Reshape, Stack, Unstack),
        *(Cast, Drop, Fill),
    )
}


class Changes(Sequence[Change]):
    """Changes from one layout of States to another, made in order.

    They are data: they compare, print as code, are written as JSON, and are planned on
    names, shapes and dtypes before an array is read. A path is a path or glob: `*`
    stands for any characters within one key, `**` for any number of keys.

    Args:
        changes: The changes.

    Raises:
        CheckpointError: Something in the list is no change.

    Example:
        >>> from graphnode.checkpoint import Changes, Rename, Split, Transpose
        >>> changes = Changes([
        ...     Split("*.qkv.weight", ["*.query.weight", "*.key.weight", "*.value.weight"]),
        ...     Transpose("*.*.weight"),
        ... ])
        >>> changes.inverse()
        Changes([Transpose('*.*.weight'), Join(['*.query.weight', '*.key.weight', '*.value.weight'], '*.qkv.weight')])
        >>> Changes.from_json(changes.to_json()) == changes
        True

    See also: `restore`, `load`, `read` and `write`, which take them.
    """

    __slots__ = ("_changes",)

    def __init__(self, changes: "Iterable[Change]" = ()) -> None:
        items = tuple(changes)
        wrong = [item for item in items if not isinstance(item, Change)]
        if wrong:
            names = ", ".join(cls.__name__ for cls in _CLASSES.values())
            raise CheckpointError(
                "not valid changes",
                [f"{item!r} is not one of {names}" for item in wrong],
            )
        self._changes: tuple[Change, ...] = items

    @overload
    def __getitem__(self, at: int) -> Change: ...
    @overload
    def __getitem__(self, at: "slice[Any, Any, Any]") -> "Changes": ...
    def __getitem__(self, at: "int | slice[Any, Any, Any]") -> "Change | Changes":
        found = self._changes[at]
        return Changes(found) if isinstance(found, tuple) else found

    def __len__(self) -> int:
        return len(self._changes)

    def __iter__(self) -> "Iterator[Change]":
        return iter(self._changes)

    def __add__(self, others: "Iterable[Change]") -> "Changes":
        return Changes([*self, *others])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Changes) and self._changes == other._changes

    def __hash__(self) -> int:
        return hash(self._changes)

    def __repr__(self) -> str:
        return f"Changes([{', '.join(map(repr, self._changes))}])"

    def inverse(self) -> "Changes":
        """The changes that undo these, in the other order.

        Raises:
            CheckpointError: Some have no inverse; names all, with what it would take.
        """
        inverted: list[Change] = []
        faults: list[Fault] = []
        for change in reversed(self._changes):
            result = change.inverted()
            if isinstance(result, str):
                faults.insert(0, Fault(f"{change!r}: {result}"))
            else:
                inverted.append(result)
        if faults:
            raise CheckpointError("the changes have no inverse", faults)
        return Changes(inverted)

    def to_json(self) -> str:
        """The changes as JSON; `from_json` is the inverse."""
        return json.dumps([_to_json(change) for change in self._changes])

    @classmethod
    def from_json(cls, text: "str | bytes") -> "Changes":
        """The changes that JSON stands for.

        Raises:
            CheckpointError: It stands for none; names all that is wrong.
        """
        task = "cannot read changes"
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CheckpointError(task, [f"not JSON: {str(error)[:100]}"]) from None
        if not isinstance(data, list):
            raise CheckpointError(task, ["changes are a list"])
        changes: list[Change] = []
        faults: list[Fault] = []
        for at, item in enumerate(data):
            try:
                changes.append(_from_json(item))
            except CheckpointError as error:
                faults += [Fault(fault, path=str(at)) for fault in error.faults]
            except ValueError as error:
                faults.append(Fault(str(error), path=str(at)))
        if faults:
            raise CheckpointError(task, faults)
        return cls(changes)


def _to_json(change: Change) -> dict[str, Any]:
    """For `Changes.to_json`: one change, without what is as by default."""
    data: dict[str, Any] = {"change": change.kind}
    for field in _fields_of(change):
        value = getattr(change, field.name)
        if field.default is dataclasses.MISSING or value != field.default:
            data[field.name] = value
    return data


# Any: JSON.
def _from_json(data: Any) -> Change:
    """For `Changes.from_json`: one change.

    Raises:
        ValueError: It is none.
    """
    kind = data.get("change") if isinstance(data, dict) else None
    cls = _CLASSES.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise ValueError(
            f'expected an object with "change", one of {", ".join(_CLASSES)}'
        )
    fields = {field.name: field for field in dataclasses.fields(cls)}
    needed = {
        name for name, field in fields.items() if field.default is dataclasses.MISSING
    }
    given = set(data) - {"change"}
    if not needed <= given <= fields.keys():
        raise ValueError(
            f"{kind} has {', '.join(fields)}; found {', '.join(sorted(given))}"
        )
    change: Change = cls(**{name: data[name] for name in given})
    return change


def as_changes(changes: "Changes | Iterable[Change]") -> Changes:
    """The argument `changes` of the public functions."""
    return changes if isinstance(changes, Changes) else Changes(changes)
