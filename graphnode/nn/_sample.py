"""`sample`, which draws tokens from the logits of a language model."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._compat import Tracer
from .._describe import describe
from .._errors import ContractError
from ._checks import check_array, is_number, size
from ._dtypes import at_least_float32
from ._spread import by_compiler, entries_of

Logits: TypeAlias = Float[Array, "*batch vocabulary"]
Numbers: TypeAlias = jax.Array | np.ndarray

_NAME = "gn.nn.sample"


class Choice(NamedTuple):
    """How a token is chosen, after the checks."""

    temperature: Numbers | None
    """`None` for the most probable token, whatever the others say."""
    top_k: int | None
    """`None` for all tokens."""
    top_p: Numbers | None
    """`None` for all tokens."""


def sample(
    logits: Logits,
    key: jax.Array | None = None,
    *,
    temperature: float | jax.Array = 1.0,
    top_k: int | None = None,
    top_p: float | jax.Array | None = None,
) -> jax.Array:
    """Draw a token for each row of logits.

    The logits are divided by `temperature`; of the tokens, the `top_k` most probable
    stay; and of those, with their probabilities scaled to sum to 1, the smallest set of
    most probable ones whose probability reaches `top_p` (Holtzman et al. 2020, "The
    Curious Case of Neural Text Degeneration", section 3.1). The most probable token
    always stays. Of equally probable ones, the smaller stays first. All is computed in
    at least float32.

    Args:
        logits: Of shape `[..., vocabulary]`; `-inf` for tokens that must not be drawn.
        key: What is drawn with, one key for all rows. At temperature 0, none is needed.
        temperature: At 0, the most probable token is taken; `top_k` and `top_p` then
            change nothing. A number, or an array of shape `[...]`, which may be traced.
        top_k: How many tokens stay. More than there are is all.
        top_p: A number, or an array of shape `[...]`, above 0 and at most 1.

    Returns:
        The tokens, int32 of shape `[...]`.

    Raises:
        ContractError: Logits that are not floating or have no axis of tokens; no key
            where one is needed; a temperature below 0, a `top_k` below 1, a `top_p`
            outside of (0, 1]. Of a traced array, only the shape is known: a temperature
            below 0 is then taken as 0.

    Example:
        >>> logits = jnp.log(jnp.array([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]]))
        >>> sample(logits, temperature=0.0).tolist()
        [1, 0]
        >>> sample(logits, jax.random.key(0), top_p=0.5).tolist()
        [1, 0]

    See also: `generate`, which writes whole texts.
    """
    logits = jnp.asarray(logits)
    check_logits(f"{_NAME}: logits", logits)
    choice = choice_of(_NAME, logits.shape[:-1], temperature, top_k, top_p)
    check_key(_NAME, choice, key)
    entries = entries_of(logits)

    def choose(
        logits: jax.Array,
        key: jax.Array | None,
        temperature: jax.Array | None,
        top_p: jax.Array | None,
    ) -> jax.Array:
        """The tokens of all rows."""
        return chosen(logits, key, Choice(temperature, choice.top_k, top_p))

    out = None if entries is None else entries[:-1]
    return by_compiler(choose, out, logits, key, choice.temperature, choice.top_p)


def chosen(logits: jax.Array, key: jax.Array | None, choice: Choice) -> jax.Array:
    """For `sample` and `generate`: a token for each row of logits, without any checks."""
    best = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    if choice.temperature is None:
        return best
    assert key is not None
    logits = logits.astype(at_least_float32(logits.dtype))
    temperature = _beside(choice.temperature, logits)
    is_greedy = ~(temperature > 0)
    # From the largest on: at a small temperature, positive ones would become infinite,
    # and infinity less infinity is NaN.
    logits = logits - logits.max(axis=-1, keepdims=True)
    logits = logits / jnp.where(is_greedy, 1, temperature)
    drawn = _drawn(logits, key, choice)
    return jnp.where(is_greedy[..., 0], best, drawn)


def _drawn(logits: jax.Array, key: jax.Array, choice: Choice) -> jax.Array:
    """A token for each row of logits that the temperature is in already."""
    if choice.top_k is None and choice.top_p is None:
        return jax.random.categorical(key, logits).astype(jnp.int32)
    count = logits.shape[-1]
    if choice.top_k is not None:
        count = min(count, choice.top_k)
    # The most probable first: a rank is drawn, and says the token. A threshold in its
    # place would keep all tokens that are as probable as the last one.
    logits, tokens = jax.lax.top_k(logits, count)
    if choice.top_p is not None:
        chances = jax.nn.softmax(logits, axis=-1)
        before = jnp.cumsum(chances, axis=-1) - chances
        is_kept = before < _beside(choice.top_p, logits)
        is_kept = is_kept.at[..., 0].set(True)
        logits = jnp.where(is_kept, logits, -jnp.inf)
    ranks = jax.random.categorical(key, logits)
    drawn = jnp.take_along_axis(tokens, ranks[..., None], axis=-1)[..., 0]
    return drawn.astype(jnp.int32)


def _beside(numbers: Numbers, logits: jax.Array) -> jax.Array:
    """One number for all rows, or one for each, so that it fits the logits: of shape `[..., 1]`."""
    numbers = jnp.asarray(numbers).astype(logits.dtype)
    return jnp.broadcast_to(numbers, logits.shape[:-1])[..., None]


# The checks


def check_logits(where: str, logits: jax.Array) -> None:
    """Raise if these are not logits of at least one token.

    Raises:
        ContractError: They are not floating, or have no axis of tokens.
    """
    check_array(where, logits, Logits)
    if not logits.shape[-1]:
        raise ContractError(
            f"{where}: expected logits of at least one token; found {describe(logits)}"
        )


def choice_of(
    name: str,
    batch: tuple[int, ...],
    temperature: float | jax.Array,
    top_k: int | None,
    top_p: float | jax.Array | None,
) -> Choice:
    """How a token is chosen, from what a user says.

    Args:
        name: How users write the function, for errors.
        batch: The shape of the logits, without the axis of tokens.
        temperature: As in `sample`.
        top_k: As in `sample`.
        top_p: As in `sample`.

    Raises:
        ContractError: A value that is out of range, as far as it is known.
    """
    heat = _numbers(
        f"{name}: temperature",
        temperature,
        batch,
        "a finite number of at least 0",
        lambda values: (values >= 0) & np.isfinite(values),
    )
    if top_k is not None:
        top_k = size(f"{name}: top_k", top_k)
    mass: Numbers | None = None
    if top_p is not None:
        mass = _numbers(
            f"{name}: top_p",
            top_p,
            batch,
            "a number above 0 and at most 1",
            lambda values: (values > 0) & (values <= 1),
        )
    # Not an array of zeros, which may have other values the next time: a program that
    # draws serves all of them.
    if is_number(temperature) and temperature == 0:
        return Choice(None, None, None)
    return Choice(heat, top_k, mass)


def _numbers(
    where: str,
    value: object,
    batch: tuple[int, ...],
    expected: str,
    is_good: Callable[[np.ndarray], np.ndarray],
) -> Numbers:
    """One number for all rows, or one for each, as an array.

    Raises:
        ContractError: It is neither; or it is out of range, as far as it is known.
    """
    numbers: Numbers | None = None
    if isinstance(value, (jax.Array, np.ndarray)):
        numbers = value
    elif is_number(value):
        numbers = np.asarray(value, float)
    if (
        numbers is None
        or numbers.shape not in ((), batch)
        or not jnp.issubdtype(numbers.dtype, jnp.floating)
    ):
        raise ContractError(
            f"{where}: expected {expected}, or an array of shape {batch}; found {describe(value)}"
        )
    # What is traced has no values yet.
    if not isinstance(numbers, Tracer):
        values = np.asarray(numbers, float)
        if not is_good(values).all():
            raise ContractError(
                f"{where}: expected {expected}; found {values.tolist()!r}"
            )
    return numbers


def check_key(name: str, choice: Choice, key: jax.Array | None) -> None:
    """Raise if there is no key to draw tokens with.

    Raises:
        ContractError: There is none, and the temperature is not the number 0.
    """
    if key is None and choice.temperature is not None:
        raise ContractError(
            f"{name}: key: expected one to draw tokens with, such as jax.random.key(0), or temperature=0.0 for the "
            "most probable token; found None"
        )
