"""`gn.summary`: its rows, its table in all forms, and that nothing is run or changed."""

import io
import json
import re
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import optax
import pytest
from jaxtyping import Array, Float

import graphnode as gn
from graphnode import nn
from tests.summary.models import Chain, Scale, abstract, chain, coder


class Block(gn.Node):
    first: Scale
    second: Scale

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.second(self.first(x))


class Net(gn.Node):
    blocks: list[Block]
    head: Scale

    def __call__(self, x: jax.Array) -> jax.Array:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def net(*widths: int) -> Net:
    return Net([Block(Scale(2, width), Scale(width, 2)) for width in widths], Scale(2, 5))


# Rows


def test_the_table_of_a_call_is_literal():
    """Nodes as they are called, equal neighbours in one row, the model below."""
    assert repr(gn.summary(net(4, 4, 8), "3 2")) == "\n".join(
        [
            "path                class      inputs    outputs   parameters  bytes  flops  shared with",
            "----------------------------------------------------------------------------------------",
            "blocks.0..1         2 × Block  f32[3,2]  f32[3,2]          32    128    192",
            "blocks.0..1.first   2 × Scale  f32[3,2]  f32[3,4]          16     64     96",
            "blocks.0..1.second  2 × Scale  f32[3,4]  f32[3,2]          16     64     96",
            "blocks.2            Block      f32[3,2]  f32[3,2]          32    128    192",
            "blocks.2.first      Scale      f32[3,2]  f32[3,8]          16     64     96",
            "blocks.2.second     Scale      f32[3,8]  f32[3,2]          16     64     96",
            "head                Scale      f32[3,2]  f32[3,5]          10     40     60",
            "----------------------------------------------------------------------------------------",
            "Net                            f32[3,2]  f32[3,5]          74    296    444",
        ]
    )


def test_the_table_without_inputs_is_of_states():
    """Equal neighbours in one row."""
    assert repr(gn.summary(net(4, 4))) == "\n".join(
        [
            "path                       class           shape     parameters  bytes  shared with",
            "-----------------------------------------------------------------------------------",
            "blocks.0..1.first.weight   2 × ParamState  f32[2,4]          16     64",
            "blocks.0..1.second.weight  2 × ParamState  f32[4,2]          16     64",
            "head.weight                ParamState      f32[2,5]          10     40",
            "-----------------------------------------------------------------------------------",
            "Net                                                          42    168",
        ]
    )


def test_a_view_shows_fewer_nodes_or_states_too():
    """What is deeper counts in the rows above it. Without folding, each row is one."""
    summary = gn.summary(net(4, 4), "3 2")
    assert repr(summary.view(depth=1, fold=False, states=True)) == "\n".join(
        [
            "path         class       shape     inputs    outputs   parameters  bytes  flops  shared with",
            "--------------------------------------------------------------------------------------------",
            "blocks.0     Block                 f32[3,2]  f32[3,2]          16     64     96",
            "blocks.1     Block                 f32[3,2]  f32[3,2]          16     64     96",
            "head         Scale                 f32[3,2]  f32[3,5]          10     40     60",
            "head.weight  ParamState  f32[2,5]                              10     40",
            "--------------------------------------------------------------------------------------------",
            "Net                                f32[3,2]  f32[3,5]          42    168    252",
        ]
    )
    assert [row.path for row in summary.view(depth=0).rows] == []
    assert [row.path for row in gn.summary(net(4)).view(depth=1).rows] == [("blocks", 0), ("head",)]
    assert [row.kind for row in gn.summary(net(4)).view(states=False, depth=1).rows] == ["Block", "Scale"]
    assert "shape" not in repr(gn.summary(net(4)).view(depth=1)).partition("\n")[0]


class Own(gn.Node):
    """Has a part, a State and a product of its own, and calls a node that is an input."""

    weight: gn.ParamState[Float[Array, "2 2"]]
    scale: Scale

    def __call__(self, x: Array, teacher: Scale | None = None) -> Array:
        x = self.scale(x) @ self.weight.value
        return x if teacher is None else x + teacher(x)


def own() -> Own:
    return Own(gn.ParamState(jnp.ones((2, 2))), Scale(2, 2))


