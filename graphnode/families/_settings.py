"""`Settings`, what a `config.json` says: each key is asked for, and one that nobody knows is refused."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeVar

import jax

from .._errors import CheckpointError, Fault
from .._hints import did_you_mean, short
from .._registered import HUGGING_FACE
from .._static import static_key

T = TypeVar("T")
Activation = Callable[[jax.Array], jax.Array]

# Of training, of tokens, of how texts are written, of what a call gives back, and of who
# wrote the file: what a model computes of its inputs in evaluation does not depend on these.
IGNORED: Final = frozenset({
    "_attn_implementation_autoset", "_commit_hash", "_name_or_path", "_sliding_window_pattern", "architectures",
    "attention_dropout", "attention_probs_dropout_prob", "attn_implementation", "bad_words_ids",
    "begin_suppress_tokens", "bos_token_id", "cache_implementation", "chunk_size_feed_forward", "classifier_dropout",
    "decoder_start_token_id", "diversity_penalty", "do_sample", "dtype", "early_stopping",
    "encoder_no_repeat_ngram_size", "eos_token_id", "exponential_decay_length_penalty", "finetuning_task",
    "forced_bos_token_id", "forced_decoder_ids", "forced_eos_token_id", "gradient_checkpointing",
    "hidden_dropout_prob", "id2label", "initializer_range", "keys_to_ignore_at_inference", "label2id",
    "length_penalty", "max_length", "min_length", "model_type", "no_repeat_ngram_size", "num_beam_groups",
    "num_beams", "num_return_sequences", "output_attentions", "output_hidden_states", "output_past", "output_scores",
    "pad_token_id", "prefix", "pretraining_tp", "problem_type", "remove_invalid_values", "repetition_penalty",
    "return_dict", "return_dict_in_generate", "sep_token_id", "suppress_tokens", "task_specific_params",
    "temperature", "tokenizer_class", "top_k", "top_p", "torch_dtype", "torchscript", "transformers_version",
    "typical_p", "unk_token_id", "use_cache",
})  # fmt: skip
"""The keys of all families that are read over."""


class _Required:
    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED: Final = _Required()
"""In place of a default: the key has to be there."""


class Settings:
    """What a `config.json` says, for `from_config` of a `Family`.

    Each method asks for one key. What is wrong is collected, and told at once when all was
    asked for; a method then gives a value to go on with.

    Args:
        config: The settings, as JSON has them.
        where: What stands before their keys in messages.

    Attributes:
        faults: What was wrong so far.
    """

    # Any: values of JSON.
    def __init__(
        self, config: Mapping[str, Any], *, where: str = "config.json: "
    ) -> None:
        self._config = config
        self._where = where
        self._known: set[str] = set()
        self.faults: list[Fault] = []

    # Any: a value of JSON, or a default.
    def value(self, key: str, default: Any = None) -> Any:
        """Whatever stands at a key; the default, where there is nothing, or null."""
        self._known.add(key)
        value = self._config.get(key)
        return default if value is None else value

    def fault(self, key: str, what: str, hint: str = "") -> None:
        """Say what is wrong with the value of a key."""
        self.faults.append(Fault(what, path=f"{self._where}{key}", hint=hint))

    def _checked(
        self,
        key: str,
        # Any: of the type that the method has.
        default: Any,
        expected: str,
        is_right: Callable[[Any], bool],
        substitute: Any,
    ) -> Any:
        """A value that is right; else a fault, and something to go on with."""
        value = self.value(key)
        if value is None:
            if default is not REQUIRED:
                return default
            self.fault(key, f"expected {expected}; found nothing")
        elif is_right(value):
            return value
        else:
            self.fault(key, f"expected {expected}; found {short(value)}")
        return substitute

    def integer(self, key: str, default: "int | _Required" = REQUIRED) -> int:
        """A positive integer."""
        result: int = self._checked(
            key, default, "a positive integer", lambda value: _is_integer(value), 1
        )
        return result

    def optional_integer(self, key: str) -> int | None:
        """A positive integer, or `None` where there is none."""
        result: int | None = self._checked(
            key, None, "a positive integer or null", lambda value: _is_integer(value), 1
        )
        return result

    def number(self, key: str, default: "float | _Required" = REQUIRED) -> float:
        """A positive number."""
        return float(
            self._checked(key, default, "a positive number", _is_positive, 1.0)
        )

    def optional_number(self, key: str, default: float | None = None) -> float | None:
        """A positive number; `None` where there is null, and the default where there is nothing."""
        if self._config.get(key, default) is None:
            self._known.add(key)
            return None
        return self.number(key, REQUIRED if default is None else default)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        result: bool = self._checked(
            key,
            default,
            "true or false",
            lambda value: isinstance(value, bool),
            default,
        )
        return result

    def only(self, key: str, *values: object) -> None:
        """Refuse all but some values of a key, which stand for what the model does anyway.

        Args:
            key: The key, which may be missing, or null.
            *values: What it may have.
        """
        value = self.value(key)
        if value is None or any(type(value) is type(v) and value == v for v in values):
            return
        expected = " or ".join([*map(short, values), "null"])
        self.fault(
            key,
            f"expected {expected}, as the model has nothing else; found {short(value)}",
        )

    def activation(self, key: str, default: str) -> Activation:
        """A function of `jax.nn`, or as it is there; by the names of `gn.config.HUGGING_FACE`."""
        value = self.value(key, default)
        if isinstance(value, str) and value in HUGGING_FACE:
            return HUGGING_FACE[value]
        names = ", ".join(HUGGING_FACE)
        self.fault(
            key,
            f"expected one of {names}; found {short(value)}",
            did_you_mean(value, HUGGING_FACE),
        )
        return HUGGING_FACE[default]

    def architecture(self, *names: str) -> str:
        """The class that the model has in `transformers`, by which its heads are known.

        Args:
            names: What it may be; the first, where nothing is said.
        """
        value = self.value("architectures", [names[0]])
        if isinstance(value, list) and len(value) == 1 and value[0] in names:
            return str(value[0])
        found = ", ".join(map(str, value)) if isinstance(value, list) else short(value)
        expected = " or ".join(names)
        self.fault(
            "architectures",
            f"expected {expected}, as the family has no other heads; found {found}",
        )
        return names[0]

    def check(self, ignore: Collection[str] = ()) -> list[Fault]:
        """All faults: of the values, and of the keys that nobody has asked for and that say something.

        Args:
            ignore: Further keys that are read over.
        """
        known = self._known | IGNORED | set(ignore)
        unknown = [
            key
            for key, value in self._config.items()
            if key not in known and value is not None
        ]
        hint = "ignore= leaves out a key that says nothing of what the model computes"
        others = [
            Fault(
                f"the family does not know this key; found {short(self._config[key])}",
                path=f"{self._where}{key}",
                hint=did_you_mean(key, self._known - set(self._config)) or hint,
            )
            for key in unknown
        ]
        return [*self.faults, *others]


def activation_name(act: Activation, usual: str) -> str:
    """The name of an activation in a `config.json`: the inverse of `Settings.activation`.

    Args:
        act: The function.
        usual: Which of its names it gets, if it has several.

    Raises:
        CheckpointError: It has none.
    """
    # A node keeps copies of functions with arguments, which other code could write to.
    key = static_key(act)
    for name in (usual, *HUGGING_FACE):
        if static_key(HUGGING_FACE[name]) == key:
            return name
    what = f"expected one of {', '.join(HUGGING_FACE)}; found another function"
    raise CheckpointError("cannot write config.json", [Fault(what, path="act")])


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_positive(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 0 < value < math.inf
