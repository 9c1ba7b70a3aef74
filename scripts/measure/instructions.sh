#!/usr/bin/env bash
# Instructions of each operation of benches/cases, counted by valgrind: the same from run to run
# on one build, whatever else the machine does, so that two versions can be compared by diff.
#
#   scripts/measure/instructions.sh            all operations
#   scripts/measure/instructions.sh TEXT...    those whose line contains one of the texts
#
# Each operation is done 1,000 and 2,000 times; the difference is what 1,000 of them cost, without
# the start. Only instructions of the program itself are counted, none of the kernel's. Needs valgrind.
set -euo pipefail
cd "$(dirname "$0")/../.."

case ${1-} in -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
if ! command -v valgrind >/dev/null; then
    echo "valgrind is missing: it is in the package of that name (apt install valgrind, dnf install valgrind)" >&2
    exit 1
fi

# The time zone is read for access lines; a zone with its file would cost more.
export TZ=UTC

program=$(cargo bench --locked --bench instructions --no-run --message-format json |
    sed -n 's/.*"name":"instructions".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
[ -n "$program" ] || { echo "the benches cannot be built" >&2; exit 1; }

# counted OPERATION TIMES
counted() {
    local said
    said=$(timeout 120 valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$1" "$2" 2>&1) ||
        { echo "$said" >&2; return 1; }
    sed -n 's/^==[0-9]*== Collected : \([0-9]*\).*/\1/p' <<<"$said"
}

wanted() {
    local line=$1 text
    shift
    [ $# -eq 0 ] && return
    for text; do [[ $line == *"$text"* ]] && return; done
    return 1
}

"$program" | while IFS= read -r operation; do
    wanted "$operation" "$@" || continue
    once=$(counted "$operation" 1000)
    twice=$(counted "$operation" 2000)
    printf '%8d  %s\n' $(((twice - once + 500) / 1000)) "$operation"
done