def test_what_the_model_itself_holds_and_does_has_a_line():
    """And what nodes that are inputs do; so the lines right below the model add up to it."""
    assert repr(gn.summary(own(), "batch 2", Scale(2, 2))) == "\n".join(
        [
            "path      class  inputs               outputs       parameters  bytes     flops  shared with",
            "--------------------------------------------------------------------------------------------",
            "(itself)                                                     4     16  16*batch",
            "scale     Scale  f32[batch,2]         f32[batch,2]           4     16   8*batch",
            "--------------------------------------------------------------------------------------------",
            "Own              f32[batch,2], Scale  f32[batch,2]           8     32  24*batch",
            "for every size of batch",
        ]
    )
    assert repr(gn.summary(own()).view(depth=1)).splitlines()[2].split() == ["(itself)", "4", "16"]
    # Where its States have rows, these numbers are there.
    lines = repr(gn.summary(own(), "3 2").view(states=True)).splitlines()[2:4]
    assert [line.split() for line in lines] == [["(itself)", "24"], ["weight", "ParamState", "f32[2,2]", "4", "16"]]


def test_what_is_nothing_or_all_there_is_has_no_line_of_its_own():
    """A model without States of its own; one without parts; one of which no part is shown; States alone."""
    summaries = [gn.summary(net(4), "3 2"), gn.summary(Scale(2, 2), "3 2")]
    summaries += [gn.summary(own(), "3 2").view(depth=0), gn.summary(own()), gn.summary([own()]).view(depth=1)]
    assert not any("(itself)" in repr(summary) for summary in summaries)


@hypothesis.given(st.lists(st.sampled_from([2, 3]), max_size=3), st.booleans())
def test_the_lines_right_below_a_model_add_up_to_it(widths: list[int], states: bool):
    """Whatever it holds and does itself, with and without States."""

    class Outer(gn.Node):
        own: Own
        blocks: list[Block]
        weight: gn.ParamState[Float[Array, "2 2"]]

        def __call__(self, x: Array) -> Array:
            x = self.own(x)
            for block in self.blocks:
                x = block(x)
            return x @ self.weight.value

    model = Outer(own(), net(*widths).blocks, gn.ParamState(jnp.ones((2, 2))))
    summary = gn.summary(model, "3 2").view(depth=1, states=states, fold=False)
    table = summary._table()
    rows = [row for row in table.body if re.fullmatch(r"\(itself\)|\w+|blocks\.\d", row["path"])]
    for column in ("parameters", "bytes", "flops"):
        numbers = [int(row.get(column, "0").replace(",", "") or 0) for row in rows]
        assert sum(numbers) == int(table.foot[0][column].replace(",", ""))


def test_a_table_has_no_more_rows_than_fit():
    """With the number of those that are left out, in all forms; the data is complete."""
    summary = gn.summary(net(*[2, 4] * 40), "3 2")
    lines = repr(summary).splitlines()
    text = "and 141 more rows: .view(lines=None) shows all"
    assert (len(lines), lines[102], lines[-1]) == (106, "...", text)
    assert summary._repr_html_().count("<tr>") == 1 + 100 + 1 + 1
    assert text in summary._repr_html_()
    assert (len(summary.rows), len(summary.to_dict()["rows"])) == (241, 1 + 241 + 161)
    assert len(repr(summary.view(lines=None)).splitlines()) == 2 + 241 + 2
    assert repr(summary.view(lines=241)) == repr(summary.view(lines=None))
    assert repr(summary.view(lines=240)).endswith("\nand 1 more row: .view(lines=None) shows all")


def test_rows_are_in_the_order_of_calls():
    """Nodes that are not called come last, without inputs."""

    class Backwards(gn.Node):
        a: Scale
        b: Scale
        c: Scale

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.a(self.c(x))

    rows = gn.summary(Backwards(Scale(3, 1), Scale(1, 1), Scale(2, 3)), "2").rows
    assert [(row.path, len(row.calls), row.flops) for row in rows] == [(("c",), 1, 12), (("a",), 1, 6), (("b",), 0, 0)]


