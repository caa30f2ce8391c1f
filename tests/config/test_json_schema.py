"""JSON Schemas accept what `load` accepts, and say what the classes say."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import jax
import pytest
import yaml
from jsonschema import Draft202012Validator

import graphnode as gn
from graphnode._registered import VALUES
from tests.config.family import CONFIGS, MODEL, Bounded, Composed, Holder, Named, Part, Plain, mutated
from tests.docrun import ROOT
from tests.schemas import KEPT, public_classes

SCHEMAS: dict[str, Any] = {
    "strict": gn.config.json_schema(MODEL, style="strict"),
    "editor": gn.config.json_schema(MODEL, style="editor"),
}
VALIDATORS = {style: Draft202012Validator(schema) for style, schema in SCHEMAS.items()}


def faults_of(raw: Any) -> str:
    """What `validate` has against a configuration."""
    try:
        gn.config.validate(raw, MODEL)
    except gn.ConfigError as error:
        return str(error)
    return ""


# Agreement


@pytest.mark.parametrize("style", VALIDATORS)
@hypothesis.given(raw=CONFIGS)
def test_what_is_valid_is_accepted(style: str, raw: Any):
    """Every configuration that says what the classes take is accepted by the schema and by `validate`."""
    assert (faults_of(raw), [error.message for error in VALIDATORS[style].iter_errors(raw)]) == ("", [])


@pytest.mark.slow
@pytest.mark.parametrize("style", VALIDATORS)
@hypothesis.settings(max_examples=300)
@hypothesis.given(raw=mutated())
def test_schema_and_validate_agree(style: str, raw: Any):
    """After any change, most of them wrong, both accept it or neither does; a schema cannot say that rows are alike."""
    faults = faults_of(raw)
    is_ragged = "no array: " in faults
    assert is_ragged or VALIDATORS[style].is_valid(raw) == (not faults), faults


@pytest.mark.parametrize("style", VALIDATORS)
@pytest.mark.parametrize(
    "wrong",
    [
        {"pair": [{}]},
        {"pair": [{}, None, None]},
        {"pair": [None, None]},
        {"by_name": {"a": {"type": "Plain"}}},
        {"by_name": [{"type": "Sized"}]},
        {"either": {"a": {"type": "Sized"}}},
        {"either": {"type": "Plain"}},
        {"any_of": [[{}]]},
        {"items": [None]},
        {"items": None},
        {"several": {}},
        {"one": {"ref": "root", "type": "Sized"}},
        {"one": {"ref": 1}},
        {"one": {"type": "Part"}},
        {"plain": {"more": "a"}},
        {"plain": None},
        {"id": 3},
        {"include": "a.yaml"},
    ],
    ids=str,
)
def test_a_wrong_node_is_refused_by_both(style: str, wrong: dict[str, Any]):
    """One for each form of a place; `include` is left to `load`."""
    right = {"type": "Holder", "id": "root", "one": {"type": "Sized"}, "plain": {}}
    assert faults_of(right) == ""
    assert faults_of(right | wrong)
    assert VALIDATORS[style].is_valid(right)
    assert VALIDATORS[style].is_valid(right | wrong) == ("include" in wrong)


@pytest.mark.parametrize("style", VALIDATORS)
def test_what_a_file_includes_need_not_stand_beside(style: str, tmp_path: Path):
    """With `include`, fields that are required may come from the other file; those given are checked all the same."""
    Path(tmp_path, "bounded.yaml").write_text("{type: Bounded, count: 1}")
    Path(tmp_path, "range.yaml").write_text("{low: 0.5}")
    one = {"include": "bounded.yaml", "count": 2}
    right = {"type": "Holder", "one": one, "plain": {}, "either": {"include": "bounded.yaml"}}
    record = {"type": "Composed", "sizes": [1, "a"], "range": {"include": "range.yaml", "high": 2}}
    wrong = {**right, "alone": {"type": "Bounded", "include": "bounded.yaml", "count": "2"}}
    for raw, is_right in ((right, True), (record, True), (wrong, False)):
        file = Path(tmp_path, "model.json")
        file.write_text(json.dumps(raw))
        assert VALIDATORS[style].is_valid(raw) == is_right
        if is_right:
            gn.config.load(file, MODEL)
        else:
            with pytest.raises(gn.ConfigError, match=r"alone\.count: Input should be a valid integer, found str '2'$"):
                gn.config.load(file, MODEL)


def test_data_includes_nothing():
    """In data that is not a file nothing is included, and `include` is not passed over."""
    assert faults_of({"include": "a.yaml", "type": "Sized"}) == "include: only a file includes others"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"type": "Chosen", "mode": "fats"}, "mode: Input should be 'fast', 'exact' or 3, found str 'fats'; did"),
        ({"level": True}, "level: Input should be 1 or 2, found bool true"),
        ({"level": 1.0}, "level: Input should be 1 or 2, found float 1.0"),
        ({"only": "2"}, "only: Input should be 2, found str '2'"),
        ({"order": [1, 2]}, "order: Input should be 'first', 'last' or 'PAIR', found list"),
    ],
)
def test_an_option_is_given_exactly(raw: dict[str, Any], message: str):
    """A boolean, a float and a string are not one of two integers."""
    fields = {"type": "Chosen", "mode": "fast", "order": "first"} | raw
    assert faults_of(fields).startswith(message)


@pytest.mark.parametrize(
    ("given", "shown"),
    [(None, "null"), ([], "list"), ({}, "dict"), (3, "3")]
    + [(name, f"'{name}'") for name in ("f4", "i4,i4", "O", "int", "<f8")],
)
def test_a_dtype_has_the_name_that_jax_gives(given: object, shown: str):
    """What numpy alone takes for a dtype is none: with null for float64, a missing value would be one."""
    assert faults_of({"type": "Named", "dtype": given}) == f"dtype: {shown} is not a valid dtype" + (
        "; did you mean 'int8'?" if given == "int" else "; such as float32, bfloat16 or int32"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"data": [1], "axes": 1}, "mask: an array has no 'axes': data, dtype and shape"),
        ({"data": [300], "dtype": "int8"}, "mask: no array: Python integer 300 out of bounds for int8"),
        ({"data": [1], "dtype": "f4"}, "mask: 'f4' is not a valid dtype; such as float32, bfloat16 or int32"),
        (["a"], "mask: an array is a list of numbers, nested by axis"),
    ],
)
def test_what_is_no_array_is_told(given: object, message: str):
    """Further keys, numbers that a dtype does not hold, and what is not a number."""
    assert faults_of({"type": "Named", "dtype": "bool", "mask": given}) == message


# What a schema says


def definition(name: str, style: str = "editor") -> dict[str, Any]:
    found: dict[str, Any] = SCHEMAS[style]["$defs"][name]
    return found


def test_docstrings_constraints_and_defaults_are_in_the_schema():
    """The first paragraph of a class, the texts of its fields, and defaults where JSON has them."""
    bounded = definition("Bounded")
    assert bounded["description"] == "Numbers and strings within bounds."
    assert bounded["properties"]["count"] == {
        "type": "integer",
        "exclusiveMinimum": 0,
        "maximum": 10,
        "description": "How many there are.",
    }
    assert bounded["properties"]["type"] == {"type": "string", "description": "Numbers and strings within bounds."}
    assert {
        name: one.get("default") for name, one in definition("Named")["properties"].items() if "default" in one
    } == {
        "act": "relu",
        "cls": None,
        "mask": None,
        "z": "1j",
        "raw": "",
        "anything": None,
        "fallback": "float32",
    }
    assert definition("Range")["description"] == "Two bounds."
    assert definition("Composed")["properties"]["range"]["default"] == {"low": 0.0, "high": 1.0, "labels": []}
    assert definition("Holder")["properties"]["items"]["description"] == "All the rest."
    assert definition("Holder")["properties"]["by_name"]["default"] == {}
    assert "weights" not in bounded["properties"]


def test_registered_names_are_those_that_a_field_admits(monkeypatch: pytest.MonkeyPatch):
    """A function is not offered where a class is expected, and names that are registered later are in later schemas."""
    before: Any = gn.config.json_schema(Named)
    assert before["$defs"]["class"]["enum"] == []

    def add(x: jax.Array) -> jax.Array:
        return x + 1

    monkeypatch.setitem(VALUES, "family.add", add)  # which takes it away again: other tests list the names
    assert gn.config.register("family.add", add) is add
    after: Any = gn.config.json_schema(Named)
    name = "function_of_1_argument"
    assert set(after["$defs"][name]["enum"]) - set(before["$defs"][name]["enum"]) == {"family.add"}
    config: Any = gn.config.validate({"act": "family.add", "dtype": "bool"}, Named)
    assert config.act is add


def test_classes_of_one_name_have_a_definition_each():
    """Their tags are qualified, as in `load`."""

    class Base(gn.Node):
        pass

    def define(name: str) -> type[Base]:
        return type("Twin", (Base,), {"__module__": name})

    twins = [define("one"), define("two")]
    schema: Any = gn.config.json_schema(Base)
    assert schema["$defs"]["Base.node"]["properties"]["type"]["enum"] == ["Base", "one.Twin", "two.Twin"]
    assert {"Base", "Base.node", "Twin", "Twin-2"} == set(schema["$defs"])
    assert gn.config.validate({"type": "two.Twin"}, Base).node_class is twins[1]


@pytest.mark.parametrize("style", SCHEMAS)
def test_schemas_are_valid_and_refer_to_what_is_there(style: str):
    """Draft 2020-12 accepts them, they are JSON, and no definition is missing or unused."""
    schema = SCHEMAS[style]
    Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema, allow_nan=False)) == schema
    assert {f"#/$defs/{name}" for name in schema["$defs"]} == set(_values(schema, "$ref"))
    assert bool(list(_values(schema, "oneOf"))) == (style == "strict")


def _values(schema: Any, key: str) -> Iterator[Any]:
    todo = [schema]
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            if key in one:
                yield one[key]
            todo += one.values()
        elif isinstance(one, list):
            todo += one


@pytest.mark.parametrize("style", SCHEMAS)
def test_schemas_grow_with_the_classes_and_no_faster(style: Any):
    """Twice as many classes, each of which may hold all others, make a schema twice as large."""

    class Base(gn.Node):
        pass

    namespace = {"__annotations__": {"items": list[Base], "other": Base | None}, "__module__": __name__}
    sizes: list[int] = []
    kept: list[type] = []
    for number in range(60):
        kept.append(type(f"Made{number:02}", (Base,), dict(namespace)))
        if number % 20 == 19:
            sizes.append(len(json.dumps(gn.config.json_schema(Base, style=style))))
    first, second, third = sizes
    assert third - second == second - first


@pytest.mark.wrong_types
def test_what_has_no_schema_is_told():
    """No node class, no class that can be built, and an unknown style."""

    class Alone(Part):
        """Abstract."""

    class Own(gn.Node):
        size: int

        def __init__(self, size: int) -> None:
            self.size = size

    cls: Any = int
    base: Any = Alone
    style: Any = "loose"
    with pytest.raises(TypeError) as wrong:
        gn.config.json_schema(cls)
    assert str(wrong.value) == "gn.config.json_schema takes a node class; found the class int"
    with pytest.raises(gn.ConfigError) as abstract:
        gn.config.json_schema(base)
    assert str(abstract.value) == "Alone is abstract, and has no subclass that is known"
    with pytest.raises(gn.ConfigError) as own:
        gn.config.json_schema(Own)
    assert str(own.value) == "Own has a constructor of its own, so nothing says what it takes"
    with pytest.raises(ValueError) as unknown:
        gn.config.json_schema(Bounded, style=style)
    assert str(unknown.value) == "style: expected 'editor' or 'strict', found 'loose'"


def test_a_place_leaves_out_what_cannot_be_configured():
    """A subclass with a constructor of its own is not offered, as `load` refuses it."""

    class Own(Plain):
        def __init__(self) -> None:
            self.depth = 1

    schema: Any = gn.config.json_schema(Holder)
    assert "Own" not in schema["$defs"]["Plain.node"]["properties"]["type"]["enum"]
    raw = {"one": {"type": "Sized"}, "plain": {"type": Own.__name__}}
    with pytest.raises(gn.ConfigError, match=r"^plain: Own has a constructor of its own"):
        gn.config.validate(raw, Holder)
    assert not Draft202012Validator(schema).is_valid(raw)


def test_a_class_whose_default_raises_is_left_out():
    """It is told to whoever asks for it; schemas of places that would admit it do without."""

    class Failing(Plain):
        sizes: tuple[int, ...] = gn.static(default_factory=lambda: {"one": (1,)}["two"])

    with pytest.raises(gn.ConfigError) as caught:
        gn.config.config_of(Failing)
    assert str(caught.value) == "Failing.sizes: its default_factory raises KeyError: 'two'"
    schema: Any = gn.config.json_schema(Holder)
    assert "Failing" not in schema["$defs"]["Plain.node"]["properties"]["type"]["enum"]


# The schemas of this repository


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What `make schemas` leaves where there are two files, one of which it writes no more."""
    folder = tmp_path_factory.mktemp("schemas")
    for name in (KEPT, "graphnode.nn.Gone.schema.json"):
        Path(folder, name).write_text("{}")
    # In a process of its own: here other tests have defined classes.
    done = subprocess.run(
        [sys.executable, "-m", "tests.schemas", str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def test_the_kept_schema_is_that_of_the_code(made: dict[str, str]):
    """`make schemas` would not change it."""
    assert Path(ROOT, "schemas", KEPT).read_text(encoding="utf-8") == made[KEPT], "run: make schemas"


def test_the_others_are_those_that_examples_name(made: dict[str, str]):
    """And that of all layers; each example is valid by its own. Of a class that is gone none is left."""
    named = {"graphnode.nn.Module.schema.json"}
    for file in Path(ROOT, "docs", "examples").glob("*.yaml"):
        text = file.read_text(encoding="utf-8")
        name = Path(text.partition("$schema=")[2].split()[0]).name
        named.add(name)
        faults = Draft202012Validator(json.loads(made[name])).iter_errors(yaml.safe_load(text))
        assert [error.message for error in faults] == []
    assert made.keys() - {KEPT} == named


@pytest.mark.slow
@pytest.mark.parametrize("style", SCHEMAS)
def test_each_layer_has_a_schema(style: Any):
    """`graphnode config schema graphnode.nn:Linear` writes that of one, and so on."""
    layers = public_classes(gn.nn)
    assert {"Linear", "Module", "RNN"} < layers.keys()
    for cls in layers.values():
        Draft202012Validator.check_schema(gn.config.json_schema(cls, style=style))


def test_composed_default_is_valid():
    """A default that a schema shows may be written into a file."""
    default = definition("Composed")["properties"]["range"]["default"]
    config: Any = gn.config.validate({"sizes": [1, "a"], "range": default}, Composed)
    assert config.range == Composed((1, "a")).range
