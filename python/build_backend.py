"""scikit-build-core, which also gets torch where the environment that the
package is for has none: the package is compiled against it."""

import importlib.util
import pathlib
import re
import sysconfig

from scikit_build_core import build as _build
from scikit_build_core.build import *  # noqa: F403  the other hooks


def _torch_version() -> str | None:
    """That of the torch to compile for, which cmake/PythonTorch.cmake finds in
    the same way: in the environment, which a build that is isolated from it does
    not see on its path."""
    spec = importlib.util.find_spec("torch")
    folder = (pathlib.Path(spec.origin).parent if spec and spec.origin
              else pathlib.Path(sysconfig.get_path("platlib"), "torch"))
    try:
        text = (folder / "version.py").read_text()
    except FileNotFoundError:
        return None
    return re.search(r"^__version__ = '([^']+)'", text, re.M)[1]


def _pinned_torch() -> str:
    """The torch that the project is tested with."""
    pins = pathlib.Path(__file__).parent.parent / "requirements-torch.txt"
    return next(line for line in pins.read_text().splitlines()
                if line.startswith("torch=="))


def get_requires_for_build_wheel(config_settings=None):
    requires = _build.get_requires_for_build_wheel(config_settings)
    return requires if _torch_version() else [*requires, _pinned_torch()]


def get_requires_for_build_editable(config_settings=None):
    requires = _build.get_requires_for_build_editable(config_settings)
    return requires if _torch_version() else [*requires, _pinned_torch()]


def dynamic_metadata(field, settings=None):
    """What the wheel needs: torch of the release that it is compiled for."""
    version = _torch_version() or _pinned_torch().partition("==")[2]
    return [f"torch=={'.'.join(version.split('.')[:2])}.*"]