def test_what_is_shared_counts_once():
    """At its first path, with the calls by all of its paths; the parts add up to the whole."""
    summary = gn.summary(coder(), "2 3", "2 3 1", flag=True)
    embed, head = summary.rows
    assert (head.path, head.others) == (("head",), (("mix",),))
    assert (head.parameters, head.bytes, head.flops) == (16, 64, 2 * 2 * 2 * 3 * 16)
    assert (summary.parameters, summary.bytes) == (embed.parameters + head.parameters, embed.bytes + head.bytes)
    assert summary.flops == head.flops
    # A State that is tied between two nodes.
    tied = chain(2, 2, 2)
    tied.layers[1].weight = tied.layers[0].weight
    assert [(row.path, row.parameters, row.others) for row in gn.summary(tied).rows] == [
        (("layers", 0, "weight"), 4, (("layers", 1, "weight"),))
    ]
    assert [row.parameters for row in gn.summary(tied, "1 2").rows] == [4, 0]


def test_a_node_that_is_called_with_several_shapes_has_a_line_for_each():
    """At most three; the data has all of them."""

    class Wide(gn.Node):
        scale: Scale

        def __call__(self, x: jax.Array) -> list[jax.Array]:
            return [self.scale(x[:rows]) for rows in (1, 2, 2, 3, 4)]

    summary = gn.summary(Wide(Scale(2, 3)), "4 2")
    assert [call.inputs for call in summary.rows[0].calls] == ["f32[1,2]", "f32[2,2]", "f32[3,2]", "f32[4,2]"]
    assert repr(summary).splitlines()[2:6] == [
        "scale  Scale  f32[1,2]    f32[1,3]                                                   6     24    144",
        "              f32[2,2]    f32[2,3]",
        "              and 2 more",
        "-" * 113,
    ]


def test_neighbours_that_do_not_do_the_same_are_not_folded():
    """Equal layers with other inputs; and those that are called one after another, and stand elsewhere."""

    class Lines(gn.Node):
        scales: list[Scale]
        order: tuple[int, ...]
        rows: tuple[int, ...]

        def __call__(self, x: jax.Array) -> list[jax.Array]:
            return [self.scales[at](x[:rows]) for at, rows in zip(self.order, self.rows, strict=True)]

    def paths(model: Lines) -> list[str]:
        lines = repr(gn.summary(model, "4 2")).splitlines()[2:-2]
        return [line.split()[0] for line in lines]

    same = [Scale(2, 3), Scale(2, 3), Scale(2, 3)]
    assert paths(Lines(same, (0, 1, 2), (1, 1, 1))) == ["scales.0..2"]
    assert paths(Lines(same, (0, 1, 2), (1, 1, 0))) == ["scales.0..1", "scales.2"]
    assert paths(Lines(same, (0, 2, 1), (1, 1, 1))) == ["scales.0", "scales.2", "scales.1"]


def classes_of_one_name(base: type, count: int) -> list[Any]:
    return [type("Twin", (base,), {"__module__": __name__}) for _ in range(count)]


def test_neighbours_of_which_something_static_differs_are_not_folded():
    """Static values, classes of one name, tags of States, and what they refer to: their rows say the same."""

    class Acting(gn.Node):
        scale: Scale
        act: Any = gn.static()

    class Pointing(gn.Node):
        to: Scale

    class Holder(gn.Node):
        items: list[Any] = gn.subnode()
        others: list[Scale] = gn.subnode(default_factory=list)

    def paths(items: list[Any], others: list[Scale] | None = None) -> list[str]:
        lines = repr(gn.summary(Holder(items, others or [])).view(depth=1)).splitlines()[2:-2]
        return [line.split()[0] for line in lines]

    def tagged(tag: str | None) -> Scale:
        scale = Scale(2, 3)
        scale.weight = scale.weight.replace(tag=tag)
        return scale

    assert paths([Acting(Scale(2, 3), act) for act in (len, len, print)]) == ["items.0..1", "items.2"]
    first, second = classes_of_one_name(Scale, 2)
    assert paths([first(2, 3), first(2, 3), second(2, 3)]) == ["items.0..1", "items.2"]
    assert paths([tagged(tag) for tag in ("frozen", None, None)]) == ["items.0", "items.1..2"]
    scales = [Scale(2, 3), Scale(2, 3)]
    pointers = [Pointing(scales[at]) for at in (0, 1, 0, 0, 1)]
    # The first to point at one has it below itself.
    assert paths(pointers) == ["items.0", "items.1", "items.2..3", "items.4"]


