#!/usr/bin/env bash
# Fails when an include points upwards in base < shm < sync < run < train < procs, leaves the layers, or joins
# two of sync's four mechanisms.   usage: check_layers.sh [project]
set -euo pipefail
cd "${1:-$(dirname "${BASH_SOURCE[0]}")/..}"

declare -A height=([base]=0 [shm]=1 [sync]=2 [run]=3 [train]=4 [procs]=5)
layer='^(include/heddle/|heddle/|src/)?([a-z]+)/'
mechanism='/sync/(slot|task_queue|barrier|collective)[_./]'

check() {  # file, header: sets problem
  local from='' to='' mine='' theirs=''
  [[ $1 =~ $layer ]] && from=${BASH_REMATCH[2]}
  [[ $2 =~ $layer ]] && to=${BASH_REMATCH[2]}
  [[ $1 =~ $mechanism ]] && mine=${BASH_REMATCH[1]}
  [[ $2 =~ $mechanism ]] && theirs=${BASH_REMATCH[1]}

  problem=
  if [[ $2 == *../* ]]; then
    problem="name $2 by its path from include/"
  elif [[ $2 != heddle/* ]]; then
    return
  elif [[ -z ${height[${from:-none}]:-} ]]; then
    problem="this file is in no layer"
  elif [[ -z ${height[${to:-none}]:-} ]]; then
    problem="$2 is in no layer"
  elif ((height[$to] > height[$from])); then
    problem="$from is below $to and may not include $2"
  elif [[ -n $mine && -n $theirs && $mine != "$theirs" ]]; then
    problem="$mine and $theirs may not know each other"
  fi
}

rc=0
while IFS=: read -r file line text; do
  header=${text#*[<\"]} header=${header%%[>\"]*}
  check "$file" "$header"
  if [[ -n $problem ]]; then
    echo "$file:$line: $problem" >&2
    rc=1
  fi
done < <(grep -rnE '^ *# *include *[<"]' --include='*.hpp' --include='*.cpp' include src procs)
exit $rc
