"""The program, as the package starts it."""

import subprocess
import sys

import pytest

import colonnade
import colonnade.__main__


@pytest.mark.skipif(
    not colonnade.__main__.pathlib.Path(colonnade.__main__.program).exists(),
    reason="the program is not built")
def test_python_m_colonnade():
    done = subprocess.run([sys.executable, "-m", "colonnade", "--version"],
                          check=True, capture_output=True, text=True)
    assert colonnade.__version__ in done.stdout
    done = subprocess.run([sys.executable, "-m", "colonnade", "trian"],
                          check=False, capture_output=True, text=True)
    assert done.returncode != 0 and "train" in done.stderr


def test_a_package_without_the_program_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(colonnade.__main__, "program", "/nowhere/colonnade")
    with pytest.raises(SystemExit, match="built without the program") as caught:
        colonnade.__main__.main()
    assert "./run wheel" in str(caught.value)
    assert "COLONNADE_BUILD_CLI=ON" in str(caught.value)