def test_classes_of_states_with_one_name_have_totals_of_their_own():
    """With their modules, or numbers where these are the same, too."""

    class Holder(gn.Node):
        a: gn.State
        b: gn.State
        c: gn.State

    def totals(*classes: Any) -> dict[str, int]:
        summary = gn.summary(Holder(*[cls(jnp.ones(size + 1)) for size, cls in enumerate(classes)]))
        return {name: total.parameters for name, total in summary.totals.items()}

    first, second = classes_of_one_name(gn.ParamState, 2)
    own: Any = type("ParamState", (gn.State,), {"__module__": __name__})
    here = "tests.summary.test_summary"
    assert totals(gn.ParamState, own, own) == {"graphnode.ParamState": 1, f"{here}.ParamState": 5}
    assert totals(first, second, first) == {f"{here}.Twin (1)": 4, f"{here}.Twin (2)": 2}
    assert totals(gn.ParamState, first, first) == {"ParamState": 1, "Twin": 5}


def test_methods_are_called_by_name():
    """A bound method in place of the model; those that the model calls of itself are no calls of their own."""
    summary = gn.summary(coder().encode, "batch time")
    assert [row.path for row in summary.rows if row.calls] == [("embed",), ("head",)]
    assert repr(summary).splitlines()[-2].startswith("Coder             encode(i32[batch,time])  f32[batch,time,4]")
    (call,) = gn.summary(coder(), "2 3", "2 3 1").to_dict()["rows"][0]["calls"]
    assert call["method"] == "__call__"


def test_transformed_methods_are_called():
    """By `gn.jit`, in the class or outside of it."""

    class Jitted(gn.Node):
        scale: Scale

        @gn.jit
        def run(self, x: jax.Array) -> jax.Array:
            return self.scale(x)

    model = Jitted(Scale(2, 3))
    for method in (model.run, gn.jit(model.run), gn.jit(model.scale)):
        assert gn.summary(method, "4 2").flops == 48


def test_all_kinds_of_models_have_the_same_summary():
    """A live one, an abstract one, and a config."""
    live = nn.MLP(2, 3, 4)
    config = gn.config.to_config(live)
    summaries: list[Any] = [live, gn.eval_shape(lambda: nn.MLP(2, 3, 4)), config]
    assert len({repr(gn.summary(model)) for model in summaries}) == 1
    assert len({repr(gn.summary(model, "batch 2")) for model in summaries}) == 1
    assert repr(gn.config.summary(config, "batch 2")) == repr(gn.summary(live, "batch 2"))


def test_a_pytree_of_nodes_has_a_summary():
    """Without inputs."""
    summary = gn.summary({"a": Scale(2, 3), "b": [Scale(1, 1)]})
    assert (summary.title, summary.parameters) == ("dict", 7)
    assert [row.path for row in summary.rows] == [("a", "weight"), ("b", 0, "weight")]


def test_models_without_states_and_with_cycles_have_a_summary():
    """An empty one, one without parts, one that refers to itself."""

    class Ring(gn.Node):
        next: "Ring | None" = None

        def __call__(self, x: jax.Array) -> jax.Array:
            return x

    class Empty(gn.Node): ...

    ring = Ring()
    ring.next = Ring(ring)
    assert gn.summary(Empty()).rows == []
    assert gn.summary(Empty()).to_dict()["rows"][0]["class"] == "Empty"
    assert [row.path for row in gn.summary(ring, "2").rows] == [("next",)]
    assert repr(gn.summary(nn.Identity(), "2")).splitlines()[-1].split() == ["Identity", *["f32[2]"] * 2, *"000"]


def test_a_state_may_hold_an_empty_container():
    """An empty dict has no numbers; others have the shapes of their arrays."""

    class Holder(gn.Node):
        empty: gn.ShortTermState[Any]
        full: gn.ShortTermState[Any]

    model = Holder(gn.ShortTermState({}), gn.ShortTermState({"a": jnp.ones(2), "b": (jnp.int32(1),)}))
    assert [(row.shape, row.parameters) for row in gn.summary(model).rows] == [
        ("{}", 0),
        ("{'a': f32[2], 'b': (i32[],)}", 3),
    ]


