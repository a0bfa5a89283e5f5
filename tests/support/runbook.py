"""Runbooks read and obeyed to the letter: their commands are taken from the document, and so is what they must print.

In a runbook, a fenced ``sh`` block is typed as it stands; a ``text`` block after it is what it prints, line by line
and in that order, where ``…`` stands for anything and further lines may stand between. Other blocks, such as
``sh cluster``, are for other places than this machine. ``NAME=value`` at the beginning of a line is for the reader to
fill in, and for a test.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.eventually import eventually
from tests.support.stack import Stack

FOLDER = Path(__file__).parents[2] / "docs" / "runbooks"
TIMEOUT_S = 90.0
_HEADING_OR_BLOCK = re.compile(r"^## (?P<heading>.+)$|^```(?P<kind>.*)\n(?P<code>(?:.*\n)*?)```$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block under the heading ``section``. ``expected`` is the text that follows it, empty if none does."""

    section: str
    kind: str
    code: str
    expected: str = ""


def blocks_of(document: str) -> list[Block]:
    """Return the fenced blocks of a document, a ``text`` block as what the one before it prints."""
    blocks: list[Block] = []
    section = ""
    for match in _HEADING_OR_BLOCK.finditer(document):
        if match["heading"]:
            section = match["heading"]
        elif match["kind"] == "text":
            before = blocks.pop()
            assert before.section == section, f"nothing prints the text under {section}"
            assert not before.expected, f"two texts follow one command under {section}"
            blocks.append(Block(section, before.kind, before.code, match["code"]))
        else:
            blocks.append(Block(section, match["kind"], match["code"]))
    return blocks


def missing_lines(expected: str, printed: str) -> list[str]:
    """Return the lines of ``expected`` that ``printed`` does not have, in their order, behind the ones before."""
    rest = iter([" ".join(line.split()) for line in printed.splitlines()])
    missing = []
    for line in expected.splitlines():
        pattern = ".*".join(re.escape(" ".join(part.split())) for part in line.split("…")).replace(r"\ ", " ?")
        if not any(re.search(pattern, found) for found in rest):
            missing.append(line)
            rest = iter(())
    return missing


class Reader:
    """Somebody at a shell who follows one runbook, in a folder where ``.nearby`` is the stack's."""

    def __init__(self, name: str, folder: Path, values: Mapping[str, str]) -> None:
        document = (FOLDER / name).read_text()
        self._blocks = [block for block in blocks_of(document) if block.kind == "sh"]
        assert self._blocks, f"{name} has no commands"
        self._folder = folder
        self._variables = folder / f"{name}.variables"
        self._left = list(self._blocks)
        self.values = dict(values)

    async def follow(self, section: str) -> str:
        """Type every block under ``section``; return all that was printed.

        Raises:
            AssertionError: a command failed, or did not print what the runbook says.
        """
        blocks = [block for block in self._blocks if block.section == section]
        assert blocks, f"there are no commands under {section}"
        return "".join([await self._obey(block) for block in blocks])

    async def follow_until_true(self, section: str, within_s: float = 30.0) -> None:
        """Type what is under ``section`` again and again, until it prints what it should."""
        await eventually(lambda: self._is_followed(section), within_s)

    async def _is_followed(self, section: str) -> bool:
        await self.follow(section)
        return True

    async def type(self, script: str) -> str:
        """Type something that is not in the runbook; return what it printed.

        Raises:
            AssertionError: it failed.
        """
        return await self._obey(Block("", "sh", script))

    def has_followed_everything(self) -> None:
        assert self._left == [], f"never typed: {[block.code for block in self._left]}"

    async def _obey(self, block: Block) -> str:
        # Variables and functions live on from block to block, as in one shell.
        around = f'set -euo pipefail; [ ! -e "{self._variables}" ] || . "{self._variables}"; set -a'
        script = f'{around}\n{self._filled_in(block.code)}\n{{ export -p; declare -f; }} > "{self._variables}"\n'
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", script),
            cwd=self._folder,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("NEARBY_")},
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "COLUMNS": "200",
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(TIMEOUT_S):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        printed = output.decode()
        assert process.returncode == 0, f"status {process.returncode}:\n{block.code}\nprinted:\n{printed}"
        missing = missing_lines(block.expected, printed)
        assert missing == [], f"{block.code}\ndoes not print {missing[0]!r}, but:\n{printed}"
        if block in self._left:
            self._left.remove(block)
        return printed

    def _filled_in(self, code: str) -> str:
        def filled(match: re.Match[str]) -> str:
            name = match["name"]
            return f"{name}={shlex.quote(self.values[name])}" if name in self.values else match[0]

        return re.sub(r"^(?P<name>[A-Z_]+)=\S+", filled, code, flags=re.MULTILINE)


@asynccontextmanager
async def following(name: str, stack: Stack, **values: str) -> AsyncIterator[Reader]:
    """Yield a reader of runbook ``name`` beside ``stack``, who must have typed all of it by the end."""
    folder = stack.data_dir.parent
    link = folder / ".nearby"
    if not link.exists():
        link.symlink_to(stack.data_dir)
    reader = Reader(name, folder, values)
    yield reader
    reader.has_followed_everything()
