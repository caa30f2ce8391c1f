"""`gn.jit` compiles functions, methods and callable nodes, with the arguments that `jax.jit` takes."""

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import graphnode as gn
from graphnode import ParamState, ShortTermState


class Scale(gn.Node):
    """Counts what it scales."""

    weight: ParamState[Any]
    calls: ShortTermState[Any]
    lower: int = 0  # also the name of a method of what jit gives

    def __call__(self, x: Any, *, twice: bool = False) -> Any:
        """Scale `x`."""
        self.calls.value += 1
        return x * self.weight.value * (2 if twice else 1)

    def method(self, x: Any, power: int = 1) -> Any:
        self.calls.value += 1
        return x * self.weight.value**power

    @gn.jit
    def compiled(self, x: Any, by: Any = 1.0) -> Any:
        """Compiled in the class."""
        self.calls.value += 1
        return x * self.weight.value * by

    @gn.jit(static_argnums=1, static_argnames="twice", donate=True)
    def powered(self, power: int, twice: bool = False) -> Any:
        self.calls.value += 1
        return self.weight.value ** (power * (2 if twice else 1))

    @staticmethod
    @gn.jit
    def double(x: Any) -> Any:
        return 2 * x


class Wide(Scale):
    # A method, where it had a Jitted.
    def compiled(self, x: Any, by: Any = 1.0) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return Scale.compiled(self, x, by) + 100.0


def scale(value: float = 3.0) -> Scale:
    return Scale(ParamState(jnp.float32(value)), ShortTermState(jnp.int32(0)))


def apply(model: Scale, x: Any, /, *rest: Any, power: int = 1, **named: Any) -> Any:
    """Everything a signature may have."""
    model.calls.value += 1
    for one in (*rest, *named.values()):
        x = x + one
    return x * model.weight.value**power


# What is compiled


def test_a_decorator_with_and_without_arguments():
    """`@gn.jit`, `@gn.jit()`, `@gn.jit(...)` and `gn.jit(f, ...)` give the same kind of function."""

    def step(x: Any) -> Any:
        return x + 1.0

    made: list[Any] = [gn.jit(step), gn.jit()(step), gn.jit(donate=True)(step), gn.jit(step, inline=True)]
    made += [gn.jit(step, keep_unused=True), gn.jit(donate_argnums=(), static_argnames=())(step)]
    assert [type(one) for one in made] == [gn.Jitted] * len(made)
    assert [float(one(1.0)) for one in made] == [2.0] * len(made)


def test_what_jit_gives_looks_like_the_function():
    """Name, docstring, module, signature and source are those of the function."""
    made: Any = gn.jit(apply)
    assert made.__name__ == "apply"
    assert made.__doc__ == "Everything a signature may have."
    assert made.__module__ == __name__
    assert made.__wrapped__ is apply
    assert inspect.signature(made) == inspect.signature(apply)
    assert inspect.getsource(inspect.unwrap(made)) == inspect.getsource(apply)


def test_every_kind_of_argument():
    """Positional-only, further positional, defaults, keywords and further keywords arrive where they belong."""
    model, run = scale(), gn.jit(apply, static_argnames="power")
    assert run(model, 2.0) == 6.0
    assert run(model, 2.0, 1.0, jnp.float32(3)) == 18.0
    assert run(model, 2.0, power=2) == 18.0
    assert run(model, 2.0, 1.0, power=2, b=1.0, a=2.0) == 54.0
    assert model.calls.value == 4


def test_a_callable_node_is_an_argument_of_its_call():
    """Compiling a node compiles its `__call__`; what it writes is in the node."""
    model = scale()
    run = gn.jit(model, static_argnames="twice")
    assert run(2.0) == 6.0
    assert run(2.0, twice=True) == 12.0
    assert model.calls.value == 2
    model.weight.value = jnp.float32(5)
    assert run(2.0) == 10.0
    assert run.__doc__ == Scale.__doc__


def test_fields_of_a_node_do_not_hide_what_jit_gives():
    """A field called `lower` does not stand in the way of `Jitted.lower`."""
    run = gn.jit(scale())
    assert len(jax.tree.leaves(run.lower(2.0).out_info)) == 2


