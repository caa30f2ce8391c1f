"""Checkpoints that say what they hold: save, restore and load nodes with everything that trains."""

from ._checkpointer import Checkpointer as Checkpointer
from ._inspect import manifest as manifest
from ._load import load as load
from ._manifest import Manifest as Manifest
from ._restore import restore as restore
from ._save import save as save
from ._tree import DataIterator as DataIterator
