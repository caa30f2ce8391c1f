"""The commands about configuration files: what they print, and their exit codes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import graphnode as gn
from graphnode.__main__ import main
from graphnode.config._show import value_rows

MODELS = """
from collections.abc import Callable

import jax
from jaxtyping import Array, Float

import graphnode as gn


class Layer(gn.Node):
    width: int
    gains_: gn.ParamState[Float[Array, "width"]] = gn.state(jax.nn.initializers.ones)


# By a name of its own: other tests declare an `Embedding`.
class ShownEmbedding(gn.nn.Embedding):
    def pool(self, x: Array, mode: str) -> Array:
        return x.mean() if mode == "mean" else x


class ShownNet(gn.Node):
    first: Layer
    second: Layer | None = None
    depth: int = 1

    def __post_init__(self) -> None:
        if self.depth > 9:
            raise ValueError(f"a depth of {self.depth}")


class Odd(gn.Node):
    # Defaults that are equal to nothing, and to what is not the same.
    act: Callable[[Array], Array] = gn.static(default=lambda x: x)
    eps: float = float("nan")
    clip: int | float = 1


class Maker(gn.Node):
    last: Layer = gn.subnode(default_factory=lambda: Layer(2))


@gn.config.register("of_the_command")
def same(x: Array) -> Array:
    return x