def test_the_shape_of_a_state_may_be_symbolic():
    """Its numbers are formulas in all forms; a name in a text is the same size, or another one."""

    class Product(gn.Node):
        table: gn.ParamState
        scale: Scale

        def __call__(self, x: Array) -> tuple[Array, Array]:
            return self.scale(x), self.table.value @ self.table.value.T

    (rows,) = jax.export.symbolic_shape("rows")
    table: Any = gn.ParamState(jax.ShapeDtypeStruct((rows, 4), "float32"))
    model = Product(table, Scale(2, 3))
    lines = [line.split() for line in repr(gn.summary(model)).splitlines()]
    assert ["table", "ParamState", "f32[rows,4]", "4*rows", "16*rows"] in lines
    assert lines[-1] == ["Product", "4*rows", "+", "6", "16*rows", "+", "24"]
    summary = gn.summary(model, "n 2")
    assert (summary.flops, summary.notes) == ("8*rows^2 + 12*n", ())
    assert summary._repr_html_().count("4*rows") == 2
    assert gn.summary(model, "rows 2").flops == "8*rows^2 + 12*rows"
    data = json.loads(json.dumps(summary.to_dict()))
    assert (data["parameters"], data["totals"]) == (
        "4*rows + 6",
        {"ParamState": {"parameters": "4*rows + 6", "bytes": "16*rows + 24"}},
    )


def test_totals_are_by_class_of_state():
    """As statistics are no parameters to many; the table says it where there are several classes."""
    summary = gn.summary(nn.BatchNorm(4), "batch 4")
    assert {kind: tuple(total) for kind, total in summary.totals.items()} == {
        "ParamState": (8, 32),
        "BatchState": (8, 32),
    }
    assert repr(summary).splitlines()[-2:] == [
        "parameters by class: ParamState 8 (32 bytes), BatchState 8 (32 bytes)",
        "for every size of batch",
    ]


def test_a_model_with_an_optimizer_has_a_summary():
    """A step of training, too; derivatives count where they are computed."""

    class Training(gn.Node):
        model: Scale
        optimizer: gn.optim.Optimizer

        def step(self, x: jax.Array) -> None:
            self.optimizer.update(self.model, gn.grad(lambda model: model(x).sum())(self.model))

    model = Scale(2, 3)
    summary = gn.summary(Training(model, gn.optim.Optimizer(model, optax.sgd(0.1))).step, "4 2")
    rows = {gn.path_str(row.path): row for row in summary.rows}
    assert rows["model"].flops == 2 * 48
    assert rows["optimizer"].calls[0].method == "update"


def test_what_holds_for_no_symbol_alone_is_said():
    """JAX denies that a symbolic size is even; so the summary is tried with a number, which is, and with the next."""

    class Halves(gn.Node):
        scale: Scale

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.scale(x[::2] if x.shape[0] % 2 == 0 else x)

    class Refuses(gn.Node):
        def __call__(self, x: jax.Array) -> jax.Array:
            if x.shape[0] % 2 == 0:
                raise ValueError("an odd one")
            return x

    class Leaves(gn.Node):
        scale: Scale

        def __call__(self, x: jax.Array) -> jax.Array:
            return x if x.shape[0] % 2 == 0 else self.scale(x)

    class Thirds(gn.Node):
        scale: Scale
        rest: int

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.scale(x[::2] if x.shape[0] % 3 == self.rest else x)

    start = "not for every size: where batch is 24,"
    assert gn.summary(Thirds(Scale(2, 3), 0), "batch 2").notes == (f"{start} there are other operations",)
    one_more = start.replace("24", "25")
    assert gn.summary(Thirds(Scale(2, 3), 1), "batch 2").notes == (f"{one_more} there are other operations",)
    assert gn.summary(Halves(Scale(2, 3)), "batch 2").notes == (f"{start} there are other operations",)
    assert gn.summary(Refuses(), "batch 2").notes == (f"{start} the model fails: ValueError: an odd one",)
    summary = gn.summary(Leaves(Scale(2, 3)), "batch 2")
    assert summary.notes == (f"{start} other nodes are called",)
    assert "for every size of batch" not in repr(summary)
    assert gn.summary(Halves(Scale(2, 3)), "3 2").notes == ()


