"""Share States, or nodes, out to filters: the first that accepts one takes it.

In: filters, and what they choose from, with its paths. Out: the numbers of what each
filter takes. What no filter can have meant is refused: a path at which there is
nothing, a tag that is a path, two answers for one State.
"""

from collections.abc import Callable, Iterator, Sequence, Set
from typing import Any, Literal

from ._errors import FilterError, FilterTypeError, PathError, listed
from ._filters import (
    Combined,
    HasTag,
    Matcher,
    OfType,
    PathContains,
    Paths,
    Subject,
    Subjects,
)
from ._hints import did_you_mean
from ._paths import Path, as_key, is_path, key_str, parse_path, path_str
from ._patterns import Automaton, Pattern, is_glob, pattern_of
from ._redefinition import class_apart, is_older
from ._trie import Trie

# What is selected, as messages call it.
Kind = Literal["State", "node"]

# The numbers that each filter takes, and those that none does.
Groups = tuple[list[list[int]], list[int]]


def share_out(
    paths: Callable[[], Trie],
    items: Sequence[Subject],
    filters: Sequence[Matcher],
    kind: Kind,
) -> Groups:
    """The numbers of the leaves that each filter is the first to accept, and of those that none does.

    Args:
        paths: Gives the paths of the leaves, which are asked for where filters speak of
            paths: all patterns of them are matched in one pass.
        items: The leaves.
        filters: Tried in order.
        kind: What the leaves are.

    Raises:
        FilterError: There is nothing at a path, or a tag is a path; names the nearest.
    """
    subjects = _subjects_of(paths, items, filters)
    _check_meant(filters, paths, subjects, kind)
    groups: list[list[int]] = []
    rest: Set[int] = set(range(len(items)))
    for one in filters:
        taken = one.among(subjects, rest)
        groups.append(sorted(taken))
        rest = rest - taken
    return groups, sorted(rest)


def _subjects_of(
    paths: Callable[[], Trie], items: Sequence[Subject], filters: Sequence[Matcher]
) -> Subjects:
    patterns = frozenset[Pattern]().union(*[one.patterns for one in filters])
    if not patterns:
        return Subjects(items, {}, lambda pattern: frozenset())
    trie = paths()
    if all(one.is_fixed for one in filters):  # what is selected is kept itself
        return Subjects(items, trie.matching(patterns), trie.escaping)
    fitting = trie.remember(("matching", patterns), lambda: trie.matching(patterns))
    return Subjects(items, fitting, trie.escaping)


def unaccepted(
    subjects: Sequence[Subject], filters: tuple[Matcher, ...], root: str
) -> FilterError:
    """The error for subjects that no filter accepts."""
    names = ", ".join(f"{root}.{path_str(one.path)}" for one in subjects[:20])
    if len(subjects) > 20:
        names += f" and {len(subjects) - 20} more"
    accepted = tuple(_classes_in(filters))
    classes = ", ".join(
        dict.fromkeys(class_apart(one.cls, *accepted) for one in subjects)
    )
    shown = (
        f"({filters[0]!r},)"
        if len(filters) == 1
        else f"({', '.join(map(repr, filters))})"
    )
    message = (
        f"no filter of {shown} accepts {names} ({classes}); add one, or pass `...` last"
    )
    return FilterError(message, [one.path for one in subjects])


def _classes_in(filters: Sequence[Matcher]) -> Iterator[type]:
    """The classes that filters name, at any depth."""
    for one in filters:
        if isinstance(one, OfType):
            yield from one.classes
        elif isinstance(one, Combined):
            yield from _classes_in(one.parts)


def check_class_filters(filters: Sequence[Matcher], wrong: type, remedy: str) -> None:
    """Refuse classes that can match nothing, at any depth of the filters: an empty result would hide the mistake.

    Raises:
        FilterTypeError: A filter is a subclass of `wrong`.
    """
    for one in filters:
        if isinstance(one, OfType):
            for cls in one.classes:
                if issubclass(cls, wrong):
                    raise FilterTypeError(
                        f"not a filter here: {cls.__name__}; select {remedy}"
                    )
        if isinstance(one, Combined):
            check_class_filters(one.parts, wrong, remedy)


