"""The draws of `jax.random` as methods: `rngs.normal((2, 3))` is `jax.random.normal(rngs(), (2, 3))`.

One table for all, from JAX's own functions, so that arguments and defaults are those of
the JAX that is installed. Type checkers see each signature without the key.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    ParamSpec,
    Protocol,
    overload,
)

import jax

P = ParamSpec("P")

if TYPE_CHECKING:

    class Draw(Protocol[P]):
        """A method with the arguments of a function of `jax.random` after its key."""

        @overload
        def __get__(
            self, source: None, owner: type, /
        ) -> Callable[Concatenate[Any, P], jax.Array]: ...
        @overload
        def __get__(
            self, source: object, owner: type | None = None, /
        ) -> Callable[P, jax.Array]: ...


# Any: JAX's versions type a key differently, and two functions do not say what they
# return.
def _draw(function: Callable[Concatenate[Any, P], Any]) -> "Draw[P]":
    """The method that calls a function of `jax.random` with the next key."""
    name = str(getattr(function, "__name__", function))
    signature = inspect.signature(function)
    key, *parameters = signature.parameters.values()
    itself = key.replace(name="self", annotation=inspect.Parameter.empty)

    def method(self: "Draws", /, *args: Any, **kwargs: Any) -> Any:
        """A draw; takes the name of JAX's function."""
        return self._draw_with(function, args, kwargs)

    # A function, as `help`, documentation and the rules of class bodies know methods:
    # `Draw` is what type checkers make of it. Any: as they do not, here.
    own: Any = method
    own.__name__, own.__qualname__ = name, f"Draws.{name}"
    own.__doc__ = f"`jax.random.{name}` with the next key, and its other arguments."
    own.__signature__ = signature.replace(parameters=[itself, *parameters])
    return own  # type: ignore[no-any-return]


class Draws:
    """What has keys to draw with: the functions of `jax.random` that take one, without it."""

    def _draw_with(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Call a function of `jax.random` with the next key and these arguments."""
        raise NotImplementedError

    ball: Final = _draw(jax.random.ball)
    bernoulli: Final = _draw(jax.random.bernoulli)
    beta: Final = _draw(jax.random.beta)
    binomial: Final = _draw(jax.random.binomial)
    bits: Final = _draw(jax.random.bits)
    categorical: Final = _draw(jax.random.categorical)
    cauchy: Final = _draw(jax.random.cauchy)
    chisquare: Final = _draw(jax.random.chisquare)
    choice: Final = _draw(jax.random.choice)
    dirichlet: Final = _draw(jax.random.dirichlet)
    double_sided_maxwell: Final = _draw(jax.random.double_sided_maxwell)
    exponential: Final = _draw(jax.random.exponential)
    f: Final = _draw(jax.random.f)
    gamma: Final = _draw(jax.random.gamma)
    generalized_normal: Final = _draw(jax.random.generalized_normal)
    geometric: Final = _draw(jax.random.geometric)
    gumbel: Final = _draw(jax.random.gumbel)
    laplace: Final = _draw(jax.random.laplace)
    loggamma: Final = _draw(jax.random.loggamma)
    logistic: Final = _draw(jax.random.logistic)
    lognormal: Final = _draw(jax.random.lognormal)
    maxwell: Final = _draw(jax.random.maxwell)
    multinomial: Final = _draw(jax.random.multinomial)
    multivariate_normal: Final = _draw(jax.random.multivariate_normal)
    normal: Final = _draw(jax.random.normal)
    orthogonal: Final = _draw(jax.random.orthogonal)
    pareto: Final = _draw(jax.random.pareto)
    permutation: Final = _draw(jax.random.permutation)
    poisson: Final = _draw(jax.random.poisson)
    rademacher: Final = _draw(jax.random.rademacher)
    randint: Final = _draw(jax.random.randint)
    rayleigh: Final = _draw(jax.random.rayleigh)
    t: Final = _draw(jax.random.t)
    triangular: Final = _draw(jax.random.triangular)
    truncated_normal: Final = _draw(jax.random.truncated_normal)
    uniform: Final = _draw(jax.random.uniform)
    wald: Final = _draw(jax.random.wald)
    weibull_min: Final = _draw(jax.random.weibull_min)


def explain(function: Callable[..., Any]) -> str:
    """For a note on an error of JAX's: which arguments a draw takes, as JAX speaks of some that nobody gave."""
    name = str(getattr(function, "__name__", function))
    signature = inspect.signature(function)
    _, *parameters = signature.parameters.values()
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in parameters
    ]
    own_signature = signature.replace(
        parameters=bare, return_annotation=inspect.Signature.empty
    )
    return f"{name}{own_signature}: the arguments of jax.random.{name} without the key; nothing was drawn"
