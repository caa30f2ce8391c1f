"""JSON Schemas accept what `load` accepts, and say what the classes say."""

import hypothesis
import pytest
from jsonschema import Draft202012Validator

import graphnode as gn
from tests.config.family import CONFIGS, Part, mutated

VALIDATORS = {
    "strict": Draft202012Validator(gn.config.json_schema(Part, style="strict")),
    "editor": Draft202012Validator(gn.config.json_schema(Part, style="editor")),
}


def faults_of(raw: object) -> str:
    """What `validate` has against a configuration."""
    try:
        gn.config.validate(raw, Part)
    except gn.ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("style", VALIDATORS)
@hypothesis.given(raw=CONFIGS)
def test_what_is_valid_is_accepted(style: str, raw: object):
    assert (faults_of(raw), [error.message for error in VALIDATORS[style].iter_errors(raw)]) == ("", [])


@pytest.mark.parametrize("style", VALIDATORS)
@hypothesis.settings(max_examples=400)
@hypothesis.given(raw=mutated())
def test_schema_and_validate_agree(style: str, raw: object):
    faults = faults_of(raw)
    assert VALIDATORS[style].is_valid(raw) == (not faults), faults
