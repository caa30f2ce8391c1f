"""Changes by path that lead into defaults and static values, and what is told of those that lead nowhere."""

import dataclasses
import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from graphnode.config import DEFAULT, build, config_of, loads, override


@dataclasses.dataclass(frozen=True)
class Rule:
    rate: float = 0.1
    sizes: tuple[int, ...] = (1, 2)


class Opt(gn.Node):
    lr: float = 0.001
    steps: int = 1
    rule: Rule = Rule()


class Adam(Opt):
    decay: float = 0.9


class Enc(gn.Node):
    """Computes a field from another."""

    width: int = 3
    hidden: int | None = None

    def __post_init__(self) -> None:
        if self.hidden is None:
            self.hidden = 4 * self.width


class Counter(gn.Node):
    """Its States hold a number and a key."""

    start: int = 0
    count: gn.ShortTermState[Any] = gn.state(init=False)
    key: gn.ShortTermState[Any] = gn.state(init=False)

    def __post_init__(self) -> None:
        self.count = gn.ShortTermState(1.0)
        self.key = gn.ShortTermState(gn.random.split_key())


class Outer(gn.Node):
    """Leaves a node with a default to its class in turn."""

    enc: Enc = gn.subnode(default_factory=Enc)


ONE = Opt()


def filled() -> gn.nn.Linear:
    made = gn.nn.Linear(2, 3)
    made.weight.value = jnp.ones((2, 3))
    return made


def failing() -> Opt:
    raise OSError("no disk")


LINEAR: Any = gn.nn.Linear  # for the type checkers, that do not call it without arguments


class Holder(gn.Node):
    """Every kind of default that a class makes itself."""

    plain: Opt = gn.subnode(default_factory=Opt)
    function: Opt = gn.subnode(default_factory=lambda: Opt(lr=3.0))
    part: Opt = gn.subnode(default_factory=functools.partial(Adam, lr=2.0))
    outer: Outer = gn.subnode(default_factory=Outer)
    counter: Counter = gn.subnode(default_factory=lambda: Counter(2))
    nested: Outer = gn.subnode(default_factory=lambda: Outer())
    nested_given: Outer = gn.subnode(default_factory=lambda: Outer(enc=Enc(5, hidden=7)))
    layer: gn.nn.Linear = gn.subnode(default_factory=lambda: gn.nn.Linear(2, 3, use_bias=False))
    layers: list[Opt] = gn.subnode(default_factory=lambda: [Opt(lr=1.0), Opt(lr=2.0)])
    table: dict[str, Opt] = gn.subnode(default_factory=lambda: {"a=b": Opt(steps=4), "a[0]": Opt()})
    pair: tuple[Opt | None, Opt | None] = gn.subnode(default=(None, None))
    computed: Enc = gn.subnode(default_factory=lambda: Enc(5))
    given: Enc = gn.subnode(default_factory=lambda: Enc(5, hidden=7))
    drawn: gn.nn.Linear = gn.subnode(default_factory=lambda: gn.nn.Linear(2, 3, w_init=jax.nn.initializers.ones))
    written: gn.nn.Linear = gn.subnode(default_factory=filled)
    same: Opt = gn.subnode(default_factory=lambda: ONE)
    fails: Opt = gn.subnode(default_factory=failing)
    needy: gn.nn.Linear = gn.subnode(default_factory=LINEAR)
    number: float = 1.0
    maybe: Opt | None = None
    data: Any = gn.static(default=None)


of: Any = config_of  # which arguments a config takes, no annotation can say


def left_out() -> Any:
    return of(Holder)()


# Defaults of classes


def test_a_change_leads_into_what_the_class_makes():
    """The rest is what the class gives itself, not the defaults of another class."""
    changes = [
        "plain.lr=5",
        "function.steps=2",
        "part.decay=0.5",
        "layer.out_size=7",
        "given.width=9",
        "counter.start=3",
    ]
    made: Any = override(left_out(), changes)
    assert (made.plain, made.function) == (of(Opt)(lr=5.0), of(Opt)(lr=3.0, steps=2))
    assert made.part == of(Adam)(lr=2.0, decay=0.5)
    assert build(made.layer).bias is None
    assert build(made.layer).weight.value.shape == (2, 7)
    assert build(made.given).hidden == 7
    assert build(made.counter).start == 3
    assert made.layers is DEFAULT


