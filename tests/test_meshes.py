"""Random streams under one mesh after another draw the same numbers; eight devices, in a process of its own."""

import pytest

from tests.devices import run_with_devices

PROGRAM = """
import contextlib
import jax, jax.numpy as jnp, numpy as np
import graphnode as gn
from jax.sharding import AxisType

assert len(jax.devices()) == 8
auto = {"axis_types": (AxisType.Auto,)}
autos = {"axis_types": (AxisType.Auto, AxisType.Auto)}
MESHES = {
    "none": None,
    "explicit": jax.make_mesh((8,), ("d",)),
    "explicit2": jax.make_mesh((4, 2), ("a", "b")),
    "auto": jax.make_mesh((8,), ("d",), **auto),
    "auto2": jax.make_mesh((4, 2), ("a", "b"), **autos),
    "first": jax.make_mesh((4,), ("e",), devices=jax.devices()[:4], **auto),
    "second": jax.make_mesh((4,), ("e",), devices=jax.devices()[4:], **auto),
}


def under(name):
    return contextlib.nullcontext() if MESHES[name] is None else jax.set_mesh(MESHES[name])


def host(value):
    return np.asarray(value).tolist()


def ambient(begin, names):
    begin()
    found = []
    for name in names:
        with under(name):
            found.append(host(gn.random.randn(3)))
            found.append(host(gn.nn.Linear(2, 2).weight.value))
    return found


def scoped(key, names):
    found = []
    with gn.random.scope(key):
        for name in names:
            with under(name):
                found.append(host(gn.random.randn(3)))
    return found


@gn.jit
def compiled(dropout, x):
    return dropout(x)


def drawing(layer, names):
    found = []
    for name in names:
        with under(name):
            found.append(host(layer(jnp.ones(8))))
            found.append(host(jax.random.bits(layer.rngs.fork()())))
            twins = gn.stack([layer, layer])
            found.append([host(jax.random.bits(twin.rngs())) for twin in gn.unstack(twins)])
    return found


def running(layer, names):
    found = []
    for name in names:
        with under(name):
            x = jnp.ones(8)
            found.append(host(layer(x)))
            found.append(host(compiled(layer, x)))
            found.append(host(jax.random.bits(layer.rngs.fork()())))
            lanes = gn.vmap(lambda rngs, x: jax.random.bits(rngs()))(layer.rngs, jnp.zeros(3))
            found.append(host(lanes))
            twins = gn.stack([layer, layer])
            found.append(host(gn.vmap(lambda layer: layer(jnp.ones(8)))(twins)))
            found.append(host(jax.random.key_data(gn.stack([layer.rngs, layer.rngs])["default"].key.value)))
            found.append(looped(layer.rngs))
    return found


def looped(rngs):
    # What rounds and branches draw, which give back the stream that they were given.
    bits = lambda rngs: jax.random.bits(rngs())
    rounds = gn.scan(lambda rngs, _: (rngs, bits(rngs)), rngs, None, length=2)[1]
    gn.fori_loop(0, 2, lambda i, rngs: (rngs(), rngs)[1], rngs)
    gn.while_loop(lambda rngs: rngs["default"].count.value % 4 != 0, lambda rngs: (rngs(), rngs)[1], rngs)
    chosen = gn.cond(True, bits, lambda rngs: jnp.uint32(0), rngs)
    return [host(rounds), host(chosen), host(gn.remat(bits)(rngs)), host(bits(rngs))]


def dropout(name="none", seed=0):
    with under(name):
        return gn.nn.Dropout(0.5, rngs=gn.Rngs(seed))


ORDERS = (
    ("auto", "auto2", "explicit", "explicit2", "auto", "none"),
    ("explicit2", "none", "first", "second", "auto2"),
)
for names in ORDERS:
    nowhere = ["none"] * len(names)
    assert ambient(lambda: gn.random.seed(3), names) == ambient(lambda: gn.random.seed(3), nowhere), names
    with under(names[0]):
        key = jax.random.key(5)
    assert ambient(lambda: gn.random.seed(key), names) == ambient(lambda: gn.random.seed(jax.random.key(5)), nowhere)
    assert scoped(key, names[1:]) == scoped(jax.random.key(5), nowhere[1:]), names
    with under(names[-1]):
        assert host(jax.random.bits(gn.Rngs(key)())) == host(jax.random.bits(gn.Rngs(5)())), names
    assert drawing(dropout(names[0]), names) == drawing(dropout(), nowhere), names
    names = [name for name in names if name not in ("first", "second")]
    # What a compiled function is given must be on the devices of the mesh, as all other arrays must.
    if names:
        assert running(dropout(names[0]), names) == running(dropout(), ["none"] * len(names)), names
"""


@pytest.mark.slow
def test_streams_go_from_mesh_to_mesh_with_the_same_numbers():
    """Ambient, scoped and `Rngs`, eager, compiled, forked and stacked: draws under each mesh are those under none."""
    run_with_devices(PROGRAM, 8)
