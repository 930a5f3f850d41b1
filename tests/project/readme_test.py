"""Fails where the README's program is not examples/mlp.cpp.

usage: readme_test.py ROOT

The README shows the file whole, but for the two lines of comment at its head.
"""

import pathlib
import re
import sys


def main():
    root = pathlib.Path(sys.argv[1])
    readme = (root / "README.md").read_text()
    shown = re.search(r"^```cpp\n(.*?)^```$", readme,
                      re.DOTALL | re.MULTILINE).group(1)
    program = (root / "examples" / "mlp.cpp").read_text().split("\n", 2)[2]
    if shown != program:
        print("README.md: its program differs from examples/mlp.cpp; copy it")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
