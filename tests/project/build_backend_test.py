"""Fails where the wheel asks for another torch than the one it is compiled for.

usage: build_backend_test.py ROOT
"""

import importlib
import pathlib
import sys
import sysconfig
import tempfile
import types

# What the backend adds to, which need not be installed here.
for name in ("scikit_build_core", "scikit_build_core.build"):
    sys.modules[name] = types.ModuleType(name)
scikit = sys.modules["scikit_build_core.build"]
sys.modules["scikit_build_core"].build = scikit
scikit.get_requires_for_build_wheel = lambda settings: ["cmake"]
scikit.get_requires_for_build_editable = lambda settings: ["cmake"]

root = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(root / "python"))
sys.dont_write_bytecode = True
import build_backend  # noqa: E402

# No torch of this machine's.
sys.path[:] = [path for path in sys.path
               if not (pathlib.Path(path) / "torch").exists()]
places = dict.fromkeys(["platlib"])
sysconfig.get_path = places.get


def asks_for():
    importlib.invalidate_caches()
    return (build_backend.get_requires_for_build_wheel(),
            build_backend.dynamic_metadata("dependencies"))


def put_torch(folder, version):
    (folder / "torch").mkdir(parents=True)
    (folder / "torch/__init__.py").touch()
    (folder / "torch/version.py").write_text(
        f"__all__ = []\n__version__ = '{version}'\ndebug = False\n")


with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    places["platlib"] = str(folder / "beside")
    pinned = next(line for line in (root / "requirements-torch.txt").open()
                  if line.startswith("torch==")).strip()
    release = pinned.rpartition(".")[0]
    assert asks_for() == (["cmake", pinned], [f"{release}.*"]), asks_for()
    put_torch(folder / "beside", "2.13.0a0+git1")
    assert asks_for() == (["cmake"], ["torch==2.13.*"]), asks_for()
    put_torch(folder / "on_path", "2.12.1+cpu")
    sys.path.insert(0, str(folder / "on_path"))
    assert asks_for() == (["cmake"], ["torch==2.12.*"]), asks_for()

text = (root / "pyproject.toml").read_text()
assert 'dynamic = ["version", "dependencies"]' in text
print("the wheel asks for the torch that it is compiled for")
