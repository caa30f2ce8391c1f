"""What notebooks, rich and treescope show of a model: from the same description as its `repr`."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest
import rich.console
import rich.pretty
import treescope

import graphnode as gn
from graphnode import ParamState, State
from graphnode._pretty import _html, _rich
from graphnode._pretty._walk import tree_of
from graphnode.nn import MLP, Linear
from tests.docrun import ROOT

X = jnp.ones(2)


class Tied(gn.Node):
    """Two names of one layer, and a way back."""

    encoder: Linear
    decoder: Linear
    blocks: list[MLP]
    text: str = "<script>alert('x')</script>"
    parent: "Tied | None" = None


def tied() -> Tied:
    layer = Linear(2, 3)
    model = Tied(layer, layer, [MLP(2, 8, 3, depth=2) for _ in range(4)])
    model.parent = model
    return model


class Part(gn.Node):
    n: int
    layer: Linear
    parts: "list[Part]"


def parts(depth: int, width: int, n: int = 0) -> Part:
    below = [parts(depth - 1, width, n * width + at + 1) for at in range(width)] if depth else []
    return Part(n, Linear(2, 2), below)


class Link(gn.Node):
    n: int = 0
    after: "Link | None" = None


def html_of(value: Any) -> str:
    return value._repr_html_()  # type: ignore[no-any-return]


def in_a_trace(show: Callable[[Any], str]) -> str:
    """What a form shows of a State with a tracer."""
    texts: list[str] = []

    def traced(x: jax.Array) -> jax.Array:
        texts.append(show(State(x)))
        return x

    jax.eval_shape(traced, X)
    return texts[0]


class Page(HTMLParser):
    """Counts the elements of a page, and checks that all are closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.opened: list[str] = []
        self.depth = 0
        self.ids: list[str] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self.feed(html)
        assert not self.opened

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.counts[tag] += 1
        self.counts["open"] += "open" in values
        self.opened.append(tag)
        self.depth = max(self.depth, len(self.opened))
        self.ids += [value for value in [values.get("id")] if value]
        self.links += [value for value in [values.get("href")] if value]

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.opened:
            self.texts.append(data)


# HTML


def test_html_says_what_the_repr_says():
    """Each node and field, the sizes, what is alike; and all that a screen would leave out."""
    page = Page(html_of(tied()))
    text = "".join(page.texts)
    assert text.startswith("Tied501 parameters, 2.00 kBencoder=Linear(in_size=(2,), out_size=(3,), weight=ParamState(")
    assert "decoder=Linear(...)= encoder" in text
    assert "blocks=[4 items]492 parameters, 1.97 kB" in text
    assert "0-3: MLP4 alike, each 123 parameters, 492 B" in text
    assert "parent=Tied(...)= self" in text
    assert page.counts["details"] == page.counts["summary"] == 4  # Tied, blocks, MLP and its layers


class Scaled(gn.Node):
    layer: Linear
    act: Callable[[jax.Array], jax.Array] = gn.static()


class Folded(gn.Node):
    blocks: list[Scaled]


def test_every_form_says_how_much_it_leaves_out(monkeypatch: pytest.MonkeyPatch):
    """Of what has more parts than are looked at."""
    monkeypatch.setattr(_html, "_MAX_ENTRIES", 25)
    monkeypatch.setattr(_rich, "tree_of", lambda value: tree_of(value, 25))
    model = parts(1, 5)
    for text in (html_of(model), rich_text(model)):
        assert text.count("... 3 more") == 1
    assert rich_text(gn.states([State(X) for _ in range(20)])).endswith("        ...: 8 more\n    }\n)\n")


def test_no_form_folds_what_only_prints_alike():
    """Two lambdas print as one text: HTML and rich show both blocks, as `repr` does."""
    lambdas = [lambda x: x, lambda x: -x]
    apart, together = (Folded([Scaled(Linear(2, 3), act) for act in acts]) for acts in (lambdas, lambdas[:1] * 2))
    for show in (gn.pformat, rich_text, html_of):
        assert show(apart).count("Linear") == 2
        assert show(together).count("Linear") == 1


