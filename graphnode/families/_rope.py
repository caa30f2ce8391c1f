"""Rotary positions as a `config.json` has them, and back.

    "rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, ...}      since 4.43
    "rope_parameters": {"rope_theta": 500000.0, "rope_type": "llama3", "factor": 8.0, ...}   since 5.0

Both are read; the first is written, as all versions know it.
"""

from typing import Any, Final

from .._errors import CheckpointError, Fault
from .._hints import short, with_article
from ..nn import LinearScaling, Llama3Scaling, Rotary, RotaryScaling, YarnScaling
from ._settings import Settings

_NEW: Final = "rope_parameters"
_OLD: Final = "rope_scaling"
_LOCAL: Final = "sliding_attention"
_GLOBAL: Final = "full_attention"
_LENGTH: Final = "original_max_position_embeddings"


def rotary_of(settings: Settings, base: float = 10_000.0) -> Rotary:
    """The rotation that settings say.

    Args:
        settings: Those of a model, all of whose layers have the same rotation.
        base: That of the family, where a file does not say.
    """
    old, new = settings.value(_OLD), settings.value(_NEW)
    _check_one_layout(settings, old, new, _NEW)
    base = settings.number("rope_theta", base)
    if old is not None:
        return _rotary_at(settings, _OLD, old, base)
    return _rotary_at(settings, _NEW, {} if new is None else new, base)


def local_and_global_rotary_of(
    settings: Settings, local_base: float, base: float
) -> tuple[Rotary, Rotary]:
    """Two rotations that settings say: of layers with a window, and of the others.

    Args:
        settings: Those of a model.
        local_base: That of the family for layers with a window, where a file does not say.
        base: For the others.
    """
    new = settings.value(_NEW, {})
    local_base = settings.number("rope_local_base_freq", local_base)
    base = settings.number("rope_theta", base)
    scaling = settings.value(_OLD)
    if not isinstance(new, dict) or new.keys() - {_LOCAL, _GLOBAL}:
        found = ", ".join(new) if isinstance(new, dict) else short(new)
        settings.fault(
            _NEW, f"expected an object with {_LOCAL} and {_GLOBAL}; found {found}"
        )
        new = {}
    local = _rotary_at(settings, f"{_NEW}.{_LOCAL}", new.get(_LOCAL) or {}, local_base)
    key, parameters = f"{_NEW}.{_GLOBAL}", new.get(_GLOBAL)
    _check_one_layout(settings, scaling, parameters, key)
    if scaling is not None:
        return local, _rotary_at(settings, _OLD, scaling, base)
    return local, _rotary_at(settings, key, parameters or {}, base)


# Any: values of JSON.
def _check_one_layout(settings: Settings, old: Any, new: Any, key: str) -> None:
    """Say that a rotation stands there twice, and not the same: one of both would be read over."""
    if old is not None and new is not None and old != new:
        settings.fault(key, f"expected nothing beside {_OLD}; found {short(new)}")


# Any: values of JSON.
def _rotary_at(settings: Settings, key: str, parameters: Any, base: float) -> Rotary:
    """A rotation by its parameters, whose faults are those of the settings."""
    # A length that the parameters may leave out.
    length = settings.value("max_position_embeddings")
    if not isinstance(parameters, dict):
        settings.fault(key, f"expected an object or null; found {short(parameters)}")
        return Rotary(base)
    inner = Settings({_LENGTH: length, **parameters}, where=f"config.json: {key}.")
    inner.only("partial_rotary_factor", 1.0)
    base = inner.number("rope_theta", base)
    scaling = _scaling_of(inner)
    # What is left over counts where the kind is known.
    settings.faults += inner.faults or inner.check()
    return Rotary(base, scaling=scaling)


def _scaling_of(inner: Settings) -> RotaryScaling | None:
    """How the rotation is slowed down, if it is."""
    kind = inner.value("rope_type", inner.value("type", "default"))
    if kind == "linear":
        inner.value(_LENGTH)
        return LinearScaling(inner.number("factor"))
    if kind == "llama3":
        return Llama3Scaling(
            inner.number("factor"),
            low_freq_factor=inner.number("low_freq_factor"),
            high_freq_factor=inner.number("high_freq_factor"),
            original_length=inner.integer(_LENGTH),
        )
    if kind == "yarn":
        return YarnScaling(
            inner.number("factor"),
            inner.integer(_LENGTH),
            beta_fast=inner.number("beta_fast", 32.0),
            beta_slow=inner.number("beta_slow", 1.0),
            attention_factor=inner.optional_number("attention_factor"),
        )
    if kind != "default":
        inner.fault(
            "rope_type",
            f"expected default, linear, llama3 or yarn; found {short(kind)}",
        )
    inner.value(_LENGTH)
    return None


# Any: values of JSON.
def rope_settings(rotary: Rotary) -> dict[str, Any]:
    """What a `config.json` says of a rotation: the inverse of `rotary_of`.

    Raises:
        CheckpointError: It has no words for it.
    """
    if rotary.fraction != 1.0 or rotary.pairs != "halves":
        what = "a config.json has no words for a part of the features, or for pairs of neighbours"
        raise CheckpointError("cannot write config.json", [Fault(what, path="rotary")])
    return {"rope_theta": rotary.base, _OLD: _scaling_settings(rotary.scaling)}


# Any: values of JSON.
def local_and_global_settings(local: Rotary, rotary: Rotary) -> dict[str, Any]:
    """The inverse of `local_and_global_rotary_of`.

    Raises:
        CheckpointError: A `config.json` has no words for one of them.
    """
    if local.scaling is not None:
        what = "a config.json has no words for a scaling of layers with a window"
        fault = Fault(what, path="local_rotary.scaling")
        raise CheckpointError("cannot write config.json", [fault])
    local_base = rope_settings(local)["rope_theta"]
    return {**rope_settings(rotary), "rope_local_base_freq": local_base}


# Any: values of JSON.
def _scaling_settings(scaling: RotaryScaling | None) -> dict[str, Any] | None:
    """The part for how it is slowed down."""
    if scaling is None:
        return None
    if isinstance(scaling, LinearScaling):
        return {"rope_type": "linear", "factor": scaling.factor}
    if isinstance(scaling, Llama3Scaling):
        return {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            _LENGTH: scaling.original_length,
        }
    if isinstance(scaling, YarnScaling):
        settings = {
            "rope_type": "yarn",
            "factor": scaling.factor,
            "beta_fast": scaling.beta_fast,
            "beta_slow": scaling.beta_slow,
            _LENGTH: scaling.original_length,
        }
        if scaling.attention_factor is not None:
            settings["attention_factor"] = scaling.attention_factor
        return settings
    what = f"a config.json has no words for {with_article(type(scaling).__name__)}"
    fault = Fault(what, path="rotary.scaling")
    raise CheckpointError("cannot write config.json", [fault])