# Forms


def test_html_is_a_table_with_escaped_texts():
    """A class may have any name, a path any key."""
    cls: Any = type("A<b>", (gn.Node,), {"__annotations__": {"x": dict[str, gn.ParamState]}, "__module__": __name__})
    text = gn.summary(cls({"<i>": gn.ParamState(1.0)}))._repr_html_()
    assert text.splitlines()[0] == "<table>"
    assert "<i>" not in text
    assert "A<b>" not in text
    assert "&lt;i&gt;" in text
    assert "A&lt;b&gt;" in text


def test_rich_prints_a_table():
    """Each cell of the text is in it, but for columns that are empty, and brackets are no markup."""
    summary = gn.summary(Chain([Scale(2, 3)]), "batch 2")
    rich_console: Any = pytest.importorskip("rich.console")
    console = rich_console.Console(width=200, file=io.StringIO(), record=True)
    console.print(summary)
    text = console.export_text()
    assert text.count("f32[batch,2]") == 2
    assert all(cell in text for cell in repr(summary).replace("-", "").replace("shared with", "").split())


@pytest.mark.parametrize("width", [40, 50, 70, 80, 100])
def test_rich_cuts_no_number(width: int):
    """Where room is short, shapes are cut; where there is none, all is broken over lines, and nothing left out."""
    summary = gn.summary(abstract(12345, 23456, 34567), "512 12345").view(states=False)
    rich_console: Any = pytest.importorskip("rich.console")
    console = rich_console.Console(width=width, file=io.StringIO(), record=True)
    console.print(summary)
    text = console.export_text()
    lines = [line.split("│")[1:-1] for line in text.splitlines() if "│" in line]
    texts = ["".join([cell.strip() for cell in column]) for column in zip(*lines, strict=True)]
    assert texts[0] == "layers.0layers.1Chain"
    sizes = [12345 * 23456, 23456 * 34567]
    for column, factor in zip(texts[-3:], (1, 4, 2 * 512), strict=True):
        assert column == "".join([f"{size * factor:,}" for size in (*sizes, sum(sizes))])
    assert max(map(len, text.splitlines())) <= width


def test_data_is_json():
    """Every row, those of States and of the model included; formulas as texts."""
    data = gn.summary(chain(2, 3), "batch 2").to_dict()
    assert json.loads(json.dumps(data)) == data
    assert data == {
        "model": "Chain",
        "parameters": 6,
        "bytes": 24,
        "flops": "12*batch",
        "symbols": ["batch"],
        "totals": {"ParamState": {"parameters": 6, "bytes": 24}},
        "rows": [
            row(of="node", path="", cls="Chain", flops="12*batch", calls=[call("f32[batch,2]", "f32[batch,3]")]),
            row(
                of="node",
                path="layers.0",
                cls="Scale",
                flops="12*batch",
                calls=[call("f32[batch,2]", "f32[batch,3]")],
            ),
            row(of="state", path="layers.0.weight", cls="ParamState", shape="f32[2,3]", flops=None, calls=[]),
        ],
        "notes": [],
    }


def row(*, of: str, path: str, cls: str, calls: list[Any], flops: Any, shape: str = "") -> dict[str, Any]:
    counts = {"parameters": 6, "bytes": 24, "others": []}
    return {"of": of, "path": path, "class": cls, "shape": shape, **counts, "calls": calls, "flops": flops}


def call(inputs: str, outputs: str) -> dict[str, str]:
    return {"method": "__call__", "inputs": inputs, "outputs": outputs}