def test_html_needs_nothing_else_and_runs_nothing():
    """No script, no file from elsewhere, and a text of the model is only a text."""
    html = html_of(tied())
    page = Page(html)
    assert page.counts.keys() <= {"div", "style", "details", "summary", "b", "i", "small", "a", "open"}
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in html
    assert "http" not in html
    assert "url(" not in html

    class Odd(gn.Node):
        tables: dict[str, Linear]

    page = Page(html_of(Odd({"<img src=x onerror=alert(1)>": Linear(2, 3), "&amp;": Linear(200, 300)})))
    assert "img" not in page.counts
    assert "'&amp;': " in page.texts


def test_links_of_html_lead_to_what_is_shown_first():
    """Each to one place of its page."""
    model = tied()
    model.blocks[2].layers = [model.encoder]
    page = Page(html_of(model))
    assert len(page.links) == 3
    assert {link.removeprefix("#") for link in page.links} == set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_links_of_html_stay_in_their_display():
    """Two models of one structure, such as a teacher and its student, and one model twice, are on one page."""
    teacher, student = tied(), tied()
    pages = [Page(html_of(model)) for model in (teacher, student, teacher)]
    ids = [name for page in pages for name in page.ids]
    assert len(ids) == len(set(ids)) == 6
    for page in pages:
        assert {link.removeprefix("#") for link in page.links} == set(page.ids)


@pytest.mark.slow
def test_links_of_html_stay_in_their_display_in_a_page_of_several_processes():
    """A notebook keeps what all its kernels have displayed: the first ids of two of them differ."""
    program = (
        "import graphnode as gn; layer = gn.nn.Linear(2, 3); print(gn.nn.Sequential([layer, layer])._repr_html_())"
    )
    pages = [Page(subprocess.check_output([sys.executable, "-c", program], text=True)) for _ in range(2)]
    assert [len(page.ids) for page in pages] == [1, 1]
    assert pages[0].ids != pages[1].ids


def test_html_is_the_same_but_for_its_ids(monkeypatch: pytest.MonkeyPatch):
    """Where nothing links, all of it is the same at each display; else all but the name of the display."""
    layer, model = Linear(2, 3), tied()
    assert html_of(layer) == html_of(layer)
    assert html_of(model) != html_of(model)
    monkeypatch.setattr(_html, "_new_name", lambda: "gn0")
    assert html_of(model) == html_of(model)
    assert 'id="gn0-1"' in html_of(model)


def test_a_link_into_what_is_folded_leads_to_the_list():
    """Its very object has no place of its own: the innermost one around it has."""

    class Ends(gn.Node):
        blocks: list[MLP]
        last: gn.nn.Layer

    blocks = [MLP(2, 8, 3, depth=2) for _ in range(4)]
    page = Page(html_of(Ends(blocks, blocks[3].layers[0])))
    assert "last=Linear(...)= blocks.3.layers.0" in "".join(page.texts)
    assert [link.removeprefix("#") for link in page.links] == page.ids


def test_html_shows_all_that_prints():
    """State trees, graphdefs, optimizers, States alone and configs have it, too."""
    graphdef, tree = gn.treefy_split(tied())
    layer = Linear(200, 300)
    for value, start in (
        (tree, "{2 items}501 parameters, 2.00 kB'blocks': {4 items}"),
        (graphdef, 'GraphDef[Tied]text="<script>'),
        (gn.states(layer), "{('bias',): ParamState(f32[300]), ('weight',): ParamState(f32[200,300])}"),
        (State(X), "State(f32[2])"),
        (gn.treefy_states(State(X))[()], "TreefyState(State, f32[2])"),
        (gn.Rngs(0), "Rngs(streams={'default': RngStream(key=RngKey(key<fry>[]), count=RngCount(u32[]))})"),
        (gn.config.to_config(layer), "Linearin_size=(200,), out_size=(300,)"),
    ):
        assert "".join(Page(html_of(value)).texts).startswith(start)


def test_html_never_raises_and_reads_no_array():
    """As the text: of deleted arrays, tracers and abstract values it says so."""
    state = State(jnp.ones(2))
    state.value.delete()
    assert "State(f32[2] deleted)" in "".join(Page(html_of(state)).texts)
    assert "State(f32[2])" in "".join(Page(in_a_trace(html_of)).texts)
    abstract = gn.eval_shape(lambda: Linear(100_000, 100_000))
    assert "weight=ParamState(f32[100000,100000])" in "".join(Page(html_of(abstract)).texts)


