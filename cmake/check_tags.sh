#!/usr/bin/env bash
# Every invariant that a header claims (SLOT-2) has a line of code that keeps it and a test that names it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tags=$(grep -rhoE '\b(WAIT|PART|DIR|SLOT|QUEUE|RESULT|BOARD|BARRIER|GROUP|COLL|BSP|ASP|DATA|MODEL|OPT)-[0-9]+\b' include src | sort -u)
[[ -n $tags ]] || { echo "check_tags: found no tags at all" >&2; exit 1; }
failed=0
for tag in $tags; do
  if (($(grep -rwo -- "$tag" include src | wc -l) < 2)); then
    echo "$tag is claimed, but no line of code says that it keeps it" >&2
    failed=1
  fi
  grep -rqw -- "$tag" tests || { echo "$tag has no test that names it" >&2; failed=1; }
done
exit $failed