"""

FILE = "type: ShownNet\nfirst: {id: a, width: 3}\nsecond: {ref: a}\n"


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with a module of models and some files."""
    (tmp_path / "shown_models.py").write_text(MODELS)
    (tmp_path / "net.yaml").write_text(FILE)
    (tmp_path / "maker.yaml").write_text("type: Maker\n")
    (tmp_path / "deep.yaml").write_text("include: net.yaml\ndepth: 2\n")
    (tmp_path / "bad.yaml").write_text("type: ShownNet\nfirst: {widht: 3}\ndepth: x\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield tmp_path
    sys.path[:] = before
    sys.modules.pop("shown_models", None)


def run(*arguments: str) -> Result:
    """Run a command about the models."""
    return CliRunner().invoke(main, [*arguments, "--import", "shown_models"])


def test_check_is_silent_about_good_files(models: Path):
    """And says so to people, apart from what programs read."""
    result = run("config", "check", "net.yaml", "deep.yaml")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no faults in 2 files\n")


def test_check_tells_all_faults(models: Path):
    """Of all files, with places; plain where there is no terminal."""
    result = run("config", "check", "net.yaml", "bad.yaml", "missing.yaml")
    assert result.exit_code == 1
    assert result.stderr == (
        "bad.yaml:2:8: first.width: Layer needs 'width'\n"
        "bad.yaml:2:9: first.widht: Layer has no field 'widht'; did you mean 'width'?\n"
        "bad.yaml:3:8: depth: Input should be a valid integer, found str 'x'\n"
        "missing.yaml: No such file or directory\n"
    )


def test_check_tells_what_constructors_refuse(models: Path):
    """With the place and path of each node; one that holds it is not blamed. A summary tells the same."""
    (models / "heads.yaml").write_text("type: TransformerBlock\nwidth: 8\nnum_heads: 3\n")
    (models / "depths.yaml").write_text(
        "type: Sequential\nlayers:\n  - {type: Linear, in_size: 2, out_size: 0}\n"
        "  - {type: Dropout, rate: 0.5}\n  - {type: Dropout, rate: 7}\n"
    )
    (models / "deepest.yaml").write_text("type: ShownNet\nfirst: {width: 1}\ndepth: 10\n")
    result = run("config", "check", "heads.yaml", "depths.yaml", "deepest.yaml", "net.yaml")
    assert result.exit_code == 1
    assert result.stderr == (
        "heads.yaml:1:1: TransformerBlock.num_heads: expected a positive integer that divides width=8; found 3\n"
        "depths.yaml:3:5: layers.0: Linear.out_size: expected a positive integer or a tuple of them; found 0\n"
        "depths.yaml:5:5: layers.2: Dropout.rate: expected a number in [0, 1]; found 7.0\n"
        "deepest.yaml:1:1: ValueError: a depth of 10\n"
    )
    result = run("summary", "depths.yaml", "-s", "layers[0].out_size=3")
    assert (result.exit_code, result.stderr) == (
        1,
        "depths.yaml:5:5: layers.2: Dropout.rate: expected a number in [0, 1]; found 7.0\n",
    )


def test_the_place_is_bold_on_a_terminal(models: Path):
    """Colour where it is asked for."""
    result = CliRunner().invoke(main, ["config", "check", "bad.yaml", "-i", "shown_models"], color=True)
    assert result.stderr.startswith("\x1b[1mbad.yaml:2:8\x1b[0m: first.width: ")


def test_show_tells_where_each_value_comes_from(models: Path):
    """The file and place, the default, or the command line."""
    result = run("config", "show", "deep.yaml", "--set", "first.width=4")
    assert result.exit_code == 0
    assert result.stdout == (
        "type: ShownNet        # net.yaml:1:7\n"
        "second: {ref: first}  # net.yaml:3:9\n"
        "depth: 2              # deep.yaml:2:8\n"
        "first.type: Layer     # the class that the field declares\n"
        "first.width: 4        # command line\n"
    )


def test_show_tells_what_the_class_makes(models: Path):
    """A node that nobody says anything of; and what else it is, where a part of it is changed."""
    shown = "type: Maker            # maker.yaml:1:7\nlast: (made by Maker)  # default\n"
    assert run("config", "show", "maker.yaml").stdout == shown
    assert run("config", "show", "maker.yaml", "--set", "last.width=4").stdout == (
        "type: Maker       # maker.yaml:1:7\nlast.type: Layer  # default\nlast.width: 4     # command line\n"
    )


def test_show_tells_what_the_command_line_changes(models: Path):
    """A NaN stays what it is, and so does a function without a name; `1.0` is not `1`."""
    (models / "odd.yaml").write_text("type: Odd\nclip: 1\n")
    assert run("config", "show", "odd.yaml", "-s", "clip=1.0").stdout == (
        "type: Odd            # odd.yaml:1:7\n"
        "act: <Odd.<lambda>>  # default\n"
        "eps: .nan            # default\n"
        "clip: 1.0            # command line\n"
    )


def test_diff_tells_what_two_files_say_differently(models: Path):
    """It ends with 1 if they differ, with 0 if they do not."""
    result = run("config", "diff", "net.yaml", "deep.yaml")
    assert (result.exit_code, result.stdout) == (1, "depth: 1 -> 2\n")
    assert run("config", "diff", "net.yaml", "net.yaml").exit_code == 0


def test_summary_shows_what_a_model_takes(models: Path):
    """Without an array being made; a shared State stands once."""
    result = run("summary", "net.yaml", "-s", "first.width=5")
    assert result.exit_code == 0
    assert result.stdout == (
        "path          class       shape   parameters  bytes  shared with\n"
        "------------------------------------------------------------------\n"
        "first.gains_  ParamState  f32[5]           5     20  second.gains_\n"
        "------------------------------------------------------------------\n"
        "ShownNet                                   5     20\n"
    )


SEQUENCE = """\
type: Sequential
layers:
  - {type: Linear, in_size: 4, out_size: 8}
  - {type: MLP, in_size: 9, hidden_size: 3, out_size: 5}
  - {type: Activation, function: relu}
  - {type: Linear, in_size: 6, out_size: 2}
"""


def test_a_summary_with_inputs_shows_what_nodes_are_called_with(models: Path):
    """A name is any size. The depth leaves out what is deeper, and States have rows of their own if asked for."""
    (models / "sequence.yaml").write_text(SEQUENCE)
    change = ["-s", "layers[1].in_size=8", "-s", "layers[3].in_size=5"]
    result = run("summary", "sequence.yaml", "--input", "batch 4", "--depth", "1", *change)
    assert result.exit_code == 0
    assert result.stdout == (
        "path        class       inputs        outputs       parameters  bytes      flops  shared with\n"
        "---------------------------------------------------------------------------------------------\n"
        "layers.0    Linear      f32[batch,4]  f32[batch,8]          40    160   64*batch\n"
        "layers.1    MLP         f32[batch,8]  f32[batch,5]          47    188   78*batch\n"
        "layers.2    Activation  f32[batch,5]  f32[batch,5]           0      0          0\n"
        "layers.3    Linear      f32[batch,5]  f32[batch,2]          12     48   20*batch\n"
        "---------------------------------------------------------------------------------------------\n"
        "Sequential              f32[batch,4]  f32[batch,2]          99    396  162*batch\n"
        "for every size of batch\n"
    )
    states = run("summary", "sequence.yaml", "--input", "batch 4", "--states", *change)
    assert ["layers.0.weight", "ParamState", "f32[4,8]", "32", "128"] in list(
        map(str.split, states.stdout.splitlines())
    )


def test_a_summary_tells_every_fault_of_a_shape_at_its_line(models: Path):
    """All at once; what a constructor has made stands where its node does."""
    block = "{type: TransformerBlock, width: 9, num_heads: 3}"
    (models / "sequence.yaml").write_text(SEQUENCE.replace("{type: Activation, function: relu}", block))
    result = run("summary", "sequence.yaml", "--input", "batch time 4")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "sequence.yaml:4:5: layers.1: Sequential.layers.1 (MLP): x: expected in_size = 9 of "
        'Float[Array, "... in_size"], found shape (batch, time, 8)\n'
        "sequence.yaml:5:5: layers.2.attention_norm: Sequential.layers.2.attention_norm (LayerNorm): x: expected "
        'width = 9 of Float[Array, "... width"], found shape (batch, time, 5)\n'
        "sequence.yaml:6:5: layers.3: Sequential.layers.3 (Linear): expected an input of shape (..., in_size[-1]=6); "
        "found (batch, time, 9)\n"
    )


