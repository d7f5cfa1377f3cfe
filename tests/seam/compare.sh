#!/usr/bin/env bash
# Compares two object files: the same functions, of the same instructions, and no name of an edge left.
# usage: compare.sh heddle.o plain.o [regular expression of the functions that may differ]
set -euo pipefail
may_differ=${3:-^$}

functions() {  # object
  objdump -d -C --no-addresses --no-show-raw-insn "$1" |
    awk -v may_differ="$may_differ" '/^</ { wanted = $0 !~ may_differ } wanted && /^[<\t]/'
}

heddle=$(functions "$1") plain=$(functions "$2")
count=$(grep -c '^<' <<<"$heddle") || true
failed=0
diff -u -F '^<' --label "$1" --label "$2" <(echo "$heddle") <(echo "$plain") || failed=1
if grep -q 'SEAM\.' "$1"; then
  echo "$1 still has the names of edges in it"
  failed=1
fi
if ((count < 60)); then
  echo "$1 has only $count functions: the comparison does not see them"
  failed=1
fi
echo "compared $count functions$([[ $may_differ == '^$' ]] || echo ", without those like $may_differ")"
exit $failed