def _check_meant(
    filters: Sequence[Matcher],
    paths: Callable[[], Trie],
    subjects: Subjects,
    kind: Kind,
) -> None:
    """Refuse filters that cannot be meant as they are, at any depth: selecting nothing would hide the mistake.

    Raises:
        FilterError: There is nothing at or below a path; a tag that nothing has would
            be a path; or what there is is of another definition of a class. Names the
            nearest.
    """
    for one in filters:
        if isinstance(one, Combined):
            _check_meant(one.parts, paths, subjects, kind)
        elif isinstance(one, OfType):
            _check_definition(one, subjects, kind)
        elif isinstance(one, Paths) and not one.missing_ok:
            _check_patterns(one, paths, subjects, kind)
        elif isinstance(one, PathContains) and not one.missing_ok:
            _check_key(one, paths, subjects, kind)
        elif isinstance(one, HasTag):
            _check_tag(one.tag, paths, subjects, kind)


def _check_definition(one: OfType, subjects: Subjects, kind: Kind) -> None:
    """Refuse a class that was defined again, if what is not selected is of its other definition.

    Two classes that one function has made may both be meant, and are let through.
    """
    others = {
        base
        for item in subjects.items
        if not one.accepts(item)
        for base in item.cls.__mro__
    }
    for cls in one.classes:
        if "<locals>" in cls.__qualname__:
            continue
        for other in others:
            if is_older(cls, other) or is_older(other, cls):
                raise FilterError(
                    f"the filter {cls.__name__} is {class_apart(cls, other)}, and some {kind}s here are of "
                    f"{class_apart(other, cls)}: make the model anew, or select by the class that it was made of"
                )


def _check_patterns(
    one: Paths, paths: Callable[[], Trie], subjects: Subjects, kind: Kind
) -> None:
    missing = [
        text
        for text in one.texts
        if not subjects.fitting[pattern_of(text, below=one.below)]
    ]
    if not missing:
        return
    trie = paths()
    texts = trie.spellings(inner=one.below)
    named = ", ".join([_named(text, trie, texts) for text in missing])
    where = "at or below" if one.below else "at"
    with_missing_ok = f"gn.{one!r}"[:-1] + ", missing_ok=True)"
    raise FilterError(
        f"no {kind} is {where} {named}; if that may be, write {with_missing_ok}"
    )


def _check_key(
    one: PathContains, paths: Callable[[], Trie], subjects: Subjects, kind: Kind
) -> None:
    if any(subjects.fitting[pattern] for pattern in one.patterns):
        return
    trie = paths()
    keys = {*trie.keys[1:], *[key for _, key, _ in trie.references]}
    hint = did_you_mean(key_str(one.key), sorted(map(key_str, keys)))
    remedy = f"if that may be, write gn.PathContains({one.key!r}, missing_ok=True)"
    raise FilterError(
        f"no {kind} has {one.key!r} in its path{f' ({hint})' if hint else ''}; {remedy}"
    )


def _named(text: str, trie: Trie, texts: Sequence[str]) -> str:
    """A path at which there is nothing, with what may have been meant."""
    below = pattern_of(text, below=True)
    if trie.matching(frozenset([below]))[below]:
        return f"{text!r} (for what is below write gn.Under({text!r}))"
    if text in texts:
        return f"{text!r} (below it there is nothing but what is on the way there)"
    hint = did_you_mean(text, texts)
    return f"{text!r} ({hint})" if hint else repr(text)


def _check_tag(
    tag: str, paths: Callable[[], Trie], subjects: Subjects, kind: Kind
) -> None:
    if any(item.tag == tag for item in subjects.items):
        return
    try:
        path = parse_path(tag)
    except PathError:
        return
    if path and paths().entry(path) is not None:
        raise FilterError(
            f"no {kind} has the tag {tag!r}, which is the path of some: a text is a tag here; write gn.Under({tag!r})"
        )


def looked_up(kind: Kind, path: object) -> Path | None:
    """The path that a look-up is given, as keys or as a text; `None` for anything else, also for a glob.

    Raises:
        KeyError: The text does not parse: there is nothing at it.
    """
    if isinstance(path, tuple):
        return path
    if not isinstance(path, str) or is_glob(path):
        return None
    try:
        return parse_path(path)
    except PathError as error:
        raise KeyError(f"{path!r}: no {kind} there; {error}") from None


