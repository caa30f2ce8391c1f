"""Plain data into configs: one mapping after the other, from a list of what is still to do, so that nothing recurses.

A mapping has the class of a node (`type:`) and its fields. The same object in two
places, or `ref:` to an `id:`, is the same config, cycles included. Every fault is found
in one pass, with the place it stands at.

    enc: {type: Linear, id: e, out_size: 3}
    dec: {ref: e}

An `_Item` is a value with the place that takes the result (`holder[key]`):

    todo        items ---------- _take ------+--> container   its items join todo
                  ^                          +--> node        an empty config is placed
                  |                          |                  its slots join todo
                  +--------------------------+                  its data joins filled
                                             +--> ref         joins refs
    refs        once todo is empty: `_link` places the config that has the id
    filled      at last: `_validate` gives each config its data, now complete

A config is placed while it is still empty, as a cycle may lead back to it. It is filled
last, as its data holds configs in place of mappings only then.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar, cast, get_origin

import pydantic

from .._arguments import wrong_argument
from .._declare._forms import Form, Leaf
from .._declare._node import Node
from .._errors import ConfigError, Fault, Place, by_place
from .._fields import Kind
from .._gc import gc_paused
from .._hints import did_you_mean, short, with_article
from .._nesting import Container, ContainerKind, children, is_container, items
from .._paths import Key, path_str
from .._paths import Path as Path_
from .._redefinition import distinct_class_name
from ._config import Config, config_of, empty_config, fill, mismatch
from ._constructor import RESERVED
from ._dialect import OURS, Dialect, Translation
from ._graph import Link, keys_of
from ._limits import MAX_DIGITS, MAX_FAULTS
from ._read import Document, Files, check_no_faults
from ._registry import Tags, UnknownNameError, format_names, meaning, near_hint
from ._slots import key_fault, slot_kind
from ._streams import STREAMS, admits_streams, as_mapping, is_streams
from ._value_errors import ValueFault, value_faults, value_text

M = TypeVar("M", bound=Node)

MAX_NODES: Final = 1_000_000
"""Configs of one configuration."""
MAX_REPEATED: Final = 100_000
"""Items of lists and mappings that aliases repeat, each time: nothing else is more than the file has letters."""
MAX_NESTED: Final = 32
"""Levels of a static value."""

_NONE_ABSENT: Final[Mapping[int, list[str]]] = {}
_CLOSE: Final = 0.8
"""How alike a key that is left out and a name must be for the key to be taken for a misspelled one."""


class _EnoughError(Exception):
    """A limit is reached, and the rest is not looked at; raised all over the pass, caught where it starts."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault


class _Item(NamedTuple):
    """A value that is still to be turned into configs.

    Attributes:
        raw: The value.
        form: What its place admits.
        holder: The dict or list that takes the result.
        key: The key there.
        document: The document it comes from.
        container: The container it stands in there.
        at: Its key there.
        path: Its keys from the root, as a linked list: the paths of a long chain would
            cost its square.
    """

    raw: Any
    form: Form
    holder: Any
    key: Key
    document: Document
    container: Any
    at: Key
    path: Link


class _Ref(NamedTuple):
    """A mapping that names a node elsewhere by its `id`."""

    item: _Item
    name: str


