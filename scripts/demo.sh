#!/usr/bin/env bash
# The demo: trains a small language model on two ranks, then shows that its
# checkpoint predicts and writes the same on one rank as on two, and so does a
# graph that was traced of it. What it says, it has checked; it fails where a
# check does.
#
# usage: demo.sh PROGRAM [FOLDER]   (FOLDER, build/demo if not given, is
#                                    replaced)
set -euo pipefail

program=${1:?usage: demo.sh PROGRAM [FOLDER]}
folder=${2:-build/demo}
book=data/pride_and_prejudice.txt
prompt="It is a truth universally acknowledged, that "
# The largest difference of two losses that count as one, in nats a byte: sums
# over two ranks round differently than sums over one.
tolerance=0.0001
# Where the two best logits are this close, rounding may choose either.
close_logits=0.0001

if [[ -t 1 ]]; then
  bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
else
  bold='' dim='' plain=''
fi

exec 3>&1  # for what is shown although its reader takes standard output

title() { printf '\n%s== %s%s\n\n' "$bold" "$1" "$plain"; }

check_failed() {
  printf 'demo: %s\n' "$1" >&2
  exit 1
}

# Shows a command, then runs it.
colonnade() {
  printf '%s$ colonnade' "$dim"
  local word
  for word in "$@"; do
    if [[ $word == *' '* ]]; then
      word="\"$word\""
    fi
    printf ' %s' "$word"
  done
  printf '%s\n' "$plain"
  "$program" "$@"
}

# The n-th number of the last line of loss.csv that has one there.
last_in_csv() {
  awk -F, -v n="$1" 'NR > 1 && $n != "" {x = $n} END {print x}' \
    "$folder/loss.csv"
}

# expect_same_text TOKENS TOKENS WHO: the texts are alike, up to a byte at which
# rounding decides. "WHO the same 320 bytes."
expect_same_text() {
  local parted margin_a margin_b written
  # The first line at which they part, with both margins; 0 where none.
  read -r parted margin_a margin_b < <(
    paste -d, "$1" "$2" |
      awk -F, 'NR > 1 && $1 != $3 {print NR - 1, $2, $4; found = 1; exit}
               END {if (!found) print 0, 0, 0}')
  written=$(($(wc -l <"$1") - 1))
  if [[ $written -lt 320 || $(wc -l <"$2") -lt 321 ]]; then
    check_failed "a text is shorter than 320 bytes"
  elif [[ $parted -eq 0 ]]; then
    printf '\n%s the same %d bytes.\n' "$3" "$written"
  elif awk -v a="$margin_a" -v b="$margin_b" -v t="$close_logits" \
    'BEGIN {exit !(a <= t && b <= t)}'; then
    printf '\n%s the same up to byte %d, where the two best ' "$3" "$parted"
    printf 'logits are %.1e apart: rounding decides there.\n' "$margin_b"
  else
    check_failed "the texts part at byte $parted, where the best logit leads \
by $margin_a and $margin_b"
  fi
}

if [[ -e $folder && ! -e $folder/latest && -n $(ls -A "$folder") ]]; then
  check_failed "$folder is not an earlier demo's; name another folder"
fi
rm -rf "$folder"

title "1. Train on two ranks: each holds half of every matrix"
colonnade train --data "$book" --out "$folder" --tp 2 --steps 400 \
  --hidden 192 --layers 4 --heads 6 --seq-len 128 --batch 16 --lr 3e-3 \
  --warmup 40 --eval-every 50 --eval-windows 128

first=$(awk -F, 'NR == 2 {print $2}' "$folder/loss.csv")
last=$(last_in_csv 2)
held_out=$(last_in_csv 5)
awk -v a="$first" -v b="$last" -v c="$held_out" \
  'BEGIN {exit !(b < a - 2.5 && c < a - 2.5)}' ||
  check_failed "the loss fell from $first to $last only"
printf '\nThe loss fell from %.2f to %.2f, on text never seen to %.2f.\n' \
  "$first" "$last" "$held_out"

title "2. Load the checkpoint on one rank, and on two"
loss_at() {
  local output
  output=$(colonnade evaluate --checkpoint "$folder" --data "$book" --tp "$1")
  printf '%s\n' "$output" >&3
  awk '$1 == "loss" {print $2}' <<<"$output"
}
one=$(loss_at 1)
two=$(loss_at 2)
difference=$(awk -v a="$one" -v b="$two" \
  'BEGIN {d = a - b; printf "%.6f", d < 0 ? -d : d}')
awk -v d="$difference" -v t="$tolerance" 'BEGIN {exit !(d <= t)}' ||
  check_failed "the losses $one and $two differ by more than $tolerance"
printf '\nThe losses differ by %s (at most %s may be rounding).\n' \
  "$difference" "$tolerance"

title "3. Write with it, on two ranks and on one"
colonnade generate --checkpoint "$folder" --prompt "$prompt" --tp 2 \
  --max-tokens 320 --tokens "$folder/tokens_2.csv"
"$program" generate --checkpoint "$folder" --prompt "$prompt" --tp 1 \
  --max-tokens 320 --tokens "$folder/tokens_1.csv" >/dev/null

expect_same_text "$folder/tokens_1.csv" "$folder/tokens_2.csv" "One rank writes"

title "4. Trace it: a graph and its weights, which run without the model's code"
colonnade trace --checkpoint "$folder" --out "$folder/traced" --tp 2
printf '\n'
colonnade run "$folder/traced" --prompt "$prompt" --tp 2 --max-tokens 320 \
  --tokens "$folder/traced_2.csv"
"$program" run "$folder/traced" --prompt "$prompt" --tp 1 --max-tokens 320 \
  --tokens "$folder/traced_1.csv" >/dev/null

expect_same_text "$folder/tokens_2.csv" "$folder/traced_2.csv" \
  "On two ranks the graph writes"
expect_same_text "$folder/tokens_1.csv" "$folder/traced_1.csv" \
  "On one rank it writes"

title "5. Draw from what it finds likely, instead of taking the likeliest"
colonnade generate --checkpoint "$folder" --prompt "$prompt" --tp 2 \
  --max-tokens 320 --temperature 0.7 --seed 1

title "Next"
cat <<EOF
  $folder/loss.svg
      the loss curve, for a browser
  $program train --data $book --out $folder --resume --tp 1 --steps 800
      goes on with this run on one rank
  $program generate --checkpoint $folder --prompt "My dear " --temperature 0.7
      writes something else
  $program graph $folder/traced --profile --svg $folder/graph.svg
      says what the graph computes and what that takes, with a picture
  $program bench $folder/traced
      times its calls
  $program --help
      says what there is
EOF
