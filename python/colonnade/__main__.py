"""`python -m colonnade`, and the command `colonnade`: the program."""

import os
import pathlib
import sys

from ._build_info import program


def main() -> None:
    """Becomes the program, with this process's arguments."""
    path = pathlib.Path(__file__).parent / "bin" / "colonnade"
    if not path.exists():  # a package in a build folder
        path = pathlib.Path(program)
    if not path.exists():
        sys.exit(
            "colonnade: this package was built without the program, which "
            "compiles for half as long again; in the folder of the sources, "
            "either\n  ./run wheel  # and install what it makes\nor\n"
            "  pip install . -C cmake.define.COLONNADE_BUILD_CLI=ON "
            "-C 'build.targets=colonnade_python;colonnade_cli'")
    sys.stdout.flush()
    os.execv(path, ["colonnade", *sys.argv[1:]])


if __name__ == "__main__":
    main()
