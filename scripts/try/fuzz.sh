#!/usr/bin/env bash
# Searches for inputs that break a promise of the parsers, guided by coverage.
#
#   scripts/try/fuzz.sh                        each target for a minute
#   scripts/try/fuzz.sh --seconds 300 range    these targets for so long each
#   scripts/try/fuzz.sh --keep                 afterwards, puts what reaches new code into fuzz/corpus, small
#   scripts/try/fuzz.sh --no-build             with the targets as they were built last
#   scripts/try/fuzz.sh --list                 the names of the targets
#
# Prints a line of figures for each and exits with 1 if one found a fault; its input is in fuzz/artifacts.
# Needs cargo-fuzz and a C++ compiler; exits with 3 where it has no cargo-fuzz. Unstable flags of the
# compiler are allowed, so that a stable toolchain will do.
set -uo pipefail
cd "$(dirname "$0")/../../fuzz" || exit 1

seconds=60 keep=false build=true
targets=()
while [ $# -gt 0 ]; do
    case $1 in
    --seconds) seconds=${2:?--seconds needs a number}; shift ;;
    --keep) keep=true ;;
    --no-build) build=false ;;
    --list) sed -n 's/^path = "targets\/\(.*\)\.rs"$/\1/p' Cargo.toml; exit 0 ;;
    -h | --help) sed -n '2,12s/^# \{0,1\}//p' "../scripts/try/fuzz.sh"; exit 0 ;;
    -*) echo "scripts/try/fuzz.sh: unknown option $1 (see --help)" >&2; exit 2 ;;
    *) targets+=("$1") ;;
    esac
    shift
done
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(../scripts/try/fuzz.sh --list)

if $build; then
    cargo fuzz --version >/dev/null 2>&1 || { echo "scripts/try/fuzz.sh: cargo-fuzz is not installed" >&2; exit 3; }
    RUSTC_BOOTSTRAP=1 cargo fuzz build --target-dir target || exit 1
fi
programs="target/$(rustc -vV | sed -n 's/^host: //p')/release"
# Longer inputs show nothing new and take longer; the limits of the parsers are made small enough for them.
flags=(-max_len=2048 -dict=http.dict)

# run TARGET: its figures, or its fault.
run() {
    local name=$1 log=target/$1.log
    mkdir -p "target/corpus/$name" "corpus/$name" artifacts
    local TIMEFORMAT='stat::cpu: %U'
    {
        time "$programs/$name" "target/corpus/$name" "corpus/$name" "${flags[@]}" -max_total_time="$seconds" \
            -print_final_stats=1 -artifact_prefix="artifacts/$name-" 2>&1
    } >"$log" 2>"$log.cpu"
    local status=$?
    awk -v name="$name" -v status=$status '
        # "#123 DONE cov: 4 ft: 5 corp: 6/7b ...", and the name and number of a figure a line.
        /^#[0-9]+.* cov: / { for (i = 1; i < NF; i++) figure[$i] = $(i + 1) }
        /^stat::/ { figure[$1] = $2 }
        END {
            sub(/\/.*/, "", figure["corp:"])
            printf "%-11s %4d s of CPU  %9d executions  %5d edges  %5d features  %4d inputs  %s\n", name, figure["stat::cpu:"],
                figure["stat::number_of_executed_units:"], figure["cov:"], figure["ft:"], figure["corp:"],
                status == 0 ? "no fault" : "FAULT"
        }' "$log" "$log.cpu"
    [ $status -eq 0 ] || tail -n 40 "$log"
    return $status
}

# keep_small TARGET: as few and as short inputs as reach all the code that is known to be reached.
keep_small() {
    local name=$1 small
    small=$(mktemp -d) || return 1
    "$programs/$name" -set_cover_merge=1 -use_counters=0 "${flags[@]}" "$small" "corpus/$name" "target/corpus/$name" >"target/$name.log" 2>&1 &&
        rm -f "corpus/$name"/* && cp "$small"/* "corpus/$name/"
    local status=$?
    rm -rf "$small"
    return $status
}

failed=0
for name in "${targets[@]}"; do
    run "$name" || failed=1
    if $keep; then keep_small "$name" || failed=1; fi
done
exit $failed
