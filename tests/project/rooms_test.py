"""Reads the sources and fails where they break the project's arrows and bans.

usage: rooms_test.py ROOT

  Arrows   a room includes itself and, through any number of arrows of ROOMS,
           the rooms below it; the arrows are docs/design.md's
  Bans     what only some rooms may do (BANS)
  Headers  each public header is in its room's header set and in the umbrella
           header; what is in a folder detail/ is in neither, and no public
           header includes it
"""

import pathlib
import re
import sys

# room: the rooms that it may include
ROOMS = {
    "core": [],
    "memory": ["core"],
    "comm": ["core"],
    "random": ["comm"],
    "launch": ["random"],
    "parallel_state": ["comm"],
    "sharding": ["parallel_state"],
    "checkpoint": ["sharding"],
    "parallel_layers": ["checkpoint", "random"],
    "trace": ["launch", "parallel_layers"],
    "models": ["parallel_layers"],
    "train": ["models", "launch", "memory"],
}

# Targets of their own: their headers are not installed.
OWN_TARGETS = ["models", "train"]

INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)

# (what, pattern, folders and files that may)
BANS = [
    ("includes c10d", r"#\s*include\s*<torch/csrc/distributed/c10d",
     ["colonnade/comm", "tests/comm", "python", "benchmarks"]),
    ("reads the environment", r"\b(?:secure_)?getenv\s*\(|\benviron\b",
     ["colonnade/launch", "cli", "tests", "benchmarks", "examples"]),
    ("prints",
     r"\bstd::(?:cout|cerr|clog)\b|\b(?:v?f?printf|f?puts|putchar|perror)\s*\(",
     # The last word of a process that a signal ends has nowhere else to go.
     ["cli", "tests", "benchmarks", "examples",
      "colonnade/launch/detail/termination.cpp"]),
    ("ends the process",
     r"(?:\bstd|(?<!\w))::(?:_?exit|_Exit|quick_exit|abort|terminate)\s*\(",
     ["cli", "tests", "benchmarks", "examples"]),
    ("has `using namespace` at file scope", r"^using\s+namespace\b", []),
]


def reachable(room):
    """The room and all that its arrows lead to."""
    found, todo = set(), [room]
    while todo:
        room = todo.pop()
        if room not in found:
            found.add(room)
            todo += ROOMS[room]
    return found


def without_comments(text):
    """Blanks comments and the insides of strings; lines stay where they are."""

    def blank(match):
        token = match.group()
        if token.startswith("#"):
            return token.split("//")[0]
        if token.startswith("/"):
            return "\n" * token.count("\n")
        return token[0] + token[-1]

    return re.sub(
        r'#\s*include[^\n]*|//[^\n]*|/\*.*?\*/'
        r'|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'',
        blank, text, flags=re.DOTALL)


def room_of(path):
    parts = path.split("/")
    if parts[0] == "colonnade" and len(parts) > 2:
        return parts[1]
    return None


def check_source(path, text):
    """The complaints about one source or header, as lines of text."""
    code = without_comments(text)
    room = room_of(path)

    def line_of(match):
        return code.count("\n", 0, match.start()) + 1

    if room is not None and room not in ROOMS:
        yield f"{path}: no room `{room}` in the table of {__file__}"
        return
    is_public = (room is not None and path.endswith(".h")
                 and "/detail/" not in path)
    for match in INCLUDE.finditer(code):
        included = match.group(1)
        where = f"{path}:{line_of(match)}"
        other = room_of(included)
        if is_public and included in ("torch/torch.h", "torch/all.h",
                                      "torch/extension.h"):
            yield (f"{where}: a public header includes {included}; name the "
                   f"narrow headers that it needs")
        if other is None:
            continue
        if other not in ROOMS:
            yield f"{where}: includes {included}, of no room"
        elif room is not None and other not in reachable(room):
            yield (f"{where}: {room} may not include {other}; its arrows lead "
                   f"to {', '.join(sorted(reachable(room) - {room}))}")
        if (is_public and room not in OWN_TARGETS
                and "/detail/" in included):
            yield (f"{where}: a public header includes {included}, which is "
                   f"not installed")
    for what, pattern, allowed in BANS:
        if any(path == place or path.startswith(place + "/")
               for place in allowed):
            continue
        for match in re.finditer(pattern, code, re.MULTILINE):
            may = f"only {', '.join(allowed)} may" if allowed else "nobody may"
            yield f"{path}:{line_of(match)}: {what}; {may}"


