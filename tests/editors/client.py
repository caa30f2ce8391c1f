"""Ask language servers as an editor does: over stdio, about texts that are not on disk.

One session serves all questions to a server. Each is about a document of its own, so that one unfinished line does not
spoil the next.
"""

import asyncio
import contextlib
import os
import sys
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from cattrs import Converter
from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcException, PyglsError
from pygls.lsp.client import LanguageClient
from pygls.protocol import default_converter
from pygls.uris import from_fs_path, to_fs_path

from tests.docrun import ROOT

T = TypeVar("T")

# Seconds for one answer: the first one waits until jax was read, perhaps on a machine with other work.
PATIENCE = 90.0

CAPABILITIES = lsp.ClientCapabilities(
    workspace=lsp.WorkspaceClientCapabilities(configuration=True, workspace_folders=True),
    text_document=lsp.TextDocumentClientCapabilities(
        completion=lsp.CompletionClientCapabilities(context_support=True),
        hover=lsp.HoverClientCapabilities(content_format=[lsp.MarkupKind.PlainText, lsp.MarkupKind.Markdown]),
        signature_help=lsp.SignatureHelpClientCapabilities(),
        definition=lsp.DefinitionClientCapabilities(),
    ),
)


class ServerError(Exception):
    """A server did not start, answer or stop as the protocol says."""


class AnswerError(ServerError):
    """A server answered with an error."""


class Server(NamedTuple):
    """How to start a language server, and what it is told.

    Args:
        name: What tables and gaps call it.
        command: A program beside the running interpreter, and its arguments.
        options: Its `initializationOptions`.
        settings: What it gets when it asks for its configuration, by section.
        language: What it is asked about, and the suffix of such files.
    """

    name: str
    command: tuple[str, ...]
    options: Mapping[str, Any]
    settings: Mapping[str, Any]
    language: tuple[str, str] = ("python", ".py")


class Place(NamedTuple):
    """A line of a file, counted from 1."""

    file: Path
    line: int


class Question(NamedTuple):
    """A program, and where the cursor is in it: line and column from 0."""

    text: str
    line: int
    column: int


def _converter() -> Converter:
    converter: Converter = default_converter()
    # lsprotocol cannot read how pyrefly selects notebooks, and nothing here depends on what a server says it can do.
    converter.register_structure_hook(lsp.ServerCapabilities, lambda _, cls: cls())
    return converter


