"""The nine wrong plans of `docs/sharding_compared.md` in flax.nnx, over eight devices: prints what it says of each."""

import importlib
from typing import Any

import jax
import optax

nnx: Any = importlib.import_module("flax.nnx")

GOOD = (("embed", "data"), ("mlp", "model"))
WRONG: dict[str, dict[str, Any]] = {
    "a mesh axis is misspelt": {"rules": (("embed", "data"), ("mlp", "modle"))},
    "a name is misspelt in the rules": {"rules": (("embed", "data"), ("mpl", "model"))},
    "a name has no rule": {"rules": (("embed", "data"),)},
    "a size is not divided": {"hidden": 33},
    "a mesh axis splits two axes": {"rules": (("embed", "model"), ("mlp", "model"))},
    "there are more names than axes": {"up": ("embed", "mlp", "extra")},
    "a rule is of no use": {"rules": (*GOOD, ("vocab", "data"))},
    "two rules disagree": {"rules": (*GOOD, ("mlp", None))},
    "a mesh axis of activations is misspelt": {"rules": (*GOOD, ("batch", "dta"))},
}


def create(mesh: jax.sharding.Mesh, rules: Any = GOOD, hidden: int = 32, up: tuple[str, ...] = ("embed", "mlp")) -> Any:
    """A model as the page makes it, and its optimizer."""

    def make() -> Any:
        init = nnx.initializers.lecun_normal()
        rngs = nnx.Rngs(0)
        first = nnx.with_partitioning(init, up)
        second = nnx.with_partitioning(init, ("mlp", "embed"))
        return nnx.List(
            [
                nnx.Linear(8, hidden, use_bias=False, kernel_init=first, rngs=rngs),
                nnx.Linear(hidden, 8, use_bias=False, kernel_init=second, rngs=rngs),
            ]
        )

    with jax.set_mesh(mesh), nnx.logical_axis_rules(rules):
        model = nnx.jit(make)()
        nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
    return model


def main() -> None:
    """Print the number of each mistake, and what flax.nnx says, or the layout of the first weight."""
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    for number, (mistake, options) in enumerate(WRONG.items(), start=1):
        try:
            spec = create(mesh, **options)[0].kernel.get_value().sharding.spec
            print(f"{number}. {mistake}: nothing; the first weight is laid out by {spec}")
        except Exception as error:  # JAX's have no class in common
            print(f"{number}. {mistake}: {type(error).__name__}\n   {error}")


if __name__ == "__main__":
    main()
