#!/usr/bin/env bash
# Fails when an include points upwards in base < shm < sync < run < train < procs, leaves the layers, or joins
# two of sync's four mechanisms.   usage: check_layers.sh [project]
set -euo pipefail
cd "${1:-$(dirname "${BASH_SOURCE[0]}")/..}"

declare -A height=([base]=0 [shm]=1 [sync]=2 [run]=3 [train]=4 [procs]=5)
mechanisms='slot|task_queue|barrier|collective'

# What a path such as include/heddle/sync/slot.hpp belongs to; nothing when it belongs to none.
layer_of() { sed -nE 's,^(include/heddle/|heddle/|src/)?([a-z]+)/.*,\2,p' <<<"$1"; }
mechanism_of() { sed -nE "s,^.*/sync/($mechanisms)(_[a-z_]+)?[./].*,\1,p" <<<"$1"; }

problem_of() {  # file, header
  local from to mine theirs
  from=$(layer_of "$1") to=$(layer_of "$2")
  if [[ -z ${height[${from:-none}]:-} ]]; then
    echo "this file is in no layer"
  elif [[ -z ${height[${to:-none}]:-} ]]; then
    echo "$2 is in no layer"
  elif ((height[$to] > height[$from])); then
    echo "$from is below $to and may not include $2"
  else
    mine=$(mechanism_of "$1") theirs=$(mechanism_of "$2")
    if [[ -n $mine && -n $theirs && $mine != "$theirs" ]]; then
      echo "$mine and $theirs may not know each other"
    fi
  fi
}

rc=0
while IFS=: read -r file line text; do
  header=${text#*[<\"]} header=${header%%[>\"]*}
  case $header in
    *../*) problem="name $header by its path from include/" ;;
    heddle/*) problem=$(problem_of "$file" "$header") ;;
    *) continue ;;
  esac
  if [[ -n $problem ]]; then
    echo "$file:$line: $problem" >&2
    rc=1
  fi
done < <(grep -rnE '^ *# *include *[<"]' --include='*.hpp' --include='*.cpp' include src procs)
exit $rc
