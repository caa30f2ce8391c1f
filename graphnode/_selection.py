"""Divide States, or nodes, among filters: each goes to the first filter that accepts it.

Filters that nobody can have meant are refused: a path that leads nowhere, a tag that is
the text of a path, two answers for one State. And the texts for look-ups by path that
fail.
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
from ._hints import did_you_mean, with_hint
from ._paths import Path, as_key, is_path, key_str, parse_path, path_str
from ._patterns import Automaton, Pattern, is_glob, pattern_of
from ._redefinition import distinct_class_name, is_older
from ._trie import Trie

# What is selected, as messages call it.
Kind = Literal["State", "node"]

# The numbers that each filter selects, and those that none does.
Groups = tuple[list[list[int]], list[int]]


def group_by_filter(
    paths: Callable[[], Trie],
    items: Sequence[Subject],
    filters: Sequence[Matcher],
    kind: Kind,
) -> Groups:
    """The numbers of the leaves that each filter is the first to accept, and of those that none does.

    For `states`, `treefy_split`, `nodes` and all that takes filters; the leaves are
    States or nodes.

    Args:
        paths: Gives the paths of the leaves. Called only if filters select by path; all
            their patterns are matched in one pass.
        items: The leaves.
        filters: Tried in order.
        kind: What the leaves are.

    Raises:
        FilterError: There is nothing at a path, or a tag is a path; names the nearest.
    """
    subjects = _subjects_of(paths, items, filters)
    _check_plausible(filters, paths, subjects, kind)
    groups: list[list[int]] = []
    rest: Set[int] = set(range(len(items)))
    for matcher in filters:
        selected = matcher.among(subjects, rest)
        groups.append(sorted(selected))
        # A new set: `Everything` has returned `rest` itself.
        rest = rest - selected
    return groups, sorted(rest)


def selected_by(
    paths: Callable[[], Trie], items: Sequence[Subject], filter: Matcher
) -> Set[int]:
    """The numbers of the leaves that a filter selects, which may be none of them, whatever it names.

    For checkpoints, where a filter of the live States is asked about those of a file.
    """
    return filter.among(_subjects_of(paths, items, [filter]), set(range(len(items))))


def _subjects_of(
    paths: Callable[[], Trie], items: Sequence[Subject], filters: Sequence[Matcher]
) -> Subjects:
    """For filters: the leaves to choose from, and which of them each pattern of the filters matches.

    Args:
        paths: Gives the paths of the leaves; called only if a filter has patterns.
        items: The leaves.
        filters: The filters.
    """
    patterns = frozenset[Pattern]().union(*[matcher.patterns for matcher in filters])
    if not patterns:
        return Subjects(items, {}, lambda pattern: frozenset())
    trie = paths()
    # The caller caches what fixed filters select, so there is no second time.
    if all(matcher.is_fixed for matcher in filters):
        return Subjects(items, trie.matching(patterns), trie.escaping)
    fitting = trie.remember(("matching", patterns), lambda: trie.matching(patterns))
    return Subjects(items, fitting, trie.escaping)


def unaccepted(
    subjects: Sequence[Subject], filters: tuple[Matcher, ...], root: str
) -> FilterError:
    """The error for States that no filter accepts; names 20 of them, with their paths and classes.

    For splits, which must give each State to some filter.

    Args:
        subjects: The States.
        filters: The filters that were tried.
        root: What messages call the root, such as the name of its class.
    """
    names = ", ".join(f"{root}.{path_str(subject.path)}" for subject in subjects[:20])
    if len(subjects) > 20:
        names += f" and {len(subjects) - 20} more"
    accepted = tuple(_classes_in(filters))
    # Each class once, in order.
    class_names = dict.fromkeys(
        [distinct_class_name(subject.cls, *accepted) for subject in subjects]
    )
    message = f"no filter of {filters!r} accepts {names} ({', '.join(class_names)}); add one, or pass `...` last"
    return FilterError(message, [subject.path for subject in subjects])


def _classes_in(filters: Sequence[Matcher]) -> Iterator[type]:
    """The classes that filters name, at any depth.

    To refuse those that can match nothing, and to tell classes of one name apart in
    messages.
    """
    for matcher in filters:
        if isinstance(matcher, OfType):
            yield from matcher.classes
        elif isinstance(matcher, Combined):
            yield from _classes_in(matcher.parts)


def check_class_filters(filters: Sequence[Matcher], wrong: type, remedy: str) -> None:
    """Refuse classes that cannot match anything, at any depth of the filters: an empty result would hide the mistake.

    Raises:
        FilterTypeError: A filter is a subclass of `wrong`.
    """
    for cls in _classes_in(filters):
        if issubclass(cls, wrong):
            raise FilterTypeError(f"not a filter here: {cls.__name__}; select {remedy}")


def _check_plausible(
    filters: Sequence[Matcher],
    paths: Callable[[], Trie],
    subjects: Subjects,
    kind: Kind,
) -> None:
    """Refuse filters that nobody can mean as they are, at any depth: selecting nothing would hide the mistake.

    Raises:
        FilterError: There is nothing at or below a path; no State has a tag, which is
            the text of a path; or the model is of another definition of a class. Names
            the nearest.
    """
    for matcher in filters:
        if isinstance(matcher, Combined):
            _check_plausible(matcher.parts, paths, subjects, kind)
        elif isinstance(matcher, OfType):
            _check_definition(matcher, subjects, kind)
        elif isinstance(matcher, Paths) and not matcher.missing_ok:
            _check_patterns(matcher, paths, subjects, kind)
        elif isinstance(matcher, PathContains) and not matcher.missing_ok:
            _check_key(matcher, paths, subjects, kind)
        elif isinstance(matcher, HasTag):
            _check_tag(matcher.tag, paths, subjects, kind)


def _check_definition(matcher: OfType, subjects: Subjects, kind: Kind) -> None:
    """For `_check_plausible`: refuse a class that was defined again, if the model is of its other definition.

    Two classes that one function has made may both be meant, and are let through.
    """
    unselected = [item.cls for item in subjects.items if not matcher.accepts(item)]
    others = {base for cls in unselected for base in cls.__mro__}
    for cls in matcher.classes:
        if "<locals>" in cls.__qualname__:
            continue
        for other in others:
            if is_older(cls, other) or is_older(other, cls):
                name = distinct_class_name(cls, other)
                other_name = distinct_class_name(other, cls)
                raise FilterError(
                    f"the filter {cls.__name__} is {name}, and some {kind}s here are of {other_name}: make the model "
                    "anew, or select by the class that it was made of"
                )


def _check_patterns(
    matcher: Paths, paths: Callable[[], Trie], subjects: Subjects, kind: Kind
) -> None:
    """For `_check_plausible`: refuse a filter by whole paths if nothing is at one of them.

    Raises:
        FilterError: Names all such paths, and the nearest one to each.
    """
    missing = [
        text
        for text in matcher.texts
        if not subjects.fitting[pattern_of(text, below=matcher.below)]
    ]
    if not missing:
        return
    trie = paths()
    spellings = trie.spellings(inner=matcher.below)
    names = ", ".join([_describe_missing(text, trie, spellings) for text in missing])
    where = "at or below" if matcher.below else "at"
    with_missing_ok = f"gn.{matcher!r}"[:-1] + ", missing_ok=True)"
    raise FilterError(
        f"no {kind} is {where} {names}; if that may be, write {with_missing_ok}"
    )


def _check_key(
    matcher: PathContains, paths: Callable[[], Trie], subjects: Subjects, kind: Kind
) -> None:
    """For `_check_plausible`: refuse a filter by a key that no path has.

    Raises:
        FilterError: Names the nearest key.
    """
    if any(subjects.fitting[pattern] for pattern in matcher.patterns):
        return
    trie, key = paths(), matcher.key
    keys = {*trie.keys[1:], *[key for _, key, _ in trie.references]}
    hint = did_you_mean(key_str(key), sorted(map(key_str, keys)))
    meant = f" ({hint})" if hint else ""
    remedy = f"if that may be, write gn.PathContains({key!r}, missing_ok=True)"
    raise FilterError(f"no {kind} has {key!r} in its path{meant}; {remedy}")


def _describe_missing(text: str, trie: Trie, spellings: Sequence[str]) -> str:
    """For a message: the text of a path that leads nowhere, with what may have been meant.

    Args:
        text: The path.
        trie: The paths that there are.
        spellings: Their texts.
    """
    below = pattern_of(text, below=True)
    if trie.matching(frozenset([below]))[below]:
        return f"{text!r} (for what is below write gn.Under({text!r}))"
    # It exists: what lies below it is on the way there, which `Under` leaves out.
    if text in spellings:
        return f"{text!r} (below it there is nothing but what is on the way there)"
    hint = did_you_mean(text, spellings)
    return f"{text!r} ({hint})" if hint else repr(text)


def _check_tag(
    tag: str, paths: Callable[[], Trie], subjects: Subjects, kind: Kind
) -> None:
    """For `_check_plausible`: refuse a tag that no State has, and that is the text of a path.

    Raises:
        FilterError: Names the filter by path.
    """
    if any(item.tag == tag for item in subjects.items):
        return
    try:
        path = parse_path(tag)
    except PathError:
        return
    # The root has the empty path, and the empty text is no path that anybody writes.
    if path and paths().entry(path) is not None:
        raise FilterError(
            f"no {kind} has the tag {tag!r}, which is the path of some: a text is a tag here; write gn.Under({tag!r})"
        )


def lookup_path(kind: Kind, path: object) -> Path | None:
    """The argument of a look-up, keys or a text, as a path; `None` for anything else, including a glob.

    For the mappings that `states`, `treefy_states` and `nodes` return.

    Raises:
        KeyError: The text does not parse, so nothing can be there.
    """
    if isinstance(path, tuple):
        return path
    if not isinstance(path, str) or is_glob(path):
        return None
    try:
        return parse_path(path)
    except PathError as error:
        raise KeyError(f"{path!r}: no {kind} there; {error}") from None


def ambiguity_fault(trie: Trie, key: object) -> str | None:
    """What is wrong with a text that is a key and also the text of another path; `None` if it has one meaning.

    For look-ups and mappings by path: to take one of the two would be a guess.
    """
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
    """For a `KeyError`: what a look-up did not find, with the nearest path, or how to select by a glob."""
    if is_glob(path):
        return f"{path!r}: a look-up takes one path; select what fits with gn.PathIn({path!r})"
    text = path
    if isinstance(path, tuple):
        keys = [key for part in path if (key := as_key(part)) is not None]
        text = path_str(tuple(keys)) if len(keys) == len(path) else path
    hint = did_you_mean(text, trie.spellings()) if isinstance(text, str) else ""
    return with_hint(f"{text!r}: no {kind} there", hint)


# Any: of an axis, a partition spec, a label.
def check_answers(
    trie: Trie,
    items: Sequence[Subject],
    filters: Sequence[Matcher],
    answers: Sequence[Any],
    groups: Sequence[Sequence[int]],
) -> None:
    """For `gn.axes`: refuse two answers for one leaf, where each filter selects it by a path that the other does not.

        answers {gn.Under("enc"): 0, gn.Under("dec"): None}, and a layer shared by enc and dec

    Otherwise the first filter is meant: it is more specific, or selects what later ones
    select too.

    Args:
        trie: The paths.
        items: The leaves.
        filters: Tried in order.
        answers: The answer of each filter.
        groups: The numbers that each filter selects.

    Raises:
        FilterError: Names both paths of all such leaves.
    """
    # Without them each leaf has one path, and the first filter decides.
    if not trie.references:
        return
    subjects = _subjects_of(lambda: trie, items, filters)
    faults: list[str] = []
    paths: list[Path] = []
    for first, numbers in enumerate(groups):
        for second in range(first + 1, len(filters)):
            # Filters that agree need no decision between them.
            if answers[first] == answers[second]:
                continue
            for at, path, other_path in _conflicts(
                trie, subjects, filters[first], filters[second], set(numbers)
            ):
                faults.append(
                    f"{path_str(path)} and {path_str(other_path)} are one {items[at].cls.__name__}, with "
                    f"{answers[first]!r} by {filters[first]!r} and {answers[second]!r} by {filters[second]!r}"
                )
                paths += [path, other_path]
    if faults:
        raise FilterError(f"two answers for one State: {listed(faults)}", paths)


def _conflicts(
    trie: Trie, subjects: Subjects, first: Matcher, second: Matcher, numbers: Set[int]
) -> Iterator[tuple[int, Path, Path]]:
    """The leaves that two filters select by different paths.

    For `check_answers`: `gn.axes` has an answer for each filter, and a State that is
    shared has several paths, by which two filters may both claim it.

    Args:
        trie: The paths.
        subjects: The leaves.
        first: The filter that selects `numbers`.
        second: A later filter.
        numbers: The leaves to look at.

    Yields:
        The number of a leaf, a path by which `first` alone selects it, and one for `second`.
    """
    # A filter that looks at no path selects by any path alike.
    if not (first.patterns and second.patterns):
        return
    in_both = second.among(subjects, numbers)
    if not in_both:
        return
    patterns = first.patterns | second.patterns
    witnesses = trie.witnesses(patterns)
    for at in sorted(in_both):
        paths = [*witnesses[at], *_paths_of_patterns(trie, patterns, at)]
        by_first = [path for path in paths if _selects_by(first, subjects, at, path)]
        by_second = [path for path in paths if _selects_by(second, subjects, at, path)]
        only_first = next((path for path in by_first if path not in by_second), None)
        only_second = next((path for path in by_second if path not in by_first), None)
        if only_first is not None and only_second is not None:
            yield at, only_first, only_second


def _paths_of_patterns(trie: Trie, patterns: Set[Pattern], at: int) -> Iterator[Path]:
    """For `_conflicts`, beside the witnesses: the paths of a leaf that the user wrote out.

    The witnesses are one example path for each set of patterns that paths of the leaf
    match. They follow no reference that leads back, which closes a cycle; an exact path
    may, and so may the one that is given here for each prefix, as of `gn.Under`.
    """
    for pattern in patterns:
        if pattern.path is not None and trie.index(pattern.path) == at:
            yield pattern.path
    for pattern in patterns:
        if pattern.prefix is not None:
            path = trie.path_below(pattern.prefix, at)
            if path is not None:
                yield path


def _selects_by(filter: Matcher, subjects: Subjects, at: int, path: Path) -> bool:
    """For `_conflicts`: whether a filter would select a leaf if this were its only path."""
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
