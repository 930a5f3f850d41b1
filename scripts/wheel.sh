#!/usr/bin/env bash
# Builds a wheel of the Python package into dist/, with the program, for an
# interpreter and its torch, and tries both in a new environment that sees the
# same torch.
#
# usage: wheel.sh PYTHON
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$1

part=$(mktemp -d)
trap 'rm -rf "$part"' EXIT
torch=$("$python" -c 'import torch; print(torch.__version__, torch.__path__[0])')
echo "Compiling for torch ${torch%% *} in ${torch#* }"
"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps \
  --wheel-dir "$part" -C cmake.define.COLONNADE_BUILD_CLI=ON \
  -C "build.targets=colonnade_python;colonnade_cli" .
wheel=dist/$(basename "$part"/*.whl)
mkdir -p dist
mv "$part"/*.whl dist/

"$python" -m venv "$part/env"
dirname "${torch#* }" > "$(echo "$part"/env/lib/python3*/site-packages)/torch.pth"
"$part/env/bin/python" -m pip install --quiet --disable-pip-version-check \
  --no-deps "$wheel"
(
  cd "$part"  # away from the sources
  env/bin/python "$OLDPWD/examples/python/hello.py" "$part/hello"
  env/bin/colonnade graph "$part/hello/traced"
) >"$part/log" 2>&1 || {
  cat "$part/log" >&2
  echo "wheel.sh: $wheel does not work" >&2
  exit 1
}
echo "$wheel, $(du -k --apparent-size "$wheel" | cut -f1) KiB: installed into a \
new environment, it runs examples/python/hello.py and \`colonnade\`"
echo "Install it beside torch ${torch%% *} with
  pip install $wheel"
