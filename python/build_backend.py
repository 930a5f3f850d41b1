"""scikit-build-core, which also gets torch where the environment that the
package is for has none: the package is compiled against it."""

import importlib.metadata
import pathlib
import sysconfig

from scikit_build_core import build as _build
from scikit_build_core.build import *  # noqa: F403  the other hooks


def _has_torch() -> bool:
    """Whether torch is in the environment, which a build that is isolated from
    it does not see on its path."""
    if any(importlib.metadata.distributions(name="torch")):
        return True
    return (pathlib.Path(sysconfig.get_path("platlib")) / "torch").is_dir()


def _pinned_torch() -> str:
    """The torch that the project is tested with."""
    pins = pathlib.Path(__file__).parent.parent / "requirements-torch.txt"
    return next(line for line in pins.read_text().splitlines()
                if line.startswith("torch=="))


def get_requires_for_build_wheel(config_settings=None):
    requires = _build.get_requires_for_build_wheel(config_settings)
    return requires if _has_torch() else [*requires, _pinned_torch()]


def get_requires_for_build_editable(config_settings=None):
    requires = _build.get_requires_for_build_editable(config_settings)
    return requires if _has_torch() else [*requires, _pinned_torch()]