def check_header_sets(files, texts):
    """The complaints about headers that users cannot reach, or should not."""
    umbrella = INCLUDE.findall(texts["colonnade/colonnade.h"])
    for path in files:
        room = room_of(path)
        if room in OWN_TARGETS or room is None or not path.endswith(".h"):
            continue
        cmake = texts.get(f"colonnade/{room}/CMakeLists.txt", "")
        public_part = cmake.partition("PUBLIC")[2]
        name = path.removeprefix(f"colonnade/{room}/")
        listed = name in public_part.split()
        private = "/detail/" in path
        if private and (listed or path in umbrella):
            yield f"{path}: is private, but in a header set or the umbrella"
        if not private and not listed:
            yield f"{path}: not in the header set of its room's CMakeLists.txt"
        if not private and path not in umbrella:
            yield f"{path}: not in the umbrella header colonnade/colonnade.h"


def check_tree(root):
    texts = {}
    for folder in ("colonnade", "cli", "python", "examples", "benchmarks",
                   "tests"):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in (".h", ".cpp") or path.name == "CMakeLists.txt":
                texts[str(path.relative_to(root))] = path.read_text()
    sources = [path for path in texts if path.endswith((".h", ".cpp"))]
    complaints = []
    for path in sources:
        complaints += check_source(path, texts[path])
    complaints += check_header_sets(sources, texts)
    if len(sources) < 10:
        complaints.append(f"{root}: only {len(sources)} sources found")
    return complaints


def self_test():
    """Each rule finds a breach of it, and leaves what is allowed."""
    comm = "colonnade/comm/a.cpp"
    layer = "colonnade/parallel_layers/a.h"
    cases = [
        (comm, '#include "colonnade/core/error.h"', False),
        (layer, '#include "colonnade/core/error.h"', False),  # over 4 arrows
        (comm, '#include "colonnade/random/generators.h"', True),
        (comm, '#include <colonnade/random/generators.h>', True),
        (comm, '// #include "colonnade/random/generators.h"', False),
        (layer, '#include "colonnade/launch/launch.h"', True),
        (comm, '#include "colonnade/comm/detail/x.h"', False),
        (layer, '#include "colonnade/parallel_layers/detail/x.h"', True),
        (comm, '#include "colonnade/core/detail/x.h"', False),
        ("tests/comm/a_test.cpp", '#include "colonnade/comm/detail/x.h"',
         False),
        (layer, "#include <torch/torch.h>", True),
        ("colonnade/parallel_layers/a.cpp", "#include <torch/torch.h>", False),
        (comm, "#include <torch/csrc/distributed/c10d/Work.hpp>", False),
        (layer, "#include <torch/csrc/distributed/c10d/Work.hpp>", True),
        (comm, 'auto* x = std::getenv("X");', True),
        ("colonnade/launch/a.cpp", 'auto* x = std::getenv("X");', False),
        (comm, "std::cout << 1;", True),
        (comm, 'text = "std::cout";  // printf(', False),
        (comm, "std::snprintf(b, 1, f);", False),
        (comm, 'std::fprintf(stderr, "x");', True),
        (comm, "world->abort(error);", False),
        (comm, "std::abort();", True),
        (comm, "using namespace std;", True),
        (comm, "  using namespace std;", False),
        ("colonnade/nowhere/a.cpp", "", True),
    ]
    complaints = []
    for path, text, is_wrong in cases:
        found = list(check_source(path, "int x;\n" + text + "\n"))
        if bool(found) != is_wrong or len(found) > 1:
            complaints.append(f"self-test: {path}: {text!r} gave {found}")
    return complaints


def main():
    complaints = self_test() + check_tree(pathlib.Path(sys.argv[1]))
    print("\n".join(complaints) or "the rooms keep their arrows")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
