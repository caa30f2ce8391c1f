"""docrun runs pages as readers would, and notices what they would notice."""

import textwrap
import warnings
from pathlib import Path

import pytest

from tests.docrun import (
    PageError,
    check_page,
    left_out_blocks,
    main,
    missing_for_page,
    normalise,
    run_page,
    skipped_blocks,
    update_page,
)


def write(directory: Path, text: str) -> Path:
    path = directory / "page.md"
    path.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
    return path


def check(directory: Path, text: str) -> list[str]:
    return check_page(write(directory, text), "page.md")


def test_passing_page_has_no_messages(tmp_path: Path):
    """Blocks share a namespace; printed text and the last expression's repr are the output."""
    messages = check(
        tmp_path,
        """
        # A page

        ```python
        def double(x):
            print("doubling", x)
            return 2 * x
        ```

        Prose, and a shell block that nobody runs.

        ```bash
        exit 1
        ```

        ```python
        double(4)
        ```

        ```text
        doubling 4
        8
        ```

        * in a list:

          ```python
          None
          print("a\\n\\n  b")
          ```
          ```text
          a

            b
          ```
        """,
    )
    assert messages == []


def test_page_without_code_passes(tmp_path: Path):
    """Prose alone needs no block."""
    assert check(tmp_path, "") == check(tmp_path, "# A title\n") == check(tmp_path, "```bash\nls\n```\n") == []


def test_text_block_after_prose_is_not_an_output(tmp_path: Path):
    """Only blank lines may stand between a block and its output."""
    assert check(tmp_path, "```python\n1\n```\nprose\n```text\n2\n```\n") == []
    assert check(tmp_path, "```python\n1\n```\n\n\n```text\n2\n```\n") != []


def test_wrong_output_is_shown_as_a_diff_with_file_and_line(tmp_path: Path):
    """Each mismatch is reported, where it is, with both outputs."""
    messages = check(
        tmp_path,
        "```python\nprint('one')\nprint('two')\n```\n\n```text\none\n2\n```\n```python\n3\n```\n```text\n```\n",
    )
    assert messages == [
        "page.md:7: the page shows another output (# is any float)\n"
        "--- page.md:7 (shown)\n+++ page.md:7 (printed)\n@@ -1,2 +1,2 @@\n one\n-2\n+two",
        "page.md:14: the page shows another output (# is any float)\n"
        "--- page.md:14 (shown)\n+++ page.md:14 (printed)\n@@ -0,0 +1 @@\n+3",
    ]


def test_exception_stops_the_page_and_names_the_line(tmp_path: Path):
    """The traceback starts in the page, with its line numbers and its code."""
    path = write(tmp_path, "Text.\n\n```python\ndef f():\n    raise KeyError('x')\n\nf()\n```\n")
    with pytest.raises(PageError) as caught:
        check_page(path, "page.md")
    message = str(caught.value)
    assert message.startswith("page.md:4: the block raises KeyError\n\nTraceback (most recent call last):\n")
    assert f'File "{path}", line 7, in <module>\n    f()\n' in message
    assert f"File \"{path}\", line 5, in f\n    raise KeyError('x')\n" in message
    assert "docrun.py" not in message
    assert message.endswith("KeyError: 'x'")


def test_syntax_error_names_the_line(tmp_path: Path):
    """A block that does not parse is reported as one that raises."""
    with pytest.raises(PageError, match=r"(?s)page.md:2: the block raises SyntaxError.*page.md\", line 3"):
        check(tmp_path, "```python\nx = 1\nx = = 2\n```\n")


def test_warning_is_an_error(tmp_path: Path):
    """A page that warns fails, whatever the filters around it."""
    with (
        warnings.catch_warnings(action="ignore"),
        pytest.raises(PageError, match="raises DeprecationWarning"),
    ):
        check(tmp_path, "```python\nimport warnings\nwarnings.warn('old', DeprecationWarning)\n```\n")


def test_exit_fails_the_page_only(tmp_path: Path):
    """A block that exits does not take the test run along."""
    with pytest.raises(PageError, match=r"page.md:2: the block raises SystemExit"):
        check(tmp_path, "```python\nraise SystemExit(0)\n```\n")


