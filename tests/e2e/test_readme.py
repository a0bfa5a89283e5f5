"""What the README tells a newcomer to type, typed."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from tests.support.eventually import eventually
from tests.support.stack import Stack

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PHONE = (ROOT / "examples" / "phone.py").read_text()


def block(beginning: str) -> str:
    """Return the README's code block that begins with ``beginning``."""
    (found,) = (code for code in re.findall(r"```\w*\n(.*?)```", README, re.DOTALL) if code.startswith(beginning))
    return str(found)


@pytest.mark.asyncio(loop_scope="module")
async def test_two_people_signed_up_by_curl_see_each_other_on_the_phones_of_the_example(
    stack: Stack, tmp_path: Path
) -> None:
    script = block("API=").replace("http://127.0.0.1:8080", stack.api_url)
    typed = await asyncio.create_subprocess_exec("bash", "-euc", script, stdout=asyncio.subprocess.PIPE)
    said, _ = await typed.communicate()
    assert typed.returncode == 0
    assert b'"display_name":"Ann"' in said

    phone = tmp_path / "phone.py"
    phone.write_text(PHONE.replace("http://127.0.0.1:8080", stack.api_url))
    commands = re.findall(r"examples/phone.py (\w+) '([^']+)' ([\d.-]+) ([\d.-]+)", block(".venv/bin/python examples"))
    assert [command[0] for command in commands] == ["ann", "ben"]
    screens = [tmp_path / f"{command[0]}.txt" for command in commands]
    phones = []
    for command, screen in zip(commands, screens, strict=True):
        with screen.open("wb") as file:
            phones.append(
                await asyncio.create_subprocess_exec(
                    sys.executable, "-u", str(phone), *command, cwd=ROOT, stdout=file, stderr=file
                )
            )
    try:
        await eventually(
            lambda: "Ben: 1125 m" in screens[0].read_text() and "Ann: 1125 m" in screens[1].read_text(), within_s=15
        )
    finally:
        for process in phones:
            process.kill()
            await process.wait()


def test_the_phone_in_the_readme_is_the_example() -> None:
    example = PHONE.partition('"""\n\n')[2]
    assert block("import asyncio") == example
    assert len(PHONE.splitlines()) <= 23
