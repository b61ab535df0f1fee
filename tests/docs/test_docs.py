"""The documentation is run: its Python blocks, its `$ unstir` lines, its links.

The blocks of one document share a temporary directory and one set of variables, from top to bottom. In a
```console block the lines that start with `$ unstir` are run by the shell; where the output shown has a line
`error: ...` the command must fail with exactly that line, else it must succeed. A block that cannot run
(it takes hours, or needs the reader's own files) says so in the line above it:

    <!-- not executed: reason -->
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if path.exists()]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

BLOCK = re.compile(
    r"^(?P<skip><!-- not executed: \S[^\n]* -->\n+)?```(?P<language>[\w-]*)\n(?P<text>.*?)^```$", re.M | re.S
)
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    line: int  # of its first line, counted from 1
    skip: bool


def blocks(document: Path) -> Iterator[Block]:
    page = document.read_text()
    for match in BLOCK.finditer(page):
        line = page.count("\n", 0, match.start("text")) + 1
        yield Block(match["language"], match["text"], line, skip=match["skip"] is not None)


def commands(text: str) -> Iterator[tuple[str, str]]:
    """(command, the output shown for it) for every `$` line; a backslash at its end continues a command."""
    for chunk in re.split(r"^\$ ", text.replace("\\\n", " "), flags=re.M)[1:]:
        command, _, output = chunk.partition("\n")
        yield command, output


def run_command(command: str, output: str, folder: Path) -> None:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    result = subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    said = f"$ {command}\n{result.stdout}{result.stderr}"
    error = re.search(r"^error: .*$", output, re.M)
    if error:
        assert result.returncode != 0, said
        assert error.group() in result.stderr.splitlines(), said
    else:
        assert result.returncode == 0, said


def run_document(document: Path, folder: Path) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(document):
        if block.skip:
            continue
        if block.language == "python":
            # the empty lines in front make a traceback name the line of the document
            source = "\n" * (block.line - 1) + block.text
            exec(compile(source, document, "exec", dont_inherit=True), names)
        elif block.language == "console":
            for command, output in commands(block.text):
                if command.startswith("unstir "):
                    run_command(command, output, folder)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_document_runs(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_document(document, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert not broken


WRONG = {
    "python": "```python\nassert 1 + 1 == 3\n```\n",
    "shared names": "```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n",
    "command": "```console\n$ unstir no-such-verb\n```\n",
    "success where an error is shown": "```console\n$ unstir --help\nerror: no help today\n```\n",
}


@pytest.mark.parametrize("page", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_found(page: str, tmp_path: Path) -> None:
    document = tmp_path / "wrong.md"
    document.write_text(f"# Wrong\n\n{page}")
    with pytest.raises(AssertionError):
        run_document(document, tmp_path)


def test_what_is_marked_is_not_executed(tmp_path: Path) -> None:
    document = tmp_path / "marked.md"
    document.write_text(f"<!-- not executed: needs a GPU -->\n{WRONG['python']}\n```console\n$ false\n```\n")
    run_document(document, tmp_path)