def test_raises_block_must_raise_that_error_and_show_it(tmp_path: Path):
    """`raises=` takes the error's name, and the text block its name and message."""
    page = "```python raises={}\n{}\n```\n\n```text\n{}\n```\n"
    assert check(tmp_path, page.format("KeyError", "{}['x']", "KeyError: 'x'")) == []
    assert check(tmp_path, page.format("KeyError", "print(1)\nraise KeyError", "1\nKeyError")) == []
    assert check(tmp_path, page.format("KeyError", "{}['x']", "KeyError: 'y'")) != []
    with pytest.raises(PageError, match=r"page.md:2: the block raises IndexError, not KeyError"):
        check(tmp_path, page.format("KeyError", "[][0]", ""))
    with pytest.raises(PageError, match=r"page.md:2: the block does not raise KeyError"):
        check(tmp_path, page.format("KeyError", "0", "0"))


def test_no_run_block_is_skipped_and_listed(tmp_path: Path):
    """What nobody runs is known by place."""
    path = write(tmp_path, "```python no-run\n1 / 0\n```\n```python\n1\n```\n```text\n1\n```\n")
    assert check_page(path, "page.md") == []
    assert skipped_blocks(path, "page.md") == ["page.md:1"]


def test_block_that_needs_what_is_missing_is_left_out_and_listed(tmp_path: Path):
    """`needs=` runs a block where all of its modules are installed; elsewhere the block is told with what it lacks."""
    page = "```python needs=json\nx = 1\n```\n```python needs=json,no_such_module\nx = 2\n```\n```python\nx\n```\n"
    path = write(tmp_path, page + "```text\n1\n```\n")
    assert check_page(path, "page.md") == []
    assert left_out_blocks(path, "page.md") == "page.md: 1 blocks left out, as no_such_module is not installed"
    assert missing_for_page(path, "page.md") == []


def test_page_whose_first_block_lacks_a_module_does_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The imports of a page stand in its first block: without them the other blocks would fail by a NameError."""
    path = write(
        tmp_path, "```python needs=no_such_module\nimport no_such_module\n```\n```python\nno_such_module\n```\n"
    )
    assert missing_for_page(path, "page.md") == ["no_such_module"]
    assert main([str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: needs no_such_module, not installed\n"


@pytest.mark.parametrize("words", ["norun", "raises", "raises=", "needs", "needs=", "no-run slow"])
def test_unknown_word_is_an_error(tmp_path: Path, words: str):
    """A misspelt word does not quietly run the block."""
    with pytest.raises(PageError, match=r"page.md:1: unknown word .* after python; use no-run, .* or needs=module"):
        check(tmp_path, f"```python {words}\n```\n")


def test_unclosed_block_is_an_error(tmp_path: Path):
    """A page that lost a fence is not half checked."""
    with pytest.raises(PageError, match=r"page.md:3: the block is never closed"):
        check(tmp_path, "text\n\n```python\n1\n")


def test_namespace_is_a_real_module(tmp_path: Path):
    """String annotations resolve, classes pickle, and getsource finds a class in the page."""
    messages = check(
        tmp_path,
        """
        ```python
        from __future__ import annotations

        import inspect, pickle, typing
        from dataclasses import dataclass

        @dataclass(frozen=True)
        class Point:
            x: int
            above: Point | None = None
        ```
        ```python
        point = Point(1, Point(2))
        assert pickle.loads(pickle.dumps(point)) == point
        print(typing.get_type_hints(Point) == {"x": int, "above": Point | None})
        print(inspect.getsource(Point).splitlines()[-1])
        Point
        ```
        ```text
        True
            above: Point | None = None
        <class '__main__.Point'>
        ```
        """,
    )
    assert messages == []


def test_page_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A page writes into a directory of its own, and the next page does not see its names."""
    monkeypatch.chdir(tmp_path)
    assert check(tmp_path, "```python\nname = 1\nopen('file', 'w').close()\n```\n") == []
    assert [path.name for path in tmp_path.iterdir()] == ["page.md"]
    with pytest.raises(PageError, match="NameError"):
        check(tmp_path, "```python\nname\n```\n")


def test_page_has_jax_as_its_readers_have_it(tmp_path: Path):
    """The tests' strict promotion does not hold in pages."""
    text = "```python\nimport jax.numpy as jnp\n(jnp.ones((2, 3)) + jnp.ones(3) + jnp.arange(3)).shape\n```\n"
    assert check(tmp_path, text + "```text\n(2, 3)\n```\n") == []


