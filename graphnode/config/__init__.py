"""Models from configuration files: what a class declares is what a file may give."""

try:
    import pydantic as _pydantic
    import tomli_w as _tomli_w
    import yaml as _yaml
except ModuleNotFoundError as _error:
    _text = f"graphnode.config needs {_error.name}, which is not installed: pip install 'graphnode[config]'"
    raise ModuleNotFoundError(_text, name=_error.name) from _error

from .._registered import HUGGING_FACE as HUGGING_FACE
from .._summary._summary import Summary as Summary

# Files may name the classes of nn, which are known once it is imported
from ..nn import Module as _Module
from ._build import build as build
from ._by_path import MISSING as MISSING
from ._by_path import Change as Change
from ._config import Config as Config
from ._config import config_of as config_of
from ._diff import diff as diff
from ._json_schema import json_schema as json_schema
from ._left_out import DEFAULT as DEFAULT
from ._load import load as load
from ._load import loads as loads
from ._load import validate as validate
from ._override import override as override
from ._registry import register as register
from ._summary import summary as summary
from ._to_config import to_config as to_config
from ._write import dump as dump

del _Module, _pydantic, _tomli_w, _yaml  # no names of this module