def test_a_summary_of_a_method_takes_inputs_by_name(models: Path):
    """`...` stands for what the annotations describe, where there are some."""
    (models / "embedding.yaml").write_text("{type: ShownEmbedding, num_embeddings: 5, width: 3}")
    result = run("summary", "embedding.yaml", "--method", "attend", "--input", "x=batch 3", "--format", "json")
    data = json.loads(result.stdout)
    assert (data["flops"], data["rows"][0]["calls"][0]["method"]) == ("30*batch", "attend")
    result = run("summary", "net.yaml", "--method", "attend")
    assert (result.exit_code, result.stderr) == (1, "ShownNet has no method 'attend'\n")
    pooled = run("summary", "embedding.yaml", "--method", "pool", "--input", "batch", "--input", "mode=mean")
    assert "pool(f32[batch], mode='mean')  f32[]" in pooled.stdout
    (models / "norm.yaml").write_text("{type: LayerNorm, width: 3}")
    assert "f32[batch,3]" in run("summary", "norm.yaml", "--input", "batch width").stdout


def test_inputs_that_a_model_does_not_take_are_a_usage_error(models: Path):
    """As options are that a command does not take."""
    (models / "sequence.yaml").write_text(SEQUENCE)
    result = run("summary", "sequence.yaml", "--input", "mask=3")
    assert result.exit_code == 2
    assert "Error: gn.summary: Sequential.__call__: missing a required argument: 'x'" in result.stderr
    result = run("summary", "sequence.yaml", "--input", "...")
    text = "no annotation with a jaxtyping array says its shape; give an array, or its shape as a text"
    assert (result.exit_code, result.stderr) == (1, f"x: {text}\n")
    for shape in ("max 4", "2**b 4"):
        result = run("summary", "sequence.yaml", "--input", shape)
        assert (result.exit_code, result.stderr[:3], result.stdout) == (1, "x: ", "")


