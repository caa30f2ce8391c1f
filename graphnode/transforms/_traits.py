"""What tells the transforms apart, beside what each of them does: one row for each."""

from collections.abc import Mapping
from typing import Final, NamedTuple


class Traits(NamedTuple):
    """How a transform treats the function that it is given.

    Attributes:
        is_eager: It runs the function at every call, so that a callable object without
            a hash, which may change, is welcome: nothing traced of it is kept.
        only_arrays: The function can return only what JAX computes with. The other
            transforms pass on as it is what is not differentiated, or not mapped.
        is_abstract: It gives the structure of a result, and no node to write to.
        is_kept: What is traced inside of another trace serves other places, too, where
            the nodes have other names.
        takes_python: An argument in which there are no arrays and nodes stays what it is.
    """

    is_eager: bool = False
    only_arrays: bool = False
    is_abstract: bool = False
    is_kept: bool = False
    takes_python: bool = False


# By the name that call sites have, which is that of the public function.
TRAITS: Final[Mapping[str, Traits]] = {
    "associative_scan": Traits(only_arrays=True),
    "capture": Traits(only_arrays=True, takes_python=True),
    "capture_grads": Traits(only_arrays=True, takes_python=True),
    "checkify": Traits(is_eager=True, only_arrays=True),
    "cond": Traits(only_arrays=True),
    "custom_jvp": Traits(),
    "custom_vjp": Traits(),
    "eval_shape": Traits(only_arrays=True, is_abstract=True),
    "fori_loop": Traits(only_arrays=True),
    "grad": Traits(is_eager=True),
    "hessian": Traits(is_eager=True),
    "intervene": Traits(only_arrays=True, takes_python=True),
    "jacfwd": Traits(is_eager=True),
    "jacrev": Traits(is_eager=True),
    "jit": Traits(only_arrays=True, is_kept=True),
    "jvp": Traits(is_eager=True),
    "linearize": Traits(is_eager=True),
    "make_jaxpr": Traits(only_arrays=True, is_abstract=True),
    "remat": Traits(only_arrays=True, is_kept=True),
    "scan": Traits(only_arrays=True),
    "shard_map": Traits(),
    "switch": Traits(only_arrays=True),
    "value_and_grad": Traits(is_eager=True),
    "vjp": Traits(is_eager=True),
    "vmap": Traits(is_eager=True),
    "while_loop": Traits(only_arrays=True),
}