def test_what_a_class_computes_is_computed_of_the_change():
    """A class as its own factory leaves all to itself, at every level; so does what a function does not give."""
    made: Any = override(left_out(), [f"{name}.enc.width=9" for name in ("outer", "nested", "nested_given")])
    assert build(made.outer).enc.hidden == build(made.nested).enc.hidden == 36
    assert build(made.nested_given).enc.hidden == 7


def test_a_change_leads_into_containers_that_the_class_makes():
    """By brackets or dots; what is beside stays as the class makes it."""
    for path in ("layers[1].steps", "layers.1.steps", "layers[-1].steps", "layers.-1.steps"):
        made: Any = override(left_out(), [f"{path}=9"])
        assert made.layers == [of(Opt)(lr=1.0), of(Opt)(lr=2.0, steps=9)]
    made = override(left_out(), ['table."a=b".lr=5', 'table."a[0]".lr=6', "table.new={}", "pair[0]={lr: 3}"])
    assert made.table == {"a=b": of(Opt)(lr=5.0, steps=4), "a[0]": of(Opt)(lr=6.0), "new": of(Opt)()}
    assert made.pair == [of(Opt)(lr=3.0), None]


def test_a_default_is_changed_in_a_trace_too():
    """Its values are compared outside of it."""
    made: Any = gn.eval_shape(lambda: build(override(left_out(), ["layer.out_size=5"]).layer))
    assert made.weight.value.shape == (2, 5)


UNKNOWN = {
    "computed.width=9": "nothing says whether its default_factory gives hidden or the class computes it",
    "drawn.use_bias=false": "its default_factory makes what no config says, such as States with other values",
    "written.use_bias=false": "its default_factory makes what no config says, such as States with other values",
    "same.lr=5": "its default_factory gives the same object each time",
    "fails.lr=5": "its default_factory raises OSError: no disk",
    "needy.use_bias=false": "Linear needs in_size, out_size",
}


@pytest.mark.parametrize("change", UNKNOWN)
def test_a_default_that_is_not_known_is_not_changed_in_part(change: str):
    """What a function hands to constructors may be lost: no other model comes out, and a whole value may be given."""
    name = change.partition(".")[0]
    with pytest.raises(gn.ConfigError) as caught:
        override(left_out(), [change])
    assert str(caught.value) == (
        f"{name}: the default of the class cannot be changed in part: {UNKNOWN[change]}; "
        f"write the whole value first, such as {name}={{type: ...}}"
    )
    whole = "width: 1" if name == "computed" else "in_size: 1, out_size: 1"
    whole = "" if name in ("same", "fails") else whole
    override(left_out(), [f"{name}={{{whole}}}", change])


LEFT_OUT = (
    "the config leaves this field to its class, which makes the value; assign one to the field first, for a node a "
    "config such as gn.config.config_of(cls)(...), or write gn.config.override(config, ['field.name=value'])"
)


def test_a_placeholder_is_neither_written_nor_read():
    """It is one for all configs: the error says what to do."""
    config = left_out()
    with pytest.raises(AttributeError) as caught:
        config.plain.lr = 3.0
    assert str(caught.value) == f"there is no .lr here: {LEFT_OUT}"
    with pytest.raises(AttributeError) as caught:
        print(config.plain.lr)
    assert str(caught.value) == f"there is no .lr here: {LEFT_OUT}"
    for attempt in (lambda: config.layers[0], lambda: list(config.layers), lambda: config.table.update(a=1)):
        with pytest.raises((AttributeError, TypeError), match=r"there is no .* here: the config leaves this field"):
            attempt()
    with pytest.raises(TypeError, match=r"there is no \['x'\] here"):
        config.table["x"] = of(Opt)()


# Static values


def test_a_change_leads_into_static_values():
    """Records and tuples, in records and tuples."""
    made: Any = override(left_out(), ["plain.rule.rate=3", "plain.rule.sizes[-1]=7"])
    assert made.plain.rule == Rule(3.0, (1, 7))