def test_a_change_that_is_wrong_is_told(models: Path):
    """As a fault of a file is."""
    result = run("summary", "net.yaml", "-s", "first.wdith=5")
    assert (result.exit_code, result.stderr) == (1, "first.wdith: Layer has no field 'wdith'; did you mean 'width'?\n")


def test_schema_prints_a_json_schema(models: Path):
    """Of a class by module and name, in either style; a name that leads nowhere is a usage error."""
    for style in ("editor", "strict"):
        result = run("config", "schema", "shown_models:ShownNet", "--style", style)
        assert result.exit_code == 0
        assert "ShownNet" in json.loads(result.stdout)["$defs"]
    result = run("config", "schema", "shown_models:Nte")
    assert result.exit_code == 2
    assert "shown_models:Nte: module 'shown_models' has no attribute 'Nte'; write a module and a node" in result.stderr


def test_a_module_that_cannot_be_imported_is_a_usage_error(models: Path):
    """With the reason."""
    result = CliRunner().invoke(main, ["config", "check", "net.yaml", "-i", "no_such_module"])
    assert result.exit_code == 2
    assert "no_such_module: No module named 'no_such_module'" in result.stderr


def test_a_newcomer_gets_along_with_the_help():
    """Each command says what it does, and the group how classes are found."""
    shown = CliRunner().invoke(main, ["config", "--help"]).stdout
    assert "graphnode config check --import my_package.models model.yaml" in shown
    for command in ("check", "show", "diff"):
        assert CliRunner().invoke(main, ["config", command, "--help"]).exit_code == 0
        assert f"  {command}" in shown


def test_without_pydantic_the_commands_say_what_to_install():
    """As does `gn.config`; the rest of the command line works."""
    code = (
        "import sys; sys.modules['pydantic'] = None\n"
        "import graphnode as gn\ntry:\n    gn.config\nexcept ModuleNotFoundError as error:\n    print(error)\n"
        "from click.testing import CliRunner\nfrom graphnode.__main__ import main\n"
        "print(CliRunner().invoke(main, ['config', 'check', 'x']).output)\n"
        "print(CliRunner().invoke(main, ['check', '--explain', 'GN101']).exit_code)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == (
        "graphnode.config needs pydantic, which is not installed: pip install 'graphnode[config]'\n"
        "Error: config needs pydantic, which is not installed: pip install 'graphnode[config]'\n\n0\n"
    )


class Twice(gn.Node):
    encoder: gn.nn.Linear
    decoder: gn.nn.Linear


def test_show_has_the_places_of_a_shared_node(tmp_path: Path):
    """Also where the reference to it comes first by name."""
    file = tmp_path / "net.yaml"
    file.write_text("encoder:\n  id: e\n  in_size: 4\n  out_size: 4\ndecoder: {ref: e}\n")
    rows = {row.path: row.origin for row in value_rows(file, Twice)}
    assert rows["encoder.in_size"] == f"{file}:3:12"
    assert rows["encoder.use_bias"] == "default"


class Part(gn.Node):
    width: int
    norm: bool = True


class Whole(gn.Node):
    parts: list[Part]


def test_show_does_not_name_the_file_for_what_was_replaced(tmp_path: Path):
    """What a new node leaves to its class is a default, whatever the old one had there."""
    file = tmp_path / "net.yaml"
    file.write_text("parts: [{width: 4, norm: true}]\n")
    rows = {row.path: row.origin for row in value_rows(file, Whole, ["parts=[{width: 4}]"])}
    assert (rows["parts.0.width"], rows["parts.0.norm"]) == ("command line", "default")
    rows = {row.path: row.origin for row in value_rows(file, Whole, ["parts[0].width=5"])}
    assert (rows["parts.0.width"], rows["parts.0.norm"]) == ("command line", f"{file}:1:26")