def test_the_first_screen_of_html_is_open():
    """Nothing has to be opened to see what fits; the rest is closed, and there."""
    page = Page(html_of(parts(3, 4)))
    assert page.counts["details"] == 85 + 21  # nodes, and lists of those that have any
    assert 3 <= page.counts["open"] <= 16


def test_html_of_a_deep_graph_nests_no_deeper_than_browsers_do():
    """What lies deeper is closed, with the dots that say so."""
    link = Link()
    for n in range(1_000):
        link = Link(n, link)
    page = Page(html_of(link))
    assert page.depth < 400
    assert "after=Link(...)" in "".join(page.texts)


@pytest.mark.slow
def test_html_of_ten_thousand_nodes_is_complete_and_small():
    """Each node is there, in about a hundred bytes."""
    model = parts(4, 8)
    nodes = len(gn.nodes(model))
    html = html_of(model)
    assert nodes == 9362
    assert "".join(Page(html).texts).count("Linear(") == nodes // 2
    assert len(html) < 200 * nodes


# Without the sandbox, which a container has no rights for.
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1100,800")
SHOTS = Path(ROOT, "build", "screenshots")
COLOURS = {"light": "background:#fff;color:#222", "dark": "background:#111;color:#ddd"}


def browse(page: Path, *flags: str, link: str = "") -> str:
    """What chromium prints about a page, at one of its links."""
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, *flags, page.as_uri() + link]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("theme", COLOURS)
@pytest.mark.parametrize("name", ["model", "tree", "large"])
def test_a_browser_shows_it(name: str, theme: str, tmp_path: Path):
    """Twice on one page: the elements are nested as they were written, and a screenshot is kept to be looked at."""
    model = parts(4, 8) if name == "large" else tied()
    html = html_of(gn.treefy_states(model) if name == "tree" else model)
    page = tmp_path / f"{name}.html"
    page.write_text(f'<!doctype html><meta charset="utf-8"><body style="{COLOURS[theme]}">{html}<hr>{html}</body>')
    dom = browse(page, "--dump-dom")
    written = Page(html)
    assert dom.count("<details") == 2 * written.counts["details"]
    assert len(re.findall(r"<details[^>]* open", dom)) == 2 * written.counts["open"]
    assert dom.count("<script") == 0
    SHOTS.mkdir(parents=True, exist_ok=True)
    shot = SHOTS / f"{name}-{theme}.png"
    browse(page, f"--screenshot={shot}")
    assert shot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_link_opens_what_it_leads_to(tmp_path: Path):
    """The place of a shared node may be inside of what is closed: the browser opens all around it."""

    class Top(gn.Node):
        tree: Part
        again: Part

    tree = parts(4, 4)
    page = tmp_path / "page.html"
    html = html_of(Top(tree, tree.parts[3].parts[3].parts[3].parts[3]))
    page.write_text(f'<!doctype html><meta charset="utf-8"><body>{html}</body>')
    (link,) = Page(html).links
    before, after = (browse(page, "--dump-dom", link=part).count(" open=") for part in ("", link))
    assert before < after <= before + 8


# rich


def rich_text(value: Any, **options: Any) -> str:
    console = rich.console.Console(width=90, file=None)
    with console.capture() as capture:
        console.print(rich.pretty.Pretty(value, **options))
    return capture.get()


def test_rich_shows_the_fields_and_folds_blocks():
    """By name, with the classes, shapes without quotes, and where a repeated object stands."""
    assert rich_text(tied()) == (
        "Tied(\n"
        "    encoder=Linear(\n"
        "        in_size=(2,),\n"
        "        out_size=(3,),\n"
        "        weight=ParamState(f32[2,3]),\n"
        "        bias=ParamState(f32[3])\n"
        "    ),\n"
        "    decoder=Linear(... = encoder),\n"
        "    blocks=[\n"
        "        4 × MLP(\n"
        "            in_size=2,\n"
        "            hidden_size=8,\n"
        "            out_size=3,\n"
        "            depth=2,\n"
        "            act=<function relu>,\n"
        "            layers=[\n"
        "                Linear(\n"
        "                    in_size=(2,),\n"
        "                    out_size=(8,),\n"
        "                    weight=ParamState(f32[2,8]),\n"
        "                    bias=ParamState(f32[8])\n"
        "                ),\n"
        "                Linear(\n"
        "                    in_size=(8,),\n"
        "                    out_size=(8,),\n"
        "                    weight=ParamState(f32[8,8]),\n"
        "                    bias=ParamState(f32[8])\n"
        "                ),\n"
        "                Linear(\n"
        "                    in_size=(8,),\n"
        "                    out_size=(3,),\n"
        "                    weight=ParamState(f32[8,3]),\n"
        "                    bias=ParamState(f32[3])\n"
        "                )\n"
        "            ]\n"
        "        )\n"
        "    ],\n"
        "    text=\"<script>alert('x')</script>\",\n"
        "    parent=Tied(... = self)\n"
        ")\n"
    )


