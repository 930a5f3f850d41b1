#!/usr/bin/env bash
# usage: lint.sh TORCH [SOURCE...]   what a machine can say about the sources:
# their format, each public header compiled alone, and clang-tidy over all
# sources or those given. TORCH is the folder `torch` of a wheel.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
torch=$1
shift

echo "== format"
scripts/format.sh --check

echo "== public headers, each alone"
cmake --preset release -DTorchWheel_ROOT="$torch" >/dev/null
cmake --build build/release --target all_verify_interface_header_sets

# clang-tidy reads clang's precompiled header, not gcc's.
echo "== clang-tidy"
cmake --preset release -B build/lint -DTorchWheel_ROOT="$torch" \
  -DCMAKE_CXX_COMPILER=clang++-14 -DCMAKE_VERIFY_INTERFACE_HEADER_SETS=OFF \
  >/dev/null
cmake --build build/lint --target \
  colonnade/CMakeFiles/colonnade.dir/cmake_pch.hxx.pch
sources=("$@")
if [[ ${#sources[@]} -eq 0 ]]; then
  sources=('/(colonnade|cli|tests|benchmarks|examples)/.*\.cpp$')
fi
run-clang-tidy-14 -quiet -p build/lint "${sources[@]}"
