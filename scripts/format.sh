#!/usr/bin/env bash
# usage: format.sh [--check]   formats our C++ sources, or fails where one
# is not formatted and names its lines.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

action=(-i)
if [[ ${1-} == --check ]]; then
  action=(--dry-run --Werror)
fi
git ls-files -z --cached --others --exclude-standard '*.h' '*.cpp' |
  xargs -0 -r clang-format-14 "${action[@]}"