class Client(LanguageClient):
    """pygls' client; it answers what servers ask, and keeps what they print."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__("graphnode", "1", converter_factory=_converter)
        self.log: deque[str] = deque(maxlen=30)
        self.diagnosed: dict[str, asyncio.Future[Sequence[lsp.Diagnostic]]] = {}

        # pygls takes the type of what arrives from the method's name, and never asks the handler for it.
        def configuration(params: lsp.ConfigurationParams) -> list[Any]:
            return [_section(settings, item.section) for item in params.items]

        # pygls may give what it knows no type for in parts.
        def accept(*params: object) -> None:
            """Nothing to do: the client's part is to say that it has heard."""

        def diagnose(params: lsp.PublishDiagnosticsParams) -> None:
            waiting = self.diagnosed.pop(params.uri, None)
            if waiting is not None:
                waiting.set_result(params.diagnostics)

        def keep(params: lsp.LogMessageParams | lsp.ShowMessageParams) -> None:
            self.log.append(params.message)

        self.feature(lsp.WORKSPACE_CONFIGURATION)(configuration)
        self.feature(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)(diagnose)
        for method in (lsp.CLIENT_REGISTER_CAPABILITY, lsp.WINDOW_WORK_DONE_PROGRESS_CREATE):
            self.feature(method)(accept)
        for method in (lsp.WINDOW_LOG_MESSAGE, lsp.WINDOW_SHOW_MESSAGE):
            self.feature(method)(keep)

    async def start_io(self, cmd: str, *args: str, **kwargs: Any) -> None:
        """Start a server, and read what it prints: from a full pipe that nobody reads, it would wait for ever."""
        await super().start_io(cmd, *args, **kwargs)
        assert self._server is not None
        assert self._server.stderr is not None
        self._async_tasks.append(asyncio.create_task(self._read(self._server.stderr)))

    async def _read(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            self.log.append(line.decode(errors="replace").rstrip())

    def report_server_error(self, error: Exception, source: type[PyglsError] | type[JsonRpcException]) -> None:
        """Keep what was wrong with a message."""
        self.log.append(f"{source.__name__}: {error}")

    async def kill(self) -> None:
        """End a server that did not stop by itself."""
        if self._server is not None and self._server.returncode is None:
            self._server.kill()
        await self.stop()


def _section(settings: Mapping[str, Any], name: str | None) -> Any:
    """The settings of a section such as `python.analysis`; an unknown one has none."""
    found: Any = settings
    for part in name.split(".") if name else ():
        found = found.get(part, {})
    return found


class Session:
    """A server that runs and knows the workspace."""

    def __init__(self, server: Server, client: Client, folder: Path) -> None:
        self._name, self._client, self._folder = server.name, client, folder
        self._language, self._suffix = server.language
        self._opened = 0

    async def initialize(self, options: Mapping[str, Any]) -> None:
        """The handshake."""
        uri = _uri(self._folder)
        params = lsp.InitializeParams(
            capabilities=CAPABILITIES,
            process_id=os.getpid(),
            root_uri=uri,
            workspace_folders=[lsp.WorkspaceFolder(uri, self._folder.name)],
            initialization_options=options,
        )
        await self.answered(self._client.initialize_async(params))
        self._client.initialized(lsp.InitializedParams())

    async def shutdown(self) -> None:
        """Tell the server to end, and wait until it has."""
        await self.answered(self._client.shutdown_async(None))
        self._client.exit(None)
        await self.answered(self._client.stop())

    async def completions(self, question: Question) -> list[str]:
        """The names that are offered, best first."""
        found = await self._ask(
            question,
            lambda document, position: self._client.text_document_completion_async(
                lsp.CompletionParams(document, position)
            ),
        )
        items: Sequence[lsp.CompletionItem] = found.items if isinstance(found, lsp.CompletionList) else found or []
        return [item.label for item in sorted(items, key=lambda item: item.sort_text or item.label)]

    async def hover(self, question: Question) -> str:
        """What is shown over the word at the cursor."""
        found = await self._ask(
            question,
            lambda document, position: self._client.text_document_hover_async(lsp.HoverParams(document, position)),
        )
        if found is None:
            return ""
        contents = found.contents
        parts = contents if isinstance(contents, Sequence) and not isinstance(contents, str) else [contents]
        return "\n".join(part if isinstance(part, str) else part.value for part in parts)

    async def signature(self, question: Question) -> str:
        """The signature of the call in whose parentheses the cursor is."""
        found = await self._ask(
            question,
            lambda document, position: self._client.text_document_signature_help_async(
                lsp.SignatureHelpParams(document, position)
            ),
        )
        return "\n".join(one.label for one in found.signatures) if found else ""

    async def definition(self, question: Question) -> list[Place]:
        """Where the word at the cursor is defined; in the program itself as in a file of the workspace."""
        found = await self._ask(
            question,
            lambda document, position: self._client.text_document_definition_async(
                lsp.DefinitionParams(document, position)
            ),
        )
        places = found if isinstance(found, Sequence) else [found] if found else []
        return [_place(one) for one in places]

    async def diagnostics(self, text: str) -> list[lsp.Diagnostic]:
        """What the server has against a text, from its beginning to its end."""
        waiting = asyncio.get_running_loop().create_future()
        document = self._open(text, waiting)
        found = await self.answered(waiting)
        self._close(document)
        return sorted(found, key=lambda one: (one.range.start.line, one.range.start.character, one.message))

    async def _ask(
        self, question: Question, ask: Callable[[lsp.TextDocumentIdentifier, lsp.Position], Awaitable[T]]
    ) -> T:
        document = self._open(question.text)
        answer = await self.answered(ask(document, lsp.Position(question.line, question.column)))
        self._close(document)
        return answer

    def _open(
        self, text: str, waiting: "asyncio.Future[Sequence[lsp.Diagnostic]] | None" = None
    ) -> lsp.TextDocumentIdentifier:
        self._opened += 1
        uri = _uri(self._folder / f"program_{self._opened}{self._suffix}")
        if waiting is not None:
            self._client.diagnosed[uri] = waiting
        opened = lsp.TextDocumentItem(uri, self._language, 1, text)
        self._client.text_document_did_open(lsp.DidOpenTextDocumentParams(opened))
        return lsp.TextDocumentIdentifier(uri)

    def _close(self, document: lsp.TextDocumentIdentifier) -> None:
        self._client.text_document_did_close(lsp.DidCloseTextDocumentParams(document))

    async def answered(self, answer: Awaitable[T]) -> T:
        """Wait for an answer, for a while.

        Raises:
            AnswerError: It is an error.
            ServerError: There is none; the message holds what the server printed.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                return await answer
        except TimeoutError:
            problem = f"did not answer within {PATIENCE:.0f} seconds"
        except JsonRpcException as error:
            raise AnswerError(f"{self._name} answered with an error: {error}") from None
        except RuntimeError as error:  # pygls' word for a server that has ended
            problem = f"did not answer: {error}"
        printed = "\n".join(self._client.log) or "nothing"
        raise ServerError(f"{self._name} {problem}; it printed:\n{printed}")


def _uri(path: Path) -> str:
    uri: str | None = from_fs_path(str(path))
    assert uri is not None, path
    return uri


def _place(found: lsp.Location | lsp.LocationLink) -> Place:
    if isinstance(found, lsp.LocationLink):
        uri, where = found.target_uri, found.target_selection_range
    else:
        uri, where = found.uri, found.range
    path = to_fs_path(uri)
    assert path is not None, uri
    return Place(Path(path), where.start.line + 1)


@contextlib.asynccontextmanager
async def started(server: Server, folder: Path) -> AsyncGenerator[Session]:
    """Start a server for the running interpreter and this checkout; stop it in the end.

    Args:
        server: The server.
        folder: The workspace; the programs that are asked about seem to lie in it.

    Raises:
        ServerError: It does not start, answer or stop.
    """
    program = Path(sys.executable).parent / server.command[0]
    if not program.exists():
        raise ServerError(f"{server.name} is not installed: there is no {program}")
    client = Client(server.settings)
    # This checkout's graphnode, wherever the installed one is.
    environment = os.environ | {"PYTHONPATH": str(ROOT), "VIRTUAL_ENV": sys.prefix}
    await client.start_io(str(program), *server.command[1:], cwd=folder, env=environment)
    session = Session(server, client, folder)
    try:
        await session.initialize(server.options)
        yield session
        await session.shutdown()
    finally:
        await client.kill()
