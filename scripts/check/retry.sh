#!/usr/bin/env bash
# Runs a test command of cargo; where tests fail, runs those alone once more. Fails if they fail again.
#
#   scripts/check/retry.sh cargo test --locked --no-fail-fast [OPTION...] [-- OPTION...]
#
# Where nothing says which tests failed (a build, a test of the documentation), all of it runs again.
set -uo pipefail

case ${1-} in "" | -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;; esac

out=$(mktemp) || exit 1
trap 'rm -f "$out"' EXIT

"$@" 2>&1 | tee "$out" && exit 0

# The list at the end of each test program: "failures:" and the names, indented.
mapfile -t names < <(sed -n '/^failures:$/,/^test result:/s/^    \([A-Za-z0-9_:]*\)$/\1/p' "$out" | LC_ALL=C sort -u)
reported=$(grep -c '^test result: FAILED' "$out")
broken=$(grep -cE '^error: (could not compile|doctest failed)' "$out")

command=()
for word in "$@"; do
    [ "$word" = -- ] && break
    command+=("$word")
done
if [ ${#names[@]} -eq 0 ] || [ "$reported" -eq 0 ] || [ "$broken" -gt 0 ]; then
    echo "== FAILED, once more: $*"
    exec "$@"
fi
echo "== FAILED, once more: ${names[*]}"
"${command[@]}" -- --exact "${names[@]}"