def test_plots_open_no_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """plt.show() does nothing, and figures are closed after the page."""
    plt = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.setattr(plt, "show", lambda: pytest.fail("a window opens"))
    page = "```python\nimport matplotlib.pyplot as plt\nplt.figure()\nplt.show()\n```\n"
    assert check(tmp_path, page) == []
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("loss 0.25", "loss 10.5"),
        ("x=-0.25, 1e-05", "x=1.5e+10, 2E3"),
        ("[0.1 0.2]", "[-1.1e-05  2.   ]"),
        ("Array([ 1., -2.], dtype=float32)", "Array([0.123, 0.4  ], dtype=float32)"),
        ("Array([1.  , 0.25,\n       2.  ])", "Array([0.1, 0.2, 0.3])"),
        ("[[ 1.   0.5]\n [ 0.1 -2. ]]", "[[1.123 0.5  ]\n [1.    2.   ]]"),
        ("Array([1., 2.],      dtype=float32)", "Array([1.5, 2.5],\n      dtype=float32)"),
        ("[1.5 2.5 3.5]", "[1.123456 2.123456\n 3.123456]"),
        ("took 1.5s, 0.1%", "took 10.25s, 99.9%"),
        ("1.5 |   2.5 | a", "10.5 | 20.5 | a"),
        ("<f at 0x7f00aa11bb22>", "<f at 0x7fffaa11bb22>"),
        ("a  \nb\n", "a\nb"),
    ],
)
def test_floats_and_their_spacing_are_ignored(one: str, other: str):
    """Random numbers may differ, and the layout of an array with them."""
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("layers.0.weight", "layers.1.weight"),
        ("0.weight", "1.weight"),
        ("layers.0.1.weight", "layers.0.2.weight"),
        ("version 0.1.0", "version 0.2.0"),
        ("(2, 3)", "(2, 4)"),
        ("float32[2,3]", "float32[2,4]"),
        ("float32", "float16"),
        ("step 1: 0.5", "step 2: 0.5"),
        ("[0.1 0.2]", "[0.1 0.2 0.3]"),
        ("[1 2]", "[1 3]"),
        ("[0.1, nan]", "[0.1, 0.2]"),
        ("1", "1.0"),
        ("a\n  b", "a\n b"),
        ("a\nb", "a b"),
        ("a\n\nb", "a\nb"),
        ("dict(a=1)", "dict(a=1,)"),
    ],
)
def test_structure_is_not_ignored(one: str, other: str):
    """Names, integers, shapes, dtypes, paths, line breaks and indentation count."""
    assert normalise(one) != normalise(other)


def test_update_writes_the_real_output_and_then_the_page_passes(tmp_path: Path):
    """Only the text blocks change, also where there are more or fewer lines than before."""
    path = write(
        tmp_path,
        """
        # Title

        ```python
        for i in range(3):
            print(i, 0.5)
        ```

        ```text
        old
        ```

          ```python raises=ValueError
          int("x")
          ```
          ```text
          old

          old
          ```

        ```python
        "no output is shown"
        ```
        ````text
        ```
        not an output, but four marks
        ````
        """.replace("````text\n        ```", "Prose.\n\n        ````text\n        ```"),
    )
    before = path.read_text()
    assert update_page(path, "page.md")
    expected = before.replace("\nold\n", "\n0 0.5\n1 0.5\n2 0.5\n").replace(
        "  old\n\n  old\n", "  ValueError: invalid literal for int() with base 10: 'x'\n"
    )
    assert path.read_text() == expected
    assert check_page(path, "page.md") == []
    assert not update_page(path, "page.md")


def test_update_leaves_a_broken_page_alone(tmp_path: Path):
    """A page that stops in the middle, or prints a fence, is not rewritten."""
    for code in ("1 / 0", "print('```')"):
        path = write(tmp_path, f"```python\n1\n```\n```text\n2\n```\n```python\n{code}\n```\n```text\n```\n")
        before = path.read_text()
        with pytest.raises(PageError):
            update_page(path, "page.md")
        assert path.read_text() == before


def test_command_line_checks_and_updates(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The status is 1 when a page is not as shown; --update makes it so."""
    path = write(tmp_path, "```python\n1\n```\n```text\n2\n```\n")
    assert main([str(path)]) == 1
    assert "-2\n+1" in capsys.readouterr().out
    assert main(["--update", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: updated\n"
    assert main([str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: as shown\n"


def test_blocks_come_back_in_order(tmp_path: Path):
    """run_page returns each block that ran, with its output."""
    path = write(tmp_path, "```python\n'a'\n```\n```python no-run\n```\n```python\nprint('b')\n```\n")
    assert [printed for _, printed in run_page(path, "page.md")] == ["'a'", "b"]