@hypothesis.given(st.lists(st.sampled_from([2, 3]), max_size=6))
def test_folding_changes_no_sum(widths: list[int]):
    """Whatever is folded, the rows of one depth add up to the model, and stand for all nodes."""
    summary = gn.summary(net(*widths), "3 2")
    lines = [line.split() for line in repr(summary.view(depth=1)).splitlines()[2:-2]]
    numbers = [int(line[-2].replace(",", "")) for line in lines]
    assert sum(numbers) == summary.bytes
    counts = [int(line[1]) if "×" in line else 1 for line in lines]
    assert sum(counts) == len(widths) + 1
    # A run begins where a width differs from the one before.
    runs = sum(left != right for left, right in zip([None, *widths], [*widths, None], strict=True)) - bool(widths)
    assert len(lines) == runs + 1


# What it leaves alone


def test_nothing_runs_and_nothing_changes():
    """No array is made, no State written, no random number drawn."""
    meanwhile: list[int] = []

    class Counting(gn.Node):
        norm: nn.BatchNorm
        dropout: nn.Dropout
        count: gn.ShortTermState

        def __call__(self, x: jax.Array) -> jax.Array:
            meanwhile.append(len(jax.live_arrays()))
            self.count.value += 1
            return self.dropout(self.norm(x))

    model = Counting(nn.BatchNorm(4), nn.Dropout(0.5, rngs=gn.Rngs(0)), gn.ShortTermState(jnp.int32(0)))
    graphdef, values = gn.graphdef(model), [state.value for state in gn.states(model).values()]
    before = len(jax.live_arrays())
    summary = gn.summary(model, "3 4")
    assert {*meanwhile, len(jax.live_arrays())} == {before}
    assert summary.rows[0].path == ("norm",)
    assert gn.graphdef(model) is graphdef
    assert all(old is new.value for old, new in zip(values, gn.states(model).values(), strict=True))


def test_an_abstract_model_makes_no_array():
    """However large it is."""
    model = abstract(10**6, 10**6, 10**6)
    before = len(jax.live_arrays())
    assert gn.summary(model, "batch 1000000").bytes == 8 * 10**12
    assert len(jax.live_arrays()) == before


def test_memory_that_was_given_away_is_named():
    """All States that have lost theirs."""
    model = chain(2, 3, 4)
    for layer in model.layers:
        layer.weight.value.delete()
    with pytest.raises(gn.DonationError, match=r"layers\.0\.weight"):
        gn.summary(model)
    for inputs in ((), ("batch 2",)):
        with pytest.raises(gn.DonationError) as caught:
            gn.config.summary(model, *inputs)
        assert str(caught.value) == (
            "2 faults:\n  layers.0.weight: its memory was given to another call, or deleted\n"
            "  layers.1.weight: its memory was given to another call, or deleted; write a new value first, "
            "or restore the model"
        )


# What it refuses


def test_what_cannot_be_called_is_refused():
    """A node without `__call__`, a pytree, a class, a function that is not of a node."""

    class Plain(gn.Node): ...

    takes = "gn.summary takes a node that can be called, or a method of one, where there are inputs; found"
    values: list[tuple[Any, str]] = [
        (Plain(), "a Plain, which has no __call__"),
        ([Scale(1, 1)], "list ["),
        (Scale, "the class Scale"),
        (len, "builtin_function_or_method "),
    ]
    for value, found in values:
        with pytest.raises(TypeError) as caught:
            gn.summary(value, "2")
        assert str(caught.value).startswith(f"{takes} {found}")


def test_a_depth_is_a_number_of_nodes():
    """Of 0 or more."""
    summary: Any = gn.summary(chain(2, 3))
    with pytest.raises(TypeError) as caught:
        summary.view(depth=True)
    assert str(caught.value) == "gn.Summary.view takes an int or None as depth; found bool True"
    with pytest.raises(ValueError, match="takes a depth of 0 or more") as wrong:
        summary.view(depth=-1)
    assert str(wrong.value) == "gn.Summary.view takes a depth of 0 or more (0 is the model alone); found -1"


def test_a_number_of_lines_is_one_or_more():
    """Or `None`, for all."""
    summary: Any = gn.summary(chain(2, 3))
    with pytest.raises(TypeError) as caught:
        summary.view(lines="1")
    assert str(caught.value) == "gn.Summary.view takes an int or None as lines; found str '1'"
    with pytest.raises(ValueError, match="takes 1 or more") as wrong:
        summary.view(lines=0)
    assert str(wrong.value) == "gn.Summary.view takes 1 or more lines, or None for all; found 0"