def test_a_bound_method_is_compiled_with_its_node():
    """`gn.jit(model.method)` writes to the model."""
    model = scale()
    run = gn.jit(model.method, static_argnums=1)
    assert run(2.0) == 6.0
    assert run(2.0, 2) == 18.0
    assert run(2.0, power=3) == 54.0
    assert model.calls.value == 3


def test_a_method_compiled_in_its_class():
    """`@gn.jit` in a class is a method: of instances, called through the class, and through super."""
    model, wide = scale(), Wide(ParamState(jnp.float32(1)), ShortTermState(jnp.int32(0)))
    assert model.compiled(2.0) == 6.0
    assert model.compiled(2.0, by=2.0) == 12.0
    assert Scale.compiled(model, 2.0, 2.0) == 12.0
    assert wide.compiled(2.0) == 102.0
    assert model.powered(2) == 9.0
    assert model.powered(2, twice=True) == 81.0
    # Checkers take it for a method.
    double: Any = model.double
    assert double(2.0) == Scale.double(2.0) == 4.0
    assert (model.calls.value, wide.calls.value) == (5, 1)
    assert model.compiled.__doc__ == "Compiled in the class."


def test_a_method_of_a_plain_object_is_a_function():
    """A bound method of something that is not a node is compiled as it is, and its object is not an argument."""

    class Trainer:
        def __init__(self, rate: float) -> None:
            self.rate = rate

        def step(self, model: Scale) -> None:
            model.weight.value -= self.rate

        @gn.jit(static_argnums=0)
        def compiled(self, model: Scale) -> None:
            model.weight.value -= self.rate

    model, slow, fast = scale(3), Trainer(0.5), Trainer(1.0)
    first, second = gn.jit(slow.step), gn.jit(fast.step)
    first(model), second(model), first(model)
    assert model.weight.value == 1.0
    slow.compiled(model), fast.compiled(model)
    assert model.weight.value == -0.5


def test_partials_and_lambdas_are_functions():
    """What has no name or signature of its own is compiled too."""
    model = scale()
    assert gn.jit(functools.partial(apply, power=2))(model, 2.0) == 18.0
    assert gn.jit(lambda model: model(1.0))(model) == 3.0
    assert gn.jit(jnp.add)(1.0, 2.0) == 3.0


@pytest.mark.wrong_types
def test_what_cannot_be_called_is_refused():
    """Jit takes a function, a method or a callable node."""
    for wrong, found in ((3, "int 3"), (Plain(1), "a Plain")):
        with pytest.raises(TypeError) as caught:
            gn.jit(wrong)  # type: ignore[call-overload]  # ty: ignore[invalid-argument-type]
        assert str(caught.value) == f"gn.jit takes a function, a method or a callable node; found {found}"


class Plain(gn.Node):
    size: int


def test_the_compiled_program_has_the_name_of_the_function():
    """Profiles and logs of XLA show the user's function, with and without donation."""
    for donate in (False, True):
        assert "@jit_apply" in gn.jit(apply, donate=donate).lower(scale(), 1.0).as_text()


def test_options_reach_jax():
    """`keep_unused` and `inline` do what they do in jax.jit."""

    def unused(x: Any, y: Any) -> Any:
        return x

    kept, dropped = (gn.jit(unused, keep_unused=keep).lower(1.0, 2.0).compile() for keep in (True, False))
    assert len(jax.tree.leaves(kept.input_shardings)) == 2
    assert len(jax.tree.leaves(dropped.input_shardings)) == 1
    for inline in (True, False):
        ours, jaxs = (jit(lambda x: x + 1, inline=inline) for jit in (gn.jit, jax.jit))
        inner, plain = (jax.make_jaxpr(lambda x, run=run: run(x))(1.0) for run in (ours, jaxs))
        assert [str(one.primitive) for one in inner.eqns] == [str(one.primitive) for one in plain.eqns]


