"""Fails where two sources that a wheel compiles as one (cmake/Unity.cmake) have
a name for themselves in common.

usage: unity_test.py ROOT

Reads column 0, where clang-format has what a namespace holds: types, aliases
and constants, and functions of equal parameters. What it does not see, such as a
call that becomes ambiguous, the compiler does.
"""

import collections
import pathlib
import re
import sys

TYPE = r"^(?:struct|class|enum class|enum|union) (\w+)(?: final)?\s*[:{]"
ALIAS = r"^(using \w+ = [^;]+);"  # twice the same is no collision
CONSTANT = (r"^(?:constexpr|const|static|thread_local|std::atomic)\b[^;{}()]*?"
            r"\b(\w+)\s*(?:=|\{|;)")
FUNCTION = (r"^(?! |using|return|namespace|#|class|struct|\})[\w:<>,*& ]+?"
            r"\b(\w+)\(([^;{}]*?)\)(?: noexcept)? \{$")


def unities(cmake):
    """(folder, those of its sources that stay alone) for each call."""
    for folder, alone in re.findall(
            r"colonnade_unity\(\w+ (\S+?)(?:\s+ALONE\s+([^)]*))?\)", cmake):
        yield folder, set(alone.split())


def find(pattern, text):
    return re.findall(pattern, text, re.MULTILINE | re.DOTALL)


def own_names(text):
    """{(namespace, name): what is to be equal} of what a source has for
    itself."""
    hidden = "".join(find(r"^namespace \{$(.*?)^\}  // namespace$", text))
    hidden, text = (re.sub(r"//[^\n]*", "", part) for part in (hidden, text))
    namespace = " ".join(find(r"^namespace ([\w:]+) \{", text))
    names = {name: None for name in find(TYPE, hidden) + find(CONSTANT, hidden)}
    names |= {name: None for name in find(CONSTANT, text)
              if name.startswith("k")}  # internal outside of `namespace {` too
    for alias in find(ALIAS, hidden):
        names[alias.split()[1]] = alias
    for name, parameters in find(FUNCTION, hidden):  # others are overloads
        kinds = [re.sub(r"\W?\w+$", "", " ".join(one.split()))
                 for one in parameters.split(",")]
        names[f"{name}({', '.join(kinds)})"] = None
    return {(namespace, name): text for name, text in names.items()}


def collisions(root, folder, alone):
    owners = collections.defaultdict(list)
    for path in sorted((root / folder).rglob("*.cpp")):
        if path.stem not in alone:
            for name, text in own_names(path.read_text()).items():
                owners[name].append((path.relative_to(root), text))
    for (_, name), owned in sorted(owners.items()):
        paths, texts = zip(*owned)
        if len(paths) > 1 and (None in texts or len(set(texts)) > 1):
            yield (f"{', '.join(map(str, paths))}: {name} is in each; rename "
                   f"one, or name it after ALONE in colonnade_unity({folder})")


def main():
    root = pathlib.Path(sys.argv[1])
    cmake = "".join((root / place / "CMakeLists.txt").read_text()
                    for place in ("colonnade", "python", "cli"))
    calls = list(unities(cmake))
    complaints = [line for call in calls for line in collisions(root, *call)]
    print("\n".join(complaints) or "no two sources of one have a name in common")
    # It can fail: there are names that keep sources alone.
    seen = sum(1 for folder, _ in calls for _ in collisions(root, folder, ()))
    sys.exit(bool(complaints) or len(calls) < 5 or seen < 3)


if __name__ == "__main__":
    main()
