"""The classes that the peers of `gn.config` build."""

from dataclasses import dataclass
from typing import Optional


@dataclass
class Layer:
    n_in: int
    n_out: int
    act: str = "relu"
    rate: float = 0.1


@dataclass
class Encoder:
    layers: list[Layer]


@dataclass
class Model:
    encoder: Encoder
    decoder: Encoder
    layers: list[Layer]


@dataclass
class Ring:
    size: int
    next: Optional["Ring"] = None