class Point(NamedTuple):
    x: Any
    y: Any


def test_every_form_knows_named_tuples_and_tuples_of_one():
    """By their names, and with a comma."""
    state = State({"point": Point(X, 1), "one": (X,)})
    assert "'one': (f32[2],)" in (text := rich_text(state))
    assert "'point': Point(x=f32[2], y=1)" in text
    assert "State({'one': (f32[2],), 'point': Point(x=f32[2], y=1)})" in "".join(Page(html_of(state)).texts)


def test_rich_shows_all_that_prints():
    """State trees as mappings, with folded branches; graphdefs, States and configs."""
    tree = gn.treefy_states([Linear(2, 3) for _ in range(3)])
    assert rich_text(tree) == (
        "StateTree(\n"
        "    {\n"
        "        0-2: 3 × (\n"
        "            {\n"
        "                'bias': TreefyState(ParamState, f32[3]),\n"
        "                'weight': TreefyState(ParamState, f32[2,3])\n"
        "            }\n"
        "        )\n"
        "    }\n"
        ")\n"
    )
    assert rich_text(gn.graphdef(Linear(2, 3))) == (
        "GraphDef(in_size=(2,), out_size=(3,), bias=ParamState(), weight=ParamState())\n"
    )
    assert rich_text(ParamState(X, tag="decay")) == "ParamState(f32[2], tag='decay')\n"
    assert rich_text(gn.config.to_config(Linear(2, 3)), max_length=2).startswith("LinearConfig(")


# treescope


# It looks through all of numpy, of which parts are deprecated.
of_treescope = pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")


def scope_text(value: Any) -> str:
    text = treescope.render_to_text(value)
    assert isinstance(text, str)
    return re.sub(r" at 0x[0-9a-f]+", "", text.split("  #╭")[0])


@of_treescope
def test_treescope_shows_fields_and_arrays():
    """A node with its fields, lists as lists, and the arrays of States, which treescope draws."""
    model = gn.nn.Linear(2, 3, w_init=jax.nn.initializers.ones)
    assert scope_text(model) == (
        "Linear(\n"
        "  in_size=(2,),\n"
        "  out_size=(3,),\n"
        "  weight=ParamState(\n"
        "    value=# jax.Array float32(2, 3) ≈1.0 ±0.0 [≥1.0, ≤1.0] nonzero:6\n"
        "      Array([[1., 1., 1.],\n"
        "             [1., 1., 1.]], dtype=float32)\n"
        "    ,\n"
        "  ),\n"
        "  bias=ParamState(value=<jax.Array([0., 0., 0.], dtype=float32)>),\n"
        ")\n"
    )
    text = scope_text(tied())
    assert "blocks=[MLP(" in text.replace("\n", "").replace("  ", "")
    assert "Tracked" not in text
    assert "parent=<cyclic reference to Tied" in text


@of_treescope
def test_treescope_shows_all_that_prints():
    """State trees and graphdefs with what is in them, at any depth; States, deleted ones too, and tracers."""
    graphdef, tree = gn.treefy_split([State(X, tag="a")])
    assert scope_text(tree) == (
        "StateTree({\n  0: TreefyState(\n    type=State,\n"
        "    value=<jax.Array([1., 1.], dtype=float32)>,\n    tag='a',\n  ),\n})\n"
    )
    assert "State(tag='a')" in scope_text(graphdef)
    nested = scope_text(gn.treefy_states(tied()))
    assert "'blocks': {" in nested
    assert "_Below" not in nested
    state = State(jnp.ones(2))
    state.value.delete()
    assert "deleted" in scope_text(state)
    assert "State(value=" in in_a_trace(scope_text).replace("\n", "").replace(" ", "")


@of_treescope
def test_treescope_writes_html():
    """As of its own classes; it is packed, and opened by its script."""
    assert "treescope" in treescope.render_to_html(tied())