class Walk:
    """One pass over the data of a configuration.

    Attributes:
        faults: What is wrong, in the order in which it was noted.
        origins: Where each config was read, by its id.

    Args:
        files: Where they were read.
        dialect: How they are written.
        absent: The keys of renames that mappings lack (`Translation.absent`).
    """

    def __init__(
        self,
        files: Files,
        dialect: Dialect = OURS,
        absent: Mapping[int, list[str]] = _NONE_ABSENT,
    ) -> None:
        self.files = files
        self._dialect, self._absent = dialect, absent
        self.faults: list[Fault] = []
        self.origins: dict[int, _Item] = {}
        # The configs by the ids of their mappings, which are kept alive for that.
        self._configs: dict[int, Config[Any]] = {}
        self._mappings: list[Any] = []
        self._ids: dict[tuple[int, str], tuple[Config[Any], _Item]] = {}
        self._refs: list[_Ref] = []
        self._filled: list[tuple[Config[Any], dict[str, Any], _Item]] = []
        # Each table goes through all classes that are known.
        self._tags = functools.cache(functools.partial(Tags, names=dialect.names))
        self._walked: set[int] = set()
        self._repeated = 0
        self._sizes: dict[int, tuple[int, int]] = {}

    @gc_paused
    def run(self, raw: Any, form: Form, document: Document, path: Path_ = ()) -> Any:
        """The config (or container of configs) of a value, which stands at a path: by default the root.

        Raises:
            ConfigError: All faults, in the order of their places.
        """
        # Every item has a holder: the root's is a list of one.
        result: list[Any] = [None]
        limits: list[Fault] = []
        try:
            self._run(_Item(raw, form, result, 0, document, None, 0, _linked(path)))
        except _EnoughError as error:
            # Last in the report, wherever it stands: what comes before is not all.
            limits.append(error.fault)
        faults = sorted(dict.fromkeys(self.faults), key=by_place)
        check_no_faults([*faults, *limits])
        return result[0]

    def check_size(self, value: Any, path: Path_) -> None:
        """Raise if a static value is too large or too deep.

        For `override`, whose static values are not walked.

        Raises:
            ConfigError: It is.
        """
        # Only the path of the item matters: on a command line, nothing has a place.
        *above, last = path
        item = _Item(
            None, _form_of(Node), None, 0, Document("", None), None, 0, _linked(above)
        )
        try:
            self._measure(item, str(last), value)
        except _EnoughError as error:
            raise ConfigError([error.fault]) from None

    def fault_of(self, config: Config[Any], what: str) -> Fault:
        """What is wrong with a config that this pass has made, with its place.

        For `graphnode config check`, which finds more when it makes the nodes.
        """
        return self._fault_at(self.origins[id(config)], what)

    def _run(self, root: _Item) -> None:
        """Turn the item of the root into configs: all items, then the refs, then the data of each config."""
        todo = [root]
        while todo:
            self._take(todo.pop(), todo)
            if len(self._filled) > MAX_NODES:
                raise _EnoughError(Fault(f"more than {MAX_NODES:,} nodes"))
        self._link()
        for config, data, item in self._filled:
            self._validate(config, data, item)

    def _take(self, item: _Item, todo: list[_Item]) -> None:
        """Take one item by the form of its place: a null, config, node or container, or else a fault."""
        # A seed alone, before it is looked at: `rngs: 0` is a mapping of one stream.
        if admits_streams(item.form):
            item = item._replace(raw=as_mapping(item.raw))
        raw, form = item.raw, item.form
        if raw is None and form.optional:
            item.holder[item.key] = None
        elif isinstance(raw, Config):
            self._take_config(item, raw)
        elif self._is_node(raw, form):
            self._take_node(item, todo)
        elif is_container(raw) and (kind := slot_kind(form, raw)) is not None:
            self._take_container(item, raw, kind, todo)
        else:
            self._fault(item, f"expected {_admitted(form)}, found {value_text(raw)}")

    def _take_config(self, item: _Item, config: Config[Any]) -> None:
        """Take a config that a program put into the data for `validate`: it is there already, and only placed."""
        fault = mismatch(item.form, config)
        if fault is None:
            item.holder[item.key] = config
        else:
            self._fault(item, fault)

    def _is_node(self, raw: object, form: Form) -> bool:
        """Whether a value is the mapping of a node, and not a dict of nodes; a place may admit both."""
        if not isinstance(raw, dict) or not form.classes:
            return False
        # An alias of a node is one, whatever else its place admits.
        if form.dict_of is None or id(raw) in self._configs:
            return True
        return "type" in raw or "ref" in raw

    def _take_container(
        self, item: _Item, raw: Container, kind: ContainerKind, todo: list[_Item]
    ) -> None:
        """Place a new list or dict for the configs of one in the data; its items join `todo`."""
        fault = key_fault(raw)
        if fault is not None:
            self._fault(item, fault)
            return
        placed = item.form.items(kind, items(raw, as_written=True))
        if placed is None:
            self._fault(
                item, f"expected {item.form.tuple_length} items, found {len(raw)}"
            )
            return
        self._count_again(item, raw)
        # Filled item by item, so a list also where the form has a tuple.
        holder: Any = dict.fromkeys(raw) if isinstance(raw, dict) else [None] * len(raw)
        item.holder[item.key] = holder
        # Reversed, as the last one is taken first.
        for key, _, form in reversed(placed):
            todo.append(self._below(item, raw, key, form, holder))

    def _count_again(self, item: _Item, raw: Any) -> None:
        """Count the items of a container that an alias repeats: each time there are configs for all of them.

        Without a limit, a short file could ask for more of them than fit in memory.
        """
        if id(raw) in self._walked:
            self._repeat(item, len(raw))
        self._walked.add(id(raw))

    def _repeat(self, item: _Item, count: int, key: str | None = None) -> None:
        """Count items that an alias repeats; ends the pass above `MAX_REPEATED`."""
        self._repeated += count
        if self._repeated > MAX_REPEATED:
            what = f"aliases repeat more than {MAX_REPEATED:,} items"
            raise _EnoughError(self._fault_at(item, what, key))

    def _measure(
        self, item: _Item, key: str, value: Any, level: int = 0
    ) -> tuple[int, int]:
        """The items in a static value, and its levels.

        For `MAX_NESTED` and `MAX_REPEATED`: what reads static values recurses, and a
        short file may have very large ones.

        Raises:
            _EnoughError: It is too large or too deep to be looked at, or holds itself.
        """
        # Four bits hold a digit. Counting digits takes the square of their number.
        if isinstance(value, int) and value.bit_length() > MAX_DIGITS * 4:
            what = f"an integer of more than {MAX_DIGITS:,} digits"
            raise _EnoughError(self._fault_at(item, what, key))
        if not is_container(value):
            return 1, 0
        # Known if an alias has led here before: counted again, but not walked, as
        # aliases of aliases would take exponential time.
        count, height = self._sizes.get(id(value), (0, 0))
        if level + height > MAX_NESTED:
            what = f"nested more than {MAX_NESTED} levels deep"
            raise _EnoughError(self._fault_at(item, what, key))
        if count:
            self._repeat(item, count, key)
            return count, height
        # The children stand in the same item: their own places do not matter.
        count, height = 1, 1
        for child in children(value, as_written=True):
            inner_count, inner_height = self._measure(item, key, child, level + 1)
            count += inner_count
            height = max(height, inner_height + 1)

        self._sizes[id(value)] = count, height
        return self._sizes[id(value)]

    def _below(self, item: _Item, raw: Any, key: Key, form: Form, holder: Any) -> _Item:
        """The item for `raw[key]`, of a list or mapping that `item` is for; `holder` takes its result."""
        # The home is another document where the field was included.
        document, container, at = self.files.home(item.document, raw, key)
        return _Item(
            raw[key], form, holder, key, document, container, at, (item.path, key)
        )

    def _take_node(self, item: _Item, todo: list[_Item]) -> None:
        """Place an empty config for a node's mapping, whose fields join `todo`; a ref is kept for later."""
        raw: dict[str, Any] = item.raw
        if "include" in raw:  # those of files were replaced when the files were read
            self._fault(item, "only a file includes others", "include")
        if "ref" in raw:
            self._take_ref(item)
            return
        # An alias leads to the same mapping again, and so to the same config.
        config = self._configs.get(id(raw))
        if config is not None:
            self._place(item, config)
            return
        model = self._model_of(item)
        if model is None:
            return
        config = empty_config(model)
        self._configs[id(raw)] = config
        self._mappings.append(raw)
        self.origins[id(config)] = item
        self._place(item, config)
        if "id" in raw:
            self._note_id(item, config, raw["id"])
        self._take_fields(item, config, todo)

    def _model_of(self, item: _Item) -> type[Config[Any]] | None:
        """The config class of a node's mapping; `None` if there is none: that is noted, and the node left out."""
        cls = self._class_of(item)
        if cls is None:
            return None
        try:
            return config_of(cls)
        except (ConfigError, TypeError) as error:
            self._fault(item, str(error).replace("\n", "; "))
            return None

    def _take_fields(self, item: _Item, config: Config[Any], todo: list[_Item]) -> None:
        """Take the fields of a node from its mapping: nodes join `todo`, the rest is for pydantic."""
        model, raw = type(config), item.raw
        data = {str(key): value for key, value in raw.items() if key not in RESERVED}
        if self._dialect is not OURS:
            self._leave_out(item, model, data)
        if is_streams(config.node_class):
            data = {STREAMS: data}
        # Reversed, as the last one is taken first.
        for key, value in reversed(list(data.items())):
            form = model.slots.get(key)
            if form is not None:
                todo.append(self._below(item, raw, key, form, data)._replace(raw=value))
            elif key in model.model_fields:
                self._measure(item, key, value)
        self._filled.append((config, data, item))

    def _leave_out(
        self, item: _Item, model: type[Config[Any]], data: dict[str, Any]
    ) -> None:
        """Take out of a node's data the keys that the dialect ignores, and nulls for what is not given."""
        path = keys_of(item.path)
        others = [key for key in data if key not in model.model_fields]
        unknown = [key for key in others if self._dialect.may_leave_out((*path, key))]
        missing = [name for name in model.model_fields if name not in data]
        for key in unknown:
            value = data.pop(key)
            self._check_meant(item, item.raw, (key,), missing)
            self._check_all_meant(item, value, (key,))
        if self._dialect.skips_null:
            nulls = [key for key, value in data.items() if value is None]
            for key in nulls:
                if not _admits_null(model, key):
                    del data[key]

    def _check_all_meant(self, item: _Item, value: Any, keys: Path_) -> None:
        """Note keys that a rename may have meant, at any depth in a value that is left out at `keys`."""
        todo: list[tuple[Any, Path_]] = [(value, keys)]
        seen: set[int] = set()
        # Without a rename that found nothing, nothing in there can be meant.
        while todo and self._absent:
            holder, above = todo.pop()
            if not is_container(holder) or id(holder) in seen:
                continue
            seen.add(id(holder))
            for key, child in items(holder, as_written=True):
                self._check_meant(item, holder, (*above, key), [])
                todo.append((child, (*above, key)))

    def _check_meant(
        self, item: _Item, holder: Any, keys: Path_, missing: list[str]
    ) -> None:
        """Note a key that is left out, and is much like one that is not given.

        What `ignore` lets through would otherwise hide a misspelled key.

        Args:
            item: The node that is looked at.
            holder: The mapping or list that has the key, in the node's mapping or below.
            keys: The keys that lead to it from the node.
            missing: The fields of the node that are not given.
        """
        # A key that a rename wants, and that is not there, is missing too.
        names = [*missing, *self._absent.get(id(holder), [])]
        hint = did_you_mean(keys[-1], names, cutoff=_CLOSE)
        if not hint:
            return
        fault = Fault(
            "no field takes it, and something like it is not given",
            path=path_str((*keys_of(item.path), *keys)),
            hint=f"{hint} Rename it, or name it in ignore",
            place=self.files.place(item.document, holder, keys[-1], of_key=True),
        )
        self._note(fault)

    def _class_of(self, item: _Item) -> type[Node] | None:
        """The class that a mapping names, or its place implies; `None` if there is none, which is noted."""
        tags = self._tags(item.form.classes)
        if "type" in item.raw:
            try:
                return cast("type[Node]", tags.find(item.raw["type"]))
            except UnknownNameError as error:
                self._fault(item, error.what, "type", hint=error.hint)
                return None
        if tags.default is None:
            names = format_names(tags.by_tag) or "no class that is known"
            self._fault(item, f"type is missing: one of {names}")
        return cast("type[Node] | None", tags.default)

    def _note_id(self, item: _Item, config: Config[Any], name: Any) -> None:
        """Note the `id` of a config, which a `ref` in its document, or in what that includes, may name."""
        if not isinstance(name, str) or not name:
            self._fault(item, f"an id is a string, found {value_text(name)}", "id")
            return
        # Of the document: files that are included twice, or by two, have equal ids.
        key = (id(item.document), name)
        if key in self._ids:
            _, other = self._ids[key]
            first = self.files.place(other.document, other.raw, "id")
            what = f"the id {short(name)} is given twice, first at {first}"
            self._fault(item, what, "id")
            return
        self._ids[key] = config, item

    def _take_ref(self, item: _Item) -> None:
        """Keep a `ref` until all ids are known: it may stand before what it names."""
        name = item.raw["ref"]
        # A second key would be lost without a word, as the node has its own fields.
        others = [key for key in item.raw if key != "ref"]
        if others:
            keys = ", ".join(map(str, others[:5]))
            self._fault(item, f"a ref stands alone; found {keys} beside it", others[0])
        if not isinstance(name, str):
            what = f"a ref is the id of a node, found {value_text(name)}"
            self._fault(item, what, "ref")
            return
        self._refs.append(_Ref(item, name))

    def _link(self) -> None:
        """Put in place of each ref what it names, which may stand anywhere in its file or in one that includes it."""
        names = list(dict.fromkeys(name for _, name in self._ids))
        for item, name in self._refs:
            config = self._config_named(name, item.document)
            if config is None:
                what = f"no node has the id {short(name)}"
                self._fault(item, what, "ref", hint=self._id_hint(name, names))
            else:
                self._place(item, config)

    def _config_named(self, name: str, document: Document) -> Config[Any] | None:
        """The config that a ref in a document names: of the document, or else of the nearest one that includes it."""
        scope: Document | None = document
        while scope is not None:
            if (id(scope), name) in self._ids:
                config, _ = self._ids[id(scope), name]
                return config
            scope = scope.parent
        return None

    def _id_hint(self, name: str, names: list[str]) -> str:
        """What would do in place of an id that no ref can reach; `names` are all ids."""
        if not names:
            return "no node has an id"
        if name in names[:1_000]:
            return "an id holds in its file and those that it includes"
        # To compare names costs time, and a file may have many of both.
        return near_hint(name, names[:100]) if len(self.faults) < 20 else ""

    def _place(self, item: _Item, config: Config[Any]) -> None:
        """Put a config where it belongs, if its class is admitted there."""
        fault = mismatch(item.form, config)
        if fault is not None:
            declared = " or ".join(cls.__name__ for cls in item.form.classes)
            name = distinct_class_name(config.node_class, *item.form.classes)
            self._fault(item, f"{name} is not {with_article(declared)}")
            return
        item.holder[item.key] = config

    def _validate(self, config: Config[Any], data: dict[str, Any], item: _Item) -> None:
        """Give a config its data, and note as faults what pydantic refuses."""
        try:
            fill(config, data)
        except pydantic.ValidationError as error:
            for fault in value_faults(error, data):
                self._note_value_fault(config, fault, item)

    def _note_value_fault(
        self, config: Config[Any], fault: ValueFault, item: _Item
    ) -> None:
        """Note one fault that pydantic found in the data of a config, with its place in the file."""
        key, name = fault.key, config.node_class.__name__
        if fault.kind == "extra_forbidden" and not fault.inside:
            what, hint = no_field(type(config), key)
            self._fault(item, what, key, hint=hint, of_key=True)
        elif fault.kind == "missing" and not fault.inside:
            what = f"{name} needs {key!r}{self._in_dialect(item, key)}"
            self._fault(item, what, below=key)
        elif key in config.slots and fault.kind == "wrong_node":
            return  # noted when what stands there was looked at
        elif is_streams(config.node_class):
            self._fault(item, fault.what, hint=fault.hint)
        else:
            self._fault(item, fault.what, key, inside=fault.inside, hint=fault.hint)

    def _in_dialect(self, item: _Item, key: str) -> str:
        """For a field that is missing: words for where the file would have it, if a rename says so; else empty."""
        source = self._dialect.source_of((*keys_of(item.path), key))
        return "" if source is None else f", which is {source} in the file"

    def _fault(
        self, item: _Item, what: str, key: str | None = None, **parts: Any
    ) -> None:
        """Note what is wrong; the parts are those of `_fault_at`."""
        self._note(self._fault_at(item, what, key, **parts))

    def _note(self, fault: Fault) -> None:
        """Note a fault for the report at the end; ends the pass above `MAX_FAULTS`."""
        if len(self.faults) >= MAX_FAULTS:
            raise _EnoughError(Fault(f"more than {MAX_FAULTS:,} faults"))
        self.faults.append(fault)

    def _fault_at(
        self,
        item: _Item,
        what: str,
        key: str | None = None,
        *,
        below: str = "",
        inside: str = "",
        hint: str = "",
        of_key: bool = False,
    ) -> Fault:
        """What is wrong with an item, as a fault with its path and its place in the file.

        Args:
            item: The item.
            what: What is wrong.
            key: Of a mapping the key that is wrong.
            below: The field that is missing.
            inside: Where within the value at the key, as text.
            hint: What would do.
            of_key: Whether the place is that of the key, and not of its value.
        """
        keys = keys_of(item.path)
        if below:
            keys = (*keys, below)
        elif key is not None:
            keys = (*keys, key)
        path = path_str(keys) + inside
        place = self._place_of(item, key, of_key=of_key)
        return Fault(what, path=path, hint=hint, place=place)

    def _place_of(self, item: _Item, key: str | None, *, of_key: bool) -> Place:
        """The place of a fault: of the item, or of the value at a key of its mapping; with `of_key`, of the key."""
        # A scalar has no place of its own, nor has a container that a program made: it
        # stands where its holder has it.
        if not is_container(item.raw) and item.container is not None:
            return item.document.place(item.container, item.at)
        if key is not None and isinstance(item.raw, dict) and key in item.raw:
            return self.files.place(item.document, item.raw, key, of_key=of_key)
        own = self.files.place(item.document, item.raw, None)
        if own.line:
            return own
        return self.files.place(item.document, item.container, item.at)