@dataclasses.dataclass(frozen=True)
class Other:
    rate: float = 0.1


class Either(gn.Node):
    """Whose rule has to say its class, and whose function no file says."""

    rule: Rule | Other = gn.static(default=Rule())
    function: Any = gn.static(default=None)


def test_a_part_of_what_no_file_says_is_not_changed():
    """The whole may be; and a part of a record that says its class."""
    config: Any = of(Either)(rule=Other(), function=len)
    with pytest.raises(gn.ConfigError) as caught:
        override(config, ["function.x=1"])
    assert caught.value.faults == (
        "function: len has no name: register it with gn.config.register(name, value); write the whole value",
    )
    assert override(config, ["function=null", "rule.rate=3"]).rule == Other(3.0)
    assert override(config, ["rule={type: Rule, rate: 3}", "rule.rate=4"]).rule == Rule(4.0)


# Faults

FILE = "{plain: {}, layers: [{}, {}, {}], table: {b: {}}}"

SAME_AS_IN_A_FILE = {
    "number=abc": "{number: abc}",
    "number=[1]": "{number: [1]}",
    "nubmer=1": "{nubmer: 1}",
    "nothing=1": "{nothing: 1}",
    "plain=3": "{plain: 3}",
    "plain={lr: x}": "{plain: {lr: x}}",
    "plain={type: Adm}": "{plain: {type: Adm}}",
    "plain={l: 1}": "{plain: {l: 1}}",
    "plain.lr=x": "{plain: {lr: x}}",
    "plain.stpes=1": "{plain: {stpes: 1}}",
    "plain.rule=1": "{plain: {rule: 1}}",
    "plain.rule.rate=x": "{plain: {rule: {rate: x}}}",
    "plain.rule.raet=1": "{plain: {rule: {raet: 1}}}",
    "plain.rule.sizes[0]=x": "{plain: {rule: {sizes: [x, 2]}}}",
    "layers=3": "{layers: 3}",
    "layers[1]=x": "{layers: [{}, x]}",
    "layers[-2]=x": "{layers: [{}, x]}",
    "layers[1].lr=x": "{layers: [{}, {lr: x}]}",
    "table.b.n=4": "{table: {b: {n: 4}}}",
    "table.c={n: 4}": "{table: {c: {n: 4}}}",
    "table=": "{table: }",
    "maybe={ref: a}": "{maybe: {ref: a}}",
    f"data={'[' * 40}{']' * 40}": f"{{data: {'[' * 40}{']' * 40}}}",
}


@pytest.mark.parametrize("change", SAME_AS_IN_A_FILE)
def test_a_change_is_refused_as_a_file_is(change: str):
    """The text is that of a file, but for the place."""
    with pytest.raises(gn.ConfigError) as in_file:
        loads(SAME_AS_IN_A_FILE[change], Holder)
    with pytest.raises(gn.ConfigError) as of_change:
        override(loads(FILE, Holder), [change])
    assert list(of_change.value.faults) == [re.sub(r"^\d+:\d+: ", "", fault) for fault in in_file.value.faults]


LOST = {
    "=3": "=3: a change is path=value",
    "": "'': a change is path=value",
    "number": "number: a change is path=value",
    'table."b': 'table."b: a change is path=value',
    "table.=1": "table.: path 'table.' does not parse: expected a key at column 7, found the end; quote keys that hold "
    "blanks, dots, quotes or backslashes",
    "table.x.y.k=1": "table: no key 'x'; its keys are b",
    "table.0=1": "table: no key 0; its keys are b",
    "layers[3].lr=1": "layers: no item 3 in a list of 3",
    "layers[-4].lr=1": "layers: no item -4 in a list of 3",
    "layers.-4={}": "layers: no item -4 in a list of 3",
    "layers.x.lr=1": "layers: no item 'x' in a list of 3",
    "plain.rule.x.y=1": "plain.rule: no key 'x'; its keys are rate, sizes",
    "plain.rule.sizes[2]=1": "plain.rule.sizes: no item 2 in a list of 2",
    "number.x=1": "number: float 1.0 has nothing inside; write the whole value, number=...",
    "maybe.lr=1": "maybe: null has nothing inside; write the whole value, maybe=...",
    "number=[": "number=[: did not find expected node content (while parsing a flow node)",
    "plain.lr=5=6": "plain.lr: Input should be a valid number, found str '5=6'",
}


