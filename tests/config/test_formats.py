"""Each format reads what it writes, or is refused where somebody would write it."""

from typing import Any

import pytest

import graphnode as gn
from graphnode.config._formats import BY_SUFFIX, FORMATS

WRITTEN = [name for name, format in FORMATS.items() if format.lines is not None]


@pytest.mark.parametrize("suffix", BY_SUFFIX)
def test_a_file_of_each_suffix_is_read(suffix: str, tmp_path: Any):
    """What is written under a suffix loads from there; a format that is only read is refused before there is a file."""
    config = gn.config.loads("{in_size: 2, out_size: 3}", gn.nn.Linear)
    path = tmp_path / f"model{suffix}"
    if BY_SUFFIX[suffix] in WRITTEN:
        gn.config.dump(config, path)
        assert gn.config.load(path, gn.nn.Linear) == config
    else:
        with pytest.raises(ValueError, match="format: expected one of "):
            gn.config.dump(config, path)
        assert not path.exists()


@pytest.mark.parametrize("name", FORMATS)
def test_what_a_format_lacks_is_refused_by_name(name: Any):
    """A format says what it cannot say; YAML can say all that configurations hold."""

    class Anything(gn.Node):
        value: Any = gn.static(default=1)

    config_of: Any = gn.config.config_of(Anything)
    for value, text in ((None, "null"), (float("inf"), ".inf")):
        config = config_of(value=value)
        if FORMATS[name].lacks(value):
            with pytest.raises(gn.ConfigError) as caught:
                gn.config.dump(config, format=name)
            assert str(caught.value) == (
                f"value: {name.upper()} has no {text}: write YAML (format='yaml'), which has it"
            )
        else:
            assert gn.config.loads(gn.config.dump(config, format=name), Anything, format=name) == config


def test_a_format_that_there_is_not_is_refused():
    """The message has the names of those that there are, for reading and for writing."""
    config = gn.config.loads("{in_size: 2, out_size: 3}", gn.nn.Linear)
    unknown: Any = "ini"
    with pytest.raises(ValueError) as written:
        gn.config.dump(config, format=unknown)
    with pytest.raises(gn.ConfigError) as read:
        gn.config.loads("", gn.nn.Linear, format=unknown)
    assert str(written.value) == "format: expected one of yaml, json, toml; found 'ini'"
    assert str(read.value) == "no format 'ini': one of yaml, json, toml"