def _linked(keys: Sequence[Key]) -> "tuple[Any, Key] | None":
    """Some keys as a linked list, as `_Item.path` has them; `keys_of` is the way back."""
    link: tuple[Any, Key] | None = None
    for key in keys:
        link = link, key
    return link


def no_field(config: type[Config[Any]], key: object) -> tuple[str, str]:
    """What is wrong with a key that a class has no field for, and a hint; for files and for `override`."""
    fields = config.model_fields
    hint = near_hint(key, fields) or f"its fields are {', '.join(fields) or 'none'}"
    return f"{config.node_class.__name__} has no field {short(key)}", hint


def _admitted(form: Form) -> str:
    """What a form admits, for messages, in the words of files: `null` for `None`."""
    return str(form).replace("None", "null")


def _form_of(cls: type) -> Form:
    """The form of the root, which admits a node class; raises `TypeError` for anything else."""
    origin = get_origin(cls) or cls
    if not (isinstance(origin, type) and issubclass(origin, Node)):
        raise TypeError(wrong_argument("a node class second", cls))
    return Form(Kind.SUBNODE, (Leaf(cls),))


def walk(
    files: Files, document: Document, cls: type[M], dialect: Dialect = OURS
) -> tuple[Config[M], Walk]:
    """The config that a document describes, and the pass that made it, which knows where everything stands.

    For `load`, `loads` and `validate`, and for the commands, which ask the pass where
    values come from.

    Raises:
        ConfigError: All faults, in the order of their places.
    """
    # Data with faults is useless, and need not even be there.
    is_foreign = dialect is not OURS and not files.faults
    absent = (
        Translation(files, document, dialect).absent if is_foreign else _NONE_ABSENT
    )
    check_no_faults(sorted(files.faults, key=by_place))
    walker = Walk(files, dialect, absent)
    raw = {} if document.is_empty else document.root
    with meaning(dialect.names):
        config = walker.run(raw, _form_of(cls), document)
    return cast("Config[M]", config), walker


def _admits_null(model: type[Config[Any]], name: str) -> bool:
    """Whether a field takes null, or has to be given, so that null is reported as wrong.

    For `skip_null` of `load`: a null stays where it may be meant, and elsewhere stands
    for the default.
    """
    if name not in model.model_fields or model.model_fields[name].is_required():
        return True
    if name in model.slots:
        return model.slots[name].optional
    try:
        model.__pydantic_validator__.validate_assignment(
            model.model_construct(), name, None
        )
    except pydantic.ValidationError:
        return False
    return True


def walk_value(raw: Any, form: Form, path: Path_) -> Any:
    """The value of the place at a path, which a form describes: a config, a container of configs, or `None`.

    For `override`: a change may put whole nodes somewhere.

    Raises:
        ConfigError: All faults, by their paths: a value of a command line has no lines.
    """
    return Walk(Files()).run(raw, form, Document("", None), path)


def check_size(value: Any, path: Path_) -> None:
    """Raise if a static value at a path is too large or too deep to be looked at.

    For `override`, whose values come from outside as those of files do.

    Raises:
        ConfigError: It is.
    """
    Walk(Files()).check_size(value, path)
