"""The code blocks of a page of docs/, run in their order in one folder.

A block of ```python runs in one namespace with those before it, and is also
written to the file that its first line names (`# train.py`). One of ```cpp is
compiled with the tests. What either prints is the block of ```text after it. In
one of ```console the lines after `$ ` are commands, and the others what they
print. One of ```sh is not run.
"""

import contextlib
import io
import os
import pathlib
import re
import subprocess
import sys
from typing import NamedTuple

DOCS = pathlib.Path(__file__).parent.parent.parent / "docs"
NUMBER = re.compile(r"\d+\.\d+(?:e[+-]?\d+)?")


class Block(NamedTuple):
    language: str
    text: str
    line: int  # of the page, on which the text begins


def blocks_of(page):
    text = page.read_text()
    return [Block(found.group(1), found.group(2),
                  text.count("\n", 0, found.start(2)) + 1)
            for found in re.finditer(r"^```(\w+)\n(.*?)^```$", text,
                                     re.DOTALL | re.MULTILINE)]


def assert_shown(printed, shown, line):
    """Equal texts, but that numbers with a point may differ in their fourth
    digit: processors round in ways of their own."""
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", shown), f"line {line}"
    for got, wanted in zip(NUMBER.findall(printed), NUMBER.findall(shown)):
        assert abs(float(got) - float(wanted)) <= 2e-3 * float(wanted), (
            f"line {line}: {got} is not {wanted}")


class Page:
    """Runs blocks in the current folder."""

    def __init__(self, page, programs):
        self.blocks = blocks_of(page)
        self._name = str(page)
        self._programs = programs  # by name: a command that takes its place
        self._namespace = {"__name__": "__main__"}

    def run(self):
        for place, block in enumerate(self.blocks):
            if block.language == "console":
                self._run_console(block)
            elif block.language in ("python", "cpp"):
                printed = (self._run_python(block) if block.language == "python"
                           else self._run_command("cpp"))
                after = self.blocks[place + 1:place + 2]
                shown = (after[0].text
                         if after and after[0].language == "text" else "")
                assert_shown(printed, shown, block.line)

    def _run_python(self, block):
        named = re.match(r"# (\w+\.py)\n", block.text)
        if named:
            pathlib.Path(named.group(1)).write_text(block.text)
        code = compile("\n" * (block.line - 1) + block.text, self._name, "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, self._namespace)  # noqa: S102
        return printed.getvalue()

    def _run_console(self, block):
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)",
                                         block.text, re.MULTILINE):
            assert_shown(self._run_command(command), shown, block.line)

    def _run_command(self, command):
        functions = "".join(f'{name}() {{ {program} "$@"; }}\n'
                            for name, program in self._programs.items())
        done = subprocess.run(
            ["bash", "-c", functions + command], capture_output=True, text=True,
            timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout


def programs():
    """What the commands of pages start."""
    return {"python": sys.executable,
            "torchrun": f"{sys.executable} -m torch.distributed.run "
                        "--standalone"}
