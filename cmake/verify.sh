#!/usr/bin/env bash
# ./dev verify: the deep checks, one after the other, and a table of them. Sourced by dev, whose functions
# it uses. A part passes when its programs do and its log says how much was done: what did not run, fails.
# The times are for two cores.
set -euo pipefail
: "${root:?run ./dev verify}" "${build:?}" "${jobs:?}"

parts=(model mutations kills storm fuzz sanitize)
declare -A about=(
  [model]="the mechanisms in every schedule within bounds, then in wider ones; about 6 minutes"
  [mutations]="every order weakened, every repair left out: each must be caught; about 4 minutes"
  [kills]="each operation killed at each of its instructions; about 2 minutes"
  [storm]="processes at work on everything, killed at random; about 3 minutes"
  [fuzz]="damaged segments opened and used, for 2 minutes after a minute of building"
  [sanitize]="the tests under each sanitizer; about 6 minutes, and at first 5 of building"
)
logs=$root/build/verify
json=''     # where the table of mutations goes
running=''  # the process group of the part that runs

build_for() {  # preset, program
  configure "$1"
  cmake --build "$root/build/$1" --target "$2" -- --quiet
}

# Runs tests, all of which must exist, pass, and not be skipped.
run_tests() {  # filter
  "$build/bin/heddle_process_tests" --gtest_filter="$1" | tee "$logs/tests"
  local ran passed
  ran=$(sed -nE 's/^\[=+\] ([0-9]+) tests? from .* ran\..*/\1/p' "$logs/tests")
  passed=$(sed -nE 's/^\[  PASSED  \] ([0-9]+) tests?\.$/\1/p' "$logs/tests")
  rm "$logs/tests"
  ((ran > 0 && ran == passed)) || fail "of the ${ran:-0} tests like $1, ${passed:-0} ran and passed"
}

# Each part, and what it has counted, which it tells from its log.

verify_model() {
  build_for release heddle_model_tests
  "$build/bin/heddle_model_tests" --explore --jobs "$jobs"
  echo "one preemption and one stale read more"
  "$build/bin/heddle_model_tests" --explore --jobs "$jobs" --wider 1 --seconds 3
  local seed=$((RANDOM + 1))
  echo "at random, two more, --seed $seed"
  "$build/bin/heddle_model_tests" --explore --jobs "$jobs" --wider 2 --seconds 1 --seed "$seed"
}
counted_model() {
  awk '/^[0-9]+ scenarios, [0-9]+ runs, [0-9]+ with deaths/ { runs += $3; deaths += $5 }
       END { if (runs) print runs " schedules, " deaths " with deaths" }'
}

verify_mutations() {
  build_for release heddle_model_tests
  "$build/bin/heddle_model_tests" --mutations --jobs "$jobs" ${json:+--json "$json"}
}
counted_mutations() { sed -nE '/^[1-9][0-9]* of [0-9]+ caught$/p'; }

verify_kills() {
  build_for release heddle_process_tests
  HEDDLE_KILLS=all run_tests '*EveryInstruction*'
}
counted_kills() { awk '/^\[ +KILLS +\]/ { kills += $4 } END { if (kills) print kills " kills" }'; }

verify_storm() {
  build_for release heddle_process_tests
  HEDDLE_STORM=30 run_tests 'Storm*'
}
counted_storm() {
  sed -nE 's/^\[ +STORM +\].* ([0-9]+) kills.*/\1/p' |
    awk '{ kills += $1 } END { if (kills) print kills " kills" }'
}

verify_fuzz() { "$root/dev" fuzz 120; }
counted_fuzz() { sed -nE 's/^stat::number_of_executed_units: ([1-9][0-9]*)$/\1 inputs/p'; }

verify_sanitize() { "$root/dev" sanitize; }
counted_sanitize() {
  awk '/% tests passed, / { tests += $NF; ++kinds }
       END { if (tests && kinds == 3) print tests " tests under 3 sanitizers" }'
}

# ---- around them

# Removes the segments that tests have left which were cut short: new ones, mapped by nobody, with the
# number of a process in their name that is no more.
remove_leftovers() {
  local file pid
  for file in /dev/shm/heddle.*; do
    [[ $before != *" $file "* && $file =~ [0-9]{2,} ]] || continue
    pid=${BASH_REMATCH[0]}
    [[ -d /proc/$pid ]] || grep -qsF "$file" /proc/[0-9]*/maps || rm -f "$file"
  done
}

# Ends the part that runs, with all its processes.
end_running() {
  [[ -n $running ]] || return 0
  kill -TERM -- "-$running" 2>/dev/null || true
  for ((i = 0; i < 50; ++i)); do
    kill -0 -- "-$running" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL -- "-$running" 2>/dev/null || true
}

interrupted() {
  trap '' INT TERM
  echo "verify: interrupted" >&2
  end_running
  remove_leftovers
  exit 130
}

# Runs one part in a process group of its own, and adds a row to the table.
run_part() {  # part
  local log=$logs/$1.log start=$SECONDS rc=0 counted verdict=passed
  echo "$1: ${about[$1]}"
  set -m
  "verify_$1" >"$log" 2>&1 </dev/null &
  running=$!
  set +m
  wait "$running" || rc=$?
  running=''
  counted=$("counted_$1" <"$log")
  if ((rc != 0)) || [[ -z $counted ]]; then
    verdict=FAILED
    tail -n 30 "$log"
    echo "$1: failed${counted:+ ($counted)}; all of it is in $log" >&2
  fi
  table+=$(printf '%-10s %-44s %-7s %5d s' "$1" "${counted:-nothing}" "$verdict" $((SECONDS - start)))$'\n'
}

verify() {
  local chosen=() part table=''
  while (($#)); do
    part=${1#--}
    if [[ $1 == --json ]]; then
      (($# > 1)) || fail "verify: --json needs the name of a file" 2
      json=$(realpath -m -- "$2")
      shift
    elif [[ $1 == --?* && -n ${about[$part]:-} ]]; then
      chosen+=("$part")
    else
      fail "verify: unknown option \"$1\": it takes ${parts[*]/#/--} and --json FILE" 2
    fi
    shift
  done
  ((${#chosen[@]})) || chosen=("${parts[@]}")
  [[ -z $json || " ${chosen[*]} " == *" mutations "* ]] || fail "verify: --json goes with --mutations" 2

  mkdir -p "$logs"
  local before
  before=" $(echo /dev/shm/heddle.*) "
  trap interrupted INT TERM
  for part in "${chosen[@]}"; do run_part "$part"; done
  remove_leftovers
  printf '\n%-10s %-44s %-7s %7s\n%s' part counted "" time "$table"
  [[ $table != *FAILED* ]]
}