def other_meaning(trie: Trie, key: object) -> str | None:
    """What is wrong with a text that is a key, and the text of another path too; `None` if it means one thing."""
    if not isinstance(key, str) or not is_path(key):
        return None
    try:
        path = parse_path(key)
    except PathError:
        return None
    if path == (key,) or trie.entry(path) is None:
        return None
    return f"{key!r} is a key here, and the text of another path: write ({key!r},) or {path!r}"


def missing_path(kind: Kind, trie: Trie, path: object) -> str:
    """What a look-up says of a path at which there is nothing: the nearest one, or how to select what fits a glob."""
    if is_glob(path):
        return f"{path!r}: a look-up takes one path; select what fits with gn.PathIn({path!r})"
    text = path
    if isinstance(path, tuple):
        keys = [key for part in path if (key := as_key(part)) is not None]
        text = path_str(tuple(keys)) if len(keys) == len(path) else path
    hint = did_you_mean(text, trie.spellings()) if isinstance(text, str) else ""
    return (
        f"{text!r}: no {kind} there; {hint}" if hint else f"{text!r}: no {kind} there"
    )


# Any: of an axis, a partition spec, a label.
def check_answers(
    trie: Trie,
    items: Sequence[Subject],
    filters: Sequence[Matcher],
    answers: Sequence[Any],
    groups: Sequence[Sequence[int]],
) -> None:
    """Refuse two answers for one leaf, by filters of which each selects it by a path that the other does not select.

    Otherwise the first filter is the one that is meant: it is more special, or takes
    what later ones take too.

    Args:
        trie: The paths.
        items: The leaves.
        filters: Tried in order.
        answers: The answer of each filter.
        groups: What each filter takes.

    Raises:
        FilterError: Names both paths of all such leaves.
    """
    if not trie.references:
        return
    subjects = _subjects_of(lambda: trie, items, filters)
    faults: list[str] = []
    paths: list[Path] = []
    for first, numbers in enumerate(groups):
        for second in range(first + 1, len(filters)):
            if answers[first] == answers[second]:
                continue
            for at, one, other in _apart(
                trie, subjects, filters[first], filters[second], set(numbers)
            ):
                faults.append(
                    f"{path_str(one)} and {path_str(other)} are one {items[at].cls.__name__}, with {answers[first]!r} "
                    f"by {filters[first]!r} and {answers[second]!r} by {filters[second]!r}"
                )
                paths += [one, other]
    if faults:
        raise FilterError(f"two answers for one State: {listed(faults)}", paths)


def _apart(
    trie: Trie, subjects: Subjects, first: Matcher, second: Matcher, numbers: Set[int]
) -> Iterator[tuple[int, Path, Path]]:
    """The leaves that two filters select by different paths, with a path of each that the other does not select."""
    patterns = first.patterns | second.patterns
    both = second.among(subjects, numbers) if first.patterns and second.patterns else ()
    if not both:
        return
    witnesses = trie.witnesses(patterns)
    for at in sorted(both):
        exact = [pattern.path for pattern in patterns if pattern.path is not None]
        below = [
            trie.path_below(pattern.prefix, at)
            for pattern in patterns
            if pattern.prefix is not None
        ]
        paths = [*witnesses[at], *[path for path in exact if trie.index(path) == at]]
        paths += [path for path in below if path is not None]
        by_first = [path for path in paths if _selects_by(first, subjects, at, path)]
        by_second = [path for path in paths if _selects_by(second, subjects, at, path)]
        one = next((path for path in by_first if path not in by_second), None)
        other = next((path for path in by_second if path not in by_first), None)
        if one is not None and other is not None:
            yield at, one, other


def _selects_by(filter: Matcher, subjects: Subjects, at: int, path: Path) -> bool:
    """Whether a filter would select a leaf that had this path alone."""
    fitting = Automaton(filter.patterns).fitting(path)
    alone = Subjects(
        subjects.items,
        {
            pattern: {at} if pattern in fitting else frozenset()
            for pattern in filter.patterns
        },
        lambda pattern: frozenset(),
    )
    return at in filter.among(alone, {at})
