"""The examples run, and the README shows one of them as it is."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
EXAMPLES = sorted((ROOT / "examples" / "python").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=[p.name for p in EXAMPLES])
def test_runs(path, tmp_path):
    subprocess.run([sys.executable, path, tmp_path], check=True, timeout=300)


def test_the_readmes_program():
    shown = re.search(r"^```python\n(.*?)^```$",
                      (ROOT / "README.md").read_text(),
                      re.DOTALL | re.MULTILINE).group(1)
    exec(compile(shown, "README.md", "exec"), {})  # noqa: S102