def test_clearing_the_cache_traces_again():
    """`clear_cache` forgets what was compiled."""
    traces: list[int] = []

    @gn.jit
    def step(x: Any) -> Any:
        traces.append(1)
        return x

    step(1.0), step(2.0)
    assert len(traces) == 1
    step.clear_cache()
    step(1.0)
    assert len(traces) == 2


# Static arguments


STATIC: dict[str, tuple[dict[str, Any], Callable[[Any, Scale], Any]]] = {
    "number": ({"static_argnums": 2}, lambda run, model: run(model, 2.0, 3)),
    "number, by name": ({"static_argnums": (2,)}, lambda run, model: run(model, 2.0, n=3)),
    "negative": ({"static_argnums": -1}, lambda run, model: run(model, 2.0, 3)),
    "negative, by name": ({"static_argnums": [-1]}, lambda run, model: run(model, x=2.0, n=3)),
    "name": ({"static_argnames": "n"}, lambda run, model: run(model, 2.0, n=3)),
    "name, by position": ({"static_argnames": ("n",)}, lambda run, model: run(model, 2.0, 3)),
    "both": ({"static_argnums": 2, "static_argnames": ["n"]}, lambda run, model: run(model, n=3, x=2.0)),
    "default": ({"static_argnames": "n"}, lambda run, model: run(model, 2.0)),
}


def repeat(model: Scale, x: Any, n: int = 3) -> Any:
    assert type(n) is int
    model.calls.value += n
    return x * n


@pytest.mark.parametrize("case", STATIC)
def test_static_arguments_by_number_and_name(case: str):
    """A static argument arrives as it is, however it is named and given."""
    options, run = STATIC[case]
    model = scale()
    assert run(gn.jit(repeat, **options), model) == 6.0
    assert model.calls.value == 3


@pytest.mark.parametrize("options", [{"static_argnums": 1}, {"static_argnums": -1}, {"static_argnames": "n"}], ids=str)
def test_static_arguments_of_bound_methods_are_counted_without_the_node(options: dict[str, Any]):
    """Positions are those that the caller sees: the node of a bound method is none of them."""

    class Local(gn.Node):
        weight: ParamState[Any]

        def power(self, x: Any, n: int) -> Any:
            assert type(n) is int
            return x * self.weight.value**n

    assert gn.jit(Local(ParamState(jnp.float32(2))).power, **options)(1.0, 3) == 8.0


def test_static_arguments_differ_by_type_and_value():
    """`1`, `True` and `1.0` are three; equal strings and equal arrays are one."""
    seen: list[Any] = []

    @gn.jit(static_argnums=0)
    def step(option: Any) -> int:
        seen.append(option)
        return len(seen)

    for option in (1, True, 1.0, 1, True, 1.0, (1,), (True,), "a", "".join(["a"]), None):
        step(option)
    assert [repr(one) for one in seen] == ["1", "True", "1.0", "(1,)", "(True,)", "'a'", "None"]
    step(np.ones(2)), step(np.ones(2))
    assert len(seen) == 8


def test_a_static_array_counts_as_it_is_at_the_call():
    """One of NumPy may be written to between two calls; what was compiled keeps the content of before."""
    mask = np.array([1, 2], np.float32)
    scaled = gn.jit(lambda x, mask: x * mask.sum(), static_argnames="mask")
    masked = gn.custom_vjp(lambda x, mask: x * mask, nondiff_argnums=(1,))
    masked.defvjp(lambda x, mask: (x * mask, None), lambda mask, _, ct: (ct * mask,))
    assert float(scaled(1.0, mask=mask)) == 3
    assert masked(jnp.ones(2), mask.copy()).tolist() == [1, 2]
    mask[0] = 10
    assert float(scaled(1.0, mask=mask)) == 12
    assert scaled(jnp.ones(1), mask=np.array([1, 2], np.float32)).tolist() == [3]
    own = np.ones(2, np.float32)
    masked(jnp.ones(2), own)
    own[:] = 5
    assert masked(jnp.ones(2), np.ones(2, np.float32)).tolist() == [1, 1]

    rounds = np.array(1)
    counted = []
    for _ in range(3):
        counted.append(int(gn.fori_loop(0, rounds, lambda _, count: count + 1, 0)))
        rounds += 1
    assert counted == [1, 2, 3]


