#!/bin/bash
# Runs a test program as processes whose tests are ranks of each other, where
# they want as many (tests/testing/run_on_ranks.h).
#
#   run_as_ranks.sh RANKS BACKEND PROGRAM [ARGUMENT...]
set -euo pipefail
ranks=$1
backend=$2
shift 2

folder=$(mktemp -d)
processes=()
end() {
  kill "${processes[@]}" 2>/dev/null || true
  rm -rf "$folder"
}
trap end EXIT

for ((rank = 0; rank < ranks; ++rank)); do
  COLONNADE_TEST_RANK=$rank COLONNADE_TEST_RANKS=$ranks \
    COLONNADE_TEST_MEETING=$folder COLONNADE_BACKEND=$backend \
    "$@" >"$folder/out$rank" 2>&1 &
  processes+=($!)
done
status=0
for ((rank = 0; rank < ranks; ++rank)); do
  if ! wait "${processes[$rank]}"; then
    status=1
    echo "rank $rank failed:"
    cat "$folder/out$rank"
  fi
done
if [[ $status -eq 0 ]]; then
  tail -n 3 "$folder/out0"
fi
exit $status
