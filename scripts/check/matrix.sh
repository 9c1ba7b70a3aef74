#!/usr/bin/env bash
# The black-box suite in each configuration of the program, and how many of its tests ran in each:
#
#   io_uring     the default build, the tests of that backend
#   epoll        the default build, the tests of the portable backend and those of neither
#   poll(2)      the portable backend with poll(2) below it: nothing leans on epoll
#   substitutes  the feature `portable`: both backends with what systems without openat2, sendfile,
#                splice and SO_REUSEPORT use
#
#   scripts/check/matrix.sh [--retry] [CONFIGURATION...]     (default: all)
#
# With --retry tests that fail run once more, alone.
#
# The tests are built once; the program is built once for each of the three builds. Where the system
# refuses rings, the tests of io_uring are counted as left out (FS_CACHE_TEST_REQUIRE_URING makes
# that a failure). A configuration in which no test ran has failed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1

known=(io_uring epoll "poll(2)" substitutes)
chosen=() retry=()
for arg in "$@"; do
    case $arg in
    -h | --help) sed -n '2,17s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --retry) retry=(scripts/check/retry.sh) ;;
    io_uring | uring) chosen+=(io_uring) ;;
    epoll | substitutes) chosen+=("$arg") ;;
    "poll(2)" | poll2 | poll) chosen+=("poll(2)") ;;
    portable) chosen+=(substitutes) ;;
    *) echo "scripts/check/matrix.sh: no such configuration: $arg (see --help)" >&2; exit 2 ;;
    esac
done
[ ${#chosen[@]} -gt 0 ] || chosen=("${known[@]}")

base=${CARGO_TARGET_DIR:-target}
case $base in /*) ;; *) base=$PWD/$base ;; esac
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
summary=() failed=()

# program DIRECTORY ARGUMENTS...: builds the program alone; other flags need another directory, or
# each build would throw away what the last one made.
program() {
    local directory=$1
    shift
    CARGO_TARGET_DIR=$directory cargo build --locked --quiet --bin fs-caching-server "$@"
}

# suite NAME PROGRAM ARGUMENTS...: runs the tests against this program.
suite() {
    local name=$1 program=$2 begun=$SECONDS status passed broken skipped
    shift 2
    printf '\n== black-box suite: %s\n' "$name"
    FS_CACHE_TEST_BINARY=$program "${retry[@]+"${retry[@]}"}" \
        cargo test --locked --quiet --test blackbox -- --nocapture "$@" >"$work/out" 2>&1
    status=$?
    # The first of these lines is of all tests, a second one of those that were run once more.
    passed=$(sed -n 's/^test result: .* \([0-9]*\) passed; .*/\1/p' "$work/out" | head -n 1)
    broken=$(sed -n 's/^test result: .* \([0-9]*\) failed; .*/\1/p' "$work/out" | head -n 1)
    grep '^== FAILED, once more' "$work/out"
    skipped=$(grep -c '^SKIPPED: io_uring' "$work/out")
    [ "$status" -eq 0 ] || { tail -n 150 "$work/out"; failed+=("$name"); }
    # A suite that ran nothing proves nothing.
    if [ "$status" -eq 0 ] && [ "$((${passed:-0} - skipped))" -le 0 ] && [ "$name" != io_uring ]; then
        echo "no test ran"
        failed+=("$name")
    fi
    summary+=("$(printf '%-12s %4d passed, %d failed, %d left out for want of io_uring, %d s' \
        "$name" "$((${passed:-0} - skipped))" "${broken:-0}" "$skipped" "$((SECONDS - begun))")")
    echo "${summary[-1]}"
}

cannot_build() { printf '== %s: the program cannot be built\n' "$1"; failed+=("$1"); summary+=("$1: not built"); }

for name in "${chosen[@]}"; do
    case $name in
    io_uring | epoll)
        if program "$base" && cp "$base/debug/fs-caching-server" "$work/default"; then
            if [ "$name" = io_uring ]; then
                suite "$name" "$work/default" ::uring
            else
                suite "$name" "$work/default" --skip ::uring
            fi
        else
            cannot_build "$name"
        fi
        ;;
    "poll(2)")
        if RUSTFLAGS="${RUSTFLAGS-} --cfg polling_test_poll_backend" program "$base/poll2"; then
            FS_CACHE_TEST_READINESS=poll suite "$name" "$base/poll2/debug/fs-caching-server" ::poll
        else
            cannot_build "$name"
        fi
        ;;
    substitutes)
        if program "$base" --features portable && cp "$base/debug/fs-caching-server" "$work/substitutes"; then
            FS_CACHE_TEST_SUBSTITUTES=1 suite "$name" "$work/substitutes"
        else
            cannot_build "$name"
        fi
        ;;
    esac
done

printf '\n== black-box suite, by configuration (%d s)\n' "$SECONDS"
printf '%s\n' "${summary[@]}"
if [ ${#failed[@]} -gt 0 ]; then
    printf 'matrix: FAILED: %s\n' "${failed[*]}"
    exit 1
fi
echo "matrix: ok"
