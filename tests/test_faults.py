"""Faults are texts that have their parts: what is wrong, where, and what would do."""

import copy
import pickle
from collections.abc import Iterator

import pytest

import graphnode as gn
from graphnode._errors import Place, by_place
from graphnode.config._value_errors import places_inside


def test_a_fault_is_its_text():
    """File, line, column, path, what and hint are joined, as much as there is of them."""
    place = Place(3, 7, "model.yaml")
    assert str(gn.Fault("no", path="a.b", hint="write yes", place=place)) == "model.yaml:3:7: a.b: no; write yes"
    assert gn.Fault("no", place=Place(file="model.yaml")) == "model.yaml: no"
    assert gn.Fault("no", path="a", place=Place(3, 7)) == "3:7: a: no"
    assert gn.Fault("no") == "no"


def test_a_fault_is_seen_from_further_up():
    """`below` puts a path before the fault's own, and keeps all else."""
    fault = gn.Fault("no", path="b", hint="write yes")
    assert (fault.below("a"), gn.Fault("no").below("a"), fault.below("")) == (
        "a.b: no; write yes",
        "a: no",
        "b: no; write yes",
    )


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda fault: pickle.loads(pickle.dumps(fault))])
def test_a_fault_keeps_its_parts(again):
    """A fault and the error that has it are the same after a copy or a pickle, as test runners make them."""
    fault = gn.Fault("no", path="a", hint="write yes", place=Place(3, 7, "model.yaml"))
    other = again(gn.ConfigError([fault])).faults[0]
    assert (other, other.what, other.path, other.hint, other.place) == (
        fault,
        fault.what,
        fault.path,
        fault.hint,
        fault.place,
    )


def test_plain_texts_become_faults():
    """A `ConfigError` of texts has faults as well, so that who reads them need not ask."""
    (fault,) = gn.ConfigError(["a: no"]).faults
    assert (type(fault), fault, fault.what, fault.path) == (gn.Fault, "a: no", "a: no", "")


def test_faults_are_sorted_by_their_places_and_not_by_their_texts():
    """Line 10 comes after line 9."""
    faults = [gn.Fault("x", place=Place(line, 1, "a")) for line in (10, 9)]
    assert [fault.place.line for fault in sorted(faults, key=by_place)] == [9, 10]


def test_the_parts_of_a_file_s_fault_are_there_for_programs():
    """An editor marks the place, and offers the hint."""
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.loads("in_size: 2\nout_sise: 3\nw_init: he_norml", gn.nn.Linear, name="a.yaml")
    assert [(fault.place, fault.path, fault.what, fault.hint) for fault in caught.value.faults] == [
        ((1, 1, "a.yaml"), "out_size", "Linear needs 'out_size'", ""),
        ((2, 1, "a.yaml"), "out_sise", "Linear has no field 'out_sise'", "did you mean 'out_size'?"),
        ((3, 9, "a.yaml"), "w_init", "nothing is registered as 'he_norml'", "did you mean 'he_normal'?"),
    ]


def test_a_union_s_value_has_one_fault():
    """Pydantic says what each member would take; it is one value, and one fault."""

    class Wide(gn.Node):
        width: int | tuple[int, ...]

    with pytest.raises(gn.ConfigError) as caught:
        gn.config.loads("width: a", Wide)
    assert caught.value.faults == (
        "1:8: width: Input should be a valid integer, or: Input should be a valid tuple, found str 'a'",
    )


def test_a_wrong_item_is_not_also_a_wrong_list():
    """The member of the union that takes no list at all says nothing of one with a wrong item."""
    with pytest.raises(gn.ConfigError) as caught:
        gn.config.loads("{in_size: [1, 2], out_size: [3, x]}", gn.nn.Linear)
    assert caught.value.faults == ("1:29: out_size[1]: Input should be a valid integer, found str 'x'",)


def test_a_list_is_not_gone_through_for_each_wrong_item():
    """Where an error is, the steps alone say: many wrong items would take the square of their number."""

    class Long(list[object]):
        def __iter__(self) -> Iterator[object]:
            raise AssertionError("gone through")

    value = {"a": Long(["x", {"b": 1}])}
    assert places_inside(value, ["a", "tuple[any, ...]", 1, "function-before", "b", "int"]) == [
        "",
        ".a",
        ".a[1]",
        ".a[1].b",
    ]
    assert places_inside(value, ["a", 2]) == ["", ".a"]


def test_a_command_line_says_of_a_value_what_a_file_says():
    """A wrong value has the same text, but for the place."""
    config = gn.config.loads("{in_size: 2, out_size: 3}", gn.nn.Linear)
    with pytest.raises(gn.ConfigError) as of_file:
        gn.config.loads("{in_size: 2, out_size: [1, x], use_bias: maybe}", gn.nn.Linear)
    with pytest.raises(gn.ConfigError) as of_change:
        gn.config.override(config, ["out_size=[1, x]", "use_bias=maybe"])
    assert list(of_change.value.faults) == [fault.at(Place()) for fault in of_file.value.faults]


def test_the_faults_of_a_graphdef_s_json_have_their_paths():
    """What is wrong with the JSON of a structure is data as well."""
    text = gn.graphdef(gn.nn.Linear(2, 3)).to_json().replace('"in_size":', '"in_sise":')
    with pytest.raises(gn.ConfigError) as caught:
        gn.GraphDef.from_json(text)
    assert [(fault.path, fault.what) for fault in caught.value.faults] == [
        ("specs[0].static", "Linear has no such field 'in_sise'"),
        ("specs[0].static", "'in_size' of Linear is missing"),
    ]
