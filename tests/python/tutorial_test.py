"""docs/tutorial_python.md does what it says."""

import os
import pathlib

import pytest

from colonnade._build_info import program
from page import DOCS, Page, assert_shown, programs

SERVER = os.environ.get("COLONNADE_TUTORIAL_SERVER", "")


@pytest.mark.skipif(not pathlib.Path(program).exists(),
                    reason="the program is not built")
def test_the_tutorial(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    page = Page(DOCS / "tutorial_python.md",
                {**programs(), "colonnade": program, "cpp": SERVER})
    page.run()
    languages = [block.language for block in page.blocks]
    assert languages.count("sh") == 1 and languages.count("cpp") == 1
    assert set(languages) == {"sh", "python", "text", "cpp", "console"}


def test_what_is_printed_is_compared():
    assert_shown("loss 1.2345\n", "loss 1.2346\n", 1)
    for printed in ("loss 1.25\n", "loss 1.2345", "Loss 1.2345\n", ""):
        with pytest.raises(AssertionError, match="line 1"):
            assert_shown(printed, "loss 1.2345\n", 1)