@pytest.mark.parametrize("change", LOST)
def test_a_path_that_leads_nowhere_is_told(change: str):
    """By where it ends, and what there is."""
    with pytest.raises(gn.ConfigError) as caught:
        override(loads(FILE, Holder), [change])
    assert str(caught.value) == LOST[change]


class Noted(gn.Node):
    note: Any = gn.static(default="none")


COMMENTS = {
    "note=sweep #3": "YAML takes #3 for a comment; write 'note=\"sweep #3\"', or leave it out",
    "note=#3": "YAML takes #3 for a comment; write 'note=\"#3\"', or leave it out",
    "note= # nothing ": "YAML takes # nothing for a comment; write 'note=\"# nothing\"', or leave it out",
    "note='a' # b": "YAML takes # b for a comment; write 'note=\"'a' # b\"', or leave it out",
    "note=[1, 2] # two": "YAML takes # two for a comment; leave it out",
    "note=[1, # one\n2]": "YAML takes # one for a comment; leave it out",
    "note=|\n  a\n# b": "YAML takes # b for a comment; write 'note=\"|\\n  a\\n# b\"', or leave it out",
}


@pytest.mark.parametrize("change", COMMENTS)
def test_a_change_has_no_comment(change: str):
    """What stands after a blank and `#` was dropped."""
    with pytest.raises(gn.ConfigError) as caught:
        override(of(Noted)(), [change])
    assert caught.value.faults == (f"{change}: {COMMENTS[change]}",)


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ("note=", None),
        ("note=a#b", "a#b"),
        ("note='sweep #3'", "sweep #3"),
        ('note="sweep #3"', "sweep #3"),
        ("note=|\n  a\n  # b", "a\n# b"),
        ("note=['#1', \"ä #2\"]", ("#1", "ä #2")),
    ],
)
def test_a_text_with_a_number_sign_is_no_comment(change: str, note: object):
    """In quotes, in a block, and where no blank stands before it."""
    assert override(of(Noted)(), [change]).note == note


def test_differences_have_paths_that_changes_take():
    """Also where a key has what means something in a change, beside one that it would be taken for."""
    for key in ("a=b", "=", "a[0]", "[0]", "a.b", 'a"=b', "0"):
        config: Any = of(Holder)(table={key: of(Opt)(), "a": of(Opt)()})
        changed: Any = of(Holder)(table={key: of(Opt)(steps=9), "a": of(Opt)()})
        (change,) = gn.config.diff(config, changed)
        path, _, values = str(change).rpartition(": ")
        assert values == "1 -> 9"
        assert override(config, [f"{path}=9"]) == changed
        with pytest.raises(gn.ConfigError) as caught:
            override(config, [f"{path}.more=9"])
        assert str(caught.value) == f"{path}: int 1 has nothing inside; write the whole value, {path}=..."


def test_a_position_is_no_key():
    """A key that looks like one is written in quotes, as the message says."""
    config = loads('table: {"0": {}}', Holder)
    with pytest.raises(gn.ConfigError) as caught:
        override(config, ["table.0.lr=1"])
    assert str(caught.value) == 'table: no position 0 in a dict; its key is table."0"'
    made: Any = override(config, ['table."0".lr=1'])
    assert made.table["0"].lr == 1.0


class Table(gn.Node):
    numbers: jax.Array = gn.static(default_factory=lambda: jnp.ones((2, 2), jnp.bfloat16))
    counts: np.ndarray[Any, Any] = gn.static(default_factory=lambda: np.zeros(2, int))


def test_a_change_leads_into_an_array():
    """It keeps its dtype, by position as by the keys of its data."""
    made: Any = override(of(Table)(), ["numbers[0][-1]=3", "numbers.1.0=0.5", "counts[1]=7", "counts.dtype=int8"])
    assert (made.numbers.dtype, made.numbers.tolist()) == ("bfloat16", [[1.0, 3.0], [0.5, 1.0]])
    assert (made.counts.dtype, made.counts.tolist()) == ("int8", [0, 7])
    with pytest.raises(gn.ConfigError) as caught:
        override(of(Table)(), ["counts[0]=0.5", "numbers[2]=1"])
    assert caught.value.faults == ("counts: 0.5 does not fit into int64", "numbers: no item 2 in a list of 2")