def test_static_arguments_that_cannot_be_are_refused():
    """What is not hashable, traced, or a node is refused by its name."""
    run = gn.jit(repeat, static_argnames="n")
    with pytest.raises(gn.FieldError) as caught:
        run(scale(), 1.0, [3])  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    assert str(caught.value) == "the static argument n: a list ([3]) is not hashable: write a tuple"
    with pytest.raises(gn.FieldError) as caught:
        run(scale(), 1.0, n={"a": 1})  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    assert str(caught.value) == "the static argument n: a dict ({'a': 1}) is not hashable: write a tuple of pairs"
    with pytest.raises(gn.FieldError, match=r"^the static argument n is a Scale: a node is passed as arrays are$"):
        run(scale(), 1.0, scale())  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    with pytest.raises(gn.FieldError, match=r"^the static argument n: a traced value .* cannot be static"):
        jax.jit(lambda n: run(scale(), 1.0, n))(3)


UNKNOWN: list[tuple[dict[str, Any], str]] = [
    ({"static_argnums": 3}, "3"),
    ({"static_argnums": (0, -4)}, "-4"),
    ({"static_argnames": "m"}, "'m'"),
    ({"donate_argnums": 5}, "5"),
    ({"donate_argnames": ("x", "y", "m")}, "'m', 'y'"),
    ({"static_argnums": 7, "static_argnames": "m"}, "7, 'm'"),
]


@pytest.mark.parametrize(("options", "shown"), UNKNOWN, ids=str)
def test_a_name_or_position_of_no_argument_is_refused(options: dict[str, Any], shown: str):
    """A misspelt option is an error where the function is wrapped."""

    def plain(model, x, n=3):
        return x

    with pytest.raises(ValueError) as caught:
        gn.jit(plain, **options)
    assert str(caught.value) == f"plain has no argument {shown}: it takes (model, x, n=3)"


def test_further_arguments_may_be_static():
    """With `*args` and `**kwargs` any position and name may be given."""

    def many(*args: Any, **kwargs: Any) -> int:
        assert type(args[1]) is type(kwargs["k"]) is int
        return args[1] + int(kwargs["k"])

    assert gn.jit(many, static_argnums=1, static_argnames="k")(1.0, 2, k=3) == 5


# Arguments of a wrong type


def test_an_argument_that_jax_does_not_take_is_named():
    """What is not an array, number or node is named by its argument and place; all of them at once."""

    @gn.jit
    def step(x: Any, *rest: Any, **named: Any) -> None:
        pass

    with pytest.raises(TypeError) as caught:
        step({"q": "text"}, 1.0, object, k=[1.0, print])
    assert str(caught.value) == (
        "gn.jit takes arrays, numbers and nodes; x['q'] is str 'text', rest[1] is the class object, k[1] is "
        "builtin_function_or_method <built-in function print>: make it a static argument, or a static field of a node"
    )


def test_a_state_that_holds_no_array_is_named():
    """A State whose value JAX does not take is named by its argument and path."""
    model = scale()
    model.calls.value = "text"
    for donate in (False, True):
        with pytest.raises(TypeError) as caught:
            gn.jit(lambda model: model.weight.value, donate=donate)(model)
        with pytest.raises(TypeError) as lowering:
            gn.jit(lambda model: model.weight.value, donate=donate).lower(model)
        assert str(lowering.value) == str(caught.value)
        assert str(caught.value) == (
            "gn.jit takes arrays, numbers and nodes; model.calls holds str 'text': make it a static argument, or a "
            "static field of a node"
        )


def test_a_type_error_of_the_function_is_its_own():
    """An error that the function raises itself passes through."""

    @gn.jit
    def step(x: Any) -> None:
        raise TypeError("of the function")

    with pytest.raises(TypeError, match=r"^of the function"):
        step(1.0)


def test_wrong_arguments_are_told_by_python():
    """Too many, too few and unknown arguments are what they are for a plain function."""
    run: Any = gn.jit(repeat)
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'x'"):
        run(scale())
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'y'"):
        run(scale(), 1.0, y=2.0)