def test_a_change_of_an_item_counts_from_the_end():
    """As in Python, with brackets and dots."""
    for path in ("layers[-3].lr", "layers.-3.lr"):
        made: Any = override(loads(FILE, Holder), [f"{path}=9"])
        assert [one.lr for one in made.layers] == [9.0, 0.001, 0.001]


@dataclasses.dataclass(frozen=True)
class Named:
    names: frozenset[str] = frozenset()


class Sets(gn.Node):
    """Sets alone, in a record, and where the class is said."""

    names: frozenset[str] = frozenset()
    rule: Named = Named()
    data: Any = gn.static(default=None)


@pytest.mark.parametrize(
    ("path", "where"), [("names[0]", "names"), ("rule.names[0]", "rule.names"), ("data.value[1]", "data.value")]
)
def test_a_set_has_no_positions(path: str, where: str):
    """The item of the file is not the one that stands there when the set is written."""
    config: Any = loads("{names: [z, a], rule: {names: [z, a]}, data: {type: frozenset, value: [z, a]}}", Sets)
    with pytest.raises(gn.ConfigError) as caught:
        override(config, [f"{path}=q"])
    assert str(caught.value) == f"{where}: a set has no positions; write the whole value, {where}=..."
    assert build(override(config, ["rule.names=[q]"])).rule == Named(frozenset({"q"}))


class Unvalidated(gn.Node):
    """Whose defaults are other values than their annotations would make of them."""

    rate: float = 1
    dtype: jax.typing.DTypeLike = "float32"
    steps: int = 10


def test_a_change_changes_nothing_else():
    """A default stays what the class says, also where a file that says the same would mean another value."""
    config = gn.config.loads("", Unvalidated)
    assert override(config, []) == config
    made, changed = gn.config.build(config), gn.config.build(override(config, ["steps=20"]))
    assert (type(made.rate), made.dtype) == (type(changed.rate), changed.dtype) == (int, "float32")


def test_a_model_with_such_a_default_goes_to_a_file():
    """As it was refused, though a file that says nothing of the field makes the same."""
    made = Unvalidated(steps=20)
    text = gn.config.dump(gn.config.to_config(made))
    assert text == "type: Unvalidated\nsteps: 20"
    assert gn.graphdef(build(loads(text, Unvalidated))) is gn.graphdef(made)


class Noise(gn.nn.Module):
    rate: float = 0.5
    rngs: gn.Rngs | None = None


class Noisy(gn.nn.Module):
    noise: Noise = gn.subnode(default_factory=Noise)


def test_a_changed_default_gets_no_streams():
    """The class made it without, and a change of its rate is not a change of that."""
    config = gn.config.loads("", Noisy)
    assert gn.config.build(config).noise.rngs is None
    assert gn.config.build(override(config, ["noise.rate=0.1"])).noise.rngs is None


@dataclasses.dataclass(frozen=True)
class Data:
    augment: dict[str, float] | None = None


class OnData(gn.Node):
    data: Data = Data()
    part: gn.nn.Linear | None = None


def test_a_record_with_what_is_no_part_of_a_structure_is_refused():
    """When it is read, at its place: nothing later would know where it came from."""
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.loads("data: {augment: {flip: 0.5}}", OnData)
    text = "Data: a dict ({'flip': 0.5}) is not hashable: write a tuple of pairs"
    assert str(caught.value) == f"1:7: data: {text}"


def test_the_class_of_a_node_is_not_changed_in_part():
    """The fields of one class are not those of another."""
    config = gn.config.loads("part: {in_size: 1, out_size: 1}", OnData)
    for change, where, whole in (
        ("part.type=Linear", "part.type", "write the whole node, part={type: ..., ...}"),
        ("type=OnData", "type", "load a file that says it"),
    ):
        with pytest.raises(gn.ConfigError) as caught:
            gn.config.override(config, [change])
        assert str(caught.value) == f"{where}: the class of a node is not changed in part; {whole}"