# Threads


def test_threads_may_call_one_function_at_once():
    """Each thread's node gets its own writes, whichever compiles first."""
    models = [scale(float(at)) for at in range(8)]
    results: list[Any] = [None] * len(models)
    start = threading.Barrier(len(models))

    @gn.jit(donate=True)
    def step(model: Scale, x: Any) -> Any:
        model.weight.value = model.weight.value + x
        return model, model.weight.value * 2

    def work(at: int) -> None:
        start.wait()
        for _ in range(20):
            results[at] = step(models[at], 1.0)

    threads = [threading.Thread(target=work, args=(at,)) for at in range(len(models))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [float(model.weight.value) for model in models] == [at + 20.0 for at in range(len(models))]
    assert [float(result[1]) for result in results] == [2 * (at + 20.0) for at in range(len(models))]
    assert [result[0] is model for result, model in zip(results, models, strict=True)] == [True] * len(models)


@pytest.mark.parametrize("transform", ["jit", "remat", "eval_shape", "checkify"])
def test_a_result_that_is_no_array_is_told(transform: str):
    """By the user's function, and the path below its result; JAX would name what stands between."""

    def describe(x: Any) -> Any:
        return {"name": "abc", "x": x, "f": describe}

    calls: dict[str, Callable[[], Any]] = {
        "jit": lambda: gn.jit(describe)(1.0),
        "remat": lambda: gn.remat(describe)(1.0),
        "eval_shape": lambda: gn.eval_shape(describe, 1.0),
        "checkify": lambda: gn.checkify(describe)(1.0),
    }
    with pytest.raises(TypeError) as caught:
        calls[transform]()
    start, name, function = str(caught.value).splitlines()
    assert start == f"gn.{transform}: describe must return arrays, numbers and nodes: 2 faults:"
    assert function == "  result['name'] is str 'abc'"
    assert name.startswith("  result['f'] is function <function test_a_result_that_is_no_array_is_told.<locals>")


def test_what_is_not_differentiated_may_be_anything():
    """As in JAX, an auxiliary result is handed on as it is."""
    assert gn.grad(lambda x: (x, "abc"), has_aux=True)(1.0)[1] == "abc"


@pytest.mark.parametrize(
    "options",
    [
        {"static_argnums": 1, "donate_argnums": 1},
        {"static_argnums": 1, "donate_argnums": (0, -2)},
        {"static_argnames": "x", "donate_argnums": 1},
        {"static_argnums": 1, "donate_argnames": "x"},
    ],
    ids=str,
)
def test_an_argument_is_not_both_static_and_donated(options: dict[str, Any]):
    """As in JAX, which refuses it where the function is wrapped."""

    def step(model: Any, x: Any, n: int) -> None:
        pass

    with pytest.raises(ValueError) as caught:  # the text follows
        gn.jit(step, **options)
    assert str(caught.value) == (
        "gn.jit: x of step is both static and donated: a static argument has no memory to donate"
    )


def test_a_further_positional_argument_is_not_both_either():
    """Where no name is known, the position is told."""
    with pytest.raises(ValueError, match=r"^gn\.jit: 2 of <lambda> is both static and donated: "):
        gn.jit(lambda *args: None, static_argnums=2, donate_argnums=(1, 2))


class Charge(ParamState):
    """A State that can be asked, and called."""

    def energy(self, x: Any) -> Any:
        return self.value * x

    def __call__(self, x: Any) -> Any:
        return self.value * x

    def add(self, x: Any) -> None:
        self.value = self.value + x


def test_the_state_of_a_method_is_an_argument():
    """A method of a State, and a State that is called: later values count, and what is written arrives."""
    charge = Charge(jnp.float32(2))
    energy, called, slope = gn.jit(charge.energy), gn.jit(charge), gn.grad(charge.energy)
    assert energy(3.0) == called(3.0) == 6
    gn.jit(charge.add)(2.0)
    assert charge.value == slope(3.0) == 4
    assert energy(3.0) == called(3.0) == 12
