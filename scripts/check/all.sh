#!/usr/bin/env bash
# Everything a change must pass: format, lints, subjects of commits, syntax of the scripts, tests, the
# black-box suite in each configuration, documentation, the fuzz targets, the build without default features,
# the check for illumos, the service files, licences and sources of the dependencies, advisories.
#
#   scripts/check/all.sh              all of it
#   scripts/check/all.sh --quick      format, lints, subjects, syntax of the scripts, and tests
#   scripts/check/all.sh --no-tests   all but the tests (for a run that has just made them)
#
# A tool that is not installed is named and left out; it does not make the check fail. The check for
# illumos finds its tools itself, and fails where it cannot.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1

quick=false tests=true
for arg in "$@"; do
    case $arg in
    --quick) quick=true ;;
    --no-tests) tests=false ;;
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "scripts/check/all.sh: unknown option $arg (see --help)" >&2; exit 2 ;;
    esac
done

failed=() skipped=()

# step NAME COMMAND...: runs it, and notes its name if it fails.
step() {
    local name=$1
    shift
    printf '\n== %s\n' "$name"
    "$@" || { failed+=("$name"); printf '== %s: FAILED\n' "$name"; }
}

# skip NAME WHY
skip() {
    printf '\n== %s\n== %s: skipped, %s\n' "$1" "$1" "$2"
    skipped+=("$1 ($2)")
}

# with TOOL NAME COMMAND...: the step, or that it is left out for want of the tool.
with() {
    local tool=$1
    shift
    if $tool --version >/dev/null 2>&1; then step "$@"; else skip "$1" "$tool is not installed"; fi
}

# The licences that deny.toml allows, one a line.
allowed_licences() {
    sed -n '/^\[licenses\]/,/^\[sources\]/{/^allow = \[/,/^\]/s/^ *"\([^"]*\)",.*/\1/p;}' deny.toml
}

# Every package of the lock file that can be built on any target, with its licence expression (SPDX),
# is evaluated against that list. Needs nothing but cargo.
licences() {
    local licence package licences word value bad=0 total=0
    local -A allowed
    while IFS= read -r licence; do allowed[${licence// WITH /~}]=1; done < <(allowed_licences)
    [ ${#allowed[@]} -gt 0 ] || { echo "deny.toml: no list of allowed licences found"; return 1; }
    while IFS='|' read -r package licences; do
        [ -n "$package" ] || continue
        total=$((total + 1)) value=
        # An identifier becomes 1 or 0, then arithmetic knows what binds first; a slash is an old OR.
        for word in $(sed 's#/# OR #g; s/[()]/ & /g; s/ WITH /~/g' <<<"$licences"); do
            case $word in
            AND) value+='&&' ;;
            OR) value+='||' ;;
            "(" | ")") value+=$word ;;
            *) value+=${allowed[$word]:-0} ;;
            esac
        done
        ((${value:-0})) || { echo "not allowed: $package: ${licences:-no licence named}"; bad=$((bad + 1)); }
    done < <(cargo tree --locked --target all --all-features --edges normal,build,dev --prefix none \
        --no-dedupe --format '{p}|{l}' | sed 's/ (\*)|/|/' | LC_ALL=C sort -u)
    printf '%d packages, %d with a licence that deny.toml does not allow\n' "$total" "$bad"
    [ "$bad" -eq 0 ] && [ "$total" -gt 0 ]
}

# Every package comes from one registry: no git checkout, no second registry.
sources() {
    local found
    found=$(sed -n 's/^source = "\(.*\)"$/\1/p' Cargo.lock | LC_ALL=C sort -u)
    if [ "$(grep -c . <<<"$found")" -ne 1 ] || ! grep -q '^registry+' <<<"$found"; then
        printf 'Cargo.lock names a source other than the default registry:\n%s\n' "$found"
        return 1
    fi
    echo "all packages come from one registry"
}

# Of the commits that are on no remote branch yet, where there is a remote.
commit_subjects() {
    [ -n "$(git remote 2>/dev/null)" ] || { echo "no remote: nothing is new"; return 0; }
    git log --no-merges --format=%s HEAD --not --remotes 2>/dev/null |
        awk 'length > 72 { print "more than 72 columns: " $0; bad = 1 } END { exit bad }'
}

shell_syntax() {
    local file bad=0
    for file in .ci/run scripts/*/*.sh; do bash -n "$file" || bad=1; done
    return $bad
}

shell_lints() { shellcheck --severity=warning .ci/run scripts/*/*.sh; }

python_lints() { ruff check --no-cache --quiet .; }

# Compiled in memory: no file is left behind.
python_syntax() {
    python3 -c 'import sys
for name in sys.argv[1:]:
    compile(open(name, encoding="utf-8").read(), name, "exec")' scripts/*/*.py scripts/try/trial/*.py benches/*/*.py
}

# A crate of its own, so that the program's lock file does not see it.
bench_tools() {
    local manifest=(--manifest-path benches/load/Cargo.toml)
    cargo fmt --check "${manifest[@]}" &&
        cargo clippy --locked --quiet "${manifest[@]}" --target-dir target/bench --all-targets -- -D warnings &&
        cargo test --locked --quiet "${manifest[@]}" --target-dir target/bench
}

# Only that they build: a search is as long as one likes. libFuzzer's own part needs a C++ compiler.
fuzz_targets() {
    local manifest=(--manifest-path fuzz/Cargo.toml)
    cargo fmt --check "${manifest[@]}" && cargo check --locked --quiet "${manifest[@]}" --target-dir target/fuzz
}

documentation() { RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet; }

service_files() {
    scripts/check/services.py "$@"
    local status=$?
    # 3: nothing wrong, but systemd's own tool cannot be had.
    [ $status -eq 3 ] && { skipped+=("systemd's units (systemd-analyze is missing)"); return 0; }
    return $status
}

advisories() {
    if cargo deny --version >/dev/null 2>&1; then
        if ! timeout 120 cargo deny fetch db >/dev/null 2>&1; then
            skip advisories "their database cannot be reached"
        else
            step advisories cargo deny --locked check advisories licenses sources bans
        fi
    elif cargo audit --version >/dev/null 2>&1; then
        local out status
        out=$(timeout 120 cargo audit --ignore RUSTSEC-2025-0057 2>&1)
        status=$?
        # Exit 1 is an advisory; anything else (or no table of crates) is a database not had.
        if [ $status -eq 0 ] || grep -q '^ID: *RUSTSEC' <<<"$out"; then
            step advisories bash -c 'printf "%s\n" "$1"; exit "$2"' - "$out" $status
        else
            skip advisories "their database cannot be reached"
        fi
    else
        skip advisories "neither cargo-deny nor cargo-audit is installed"
    fi
}

with "cargo fmt" format cargo fmt --all --check
with "cargo clippy" lints cargo clippy --locked --quiet --all-targets -- -D warnings
$quick || with "cargo clippy" "lints with the substitutes of other systems" \
    cargo clippy --locked --quiet --all-targets --features portable -- -D warnings
step "subjects of commits" commit_subjects
step "syntax of shell scripts" shell_syntax
with python3 "syntax of Python scripts" python_syntax
with python3 "what the documents name" scripts/check/links.py
with shellcheck "lints of shell scripts" shell_lints
with ruff "lints of Python scripts" python_lints
$tests && step tests cargo test --locked
if ! $quick; then
    $tests && step "black-box suite in each configuration" scripts/check/matrix.sh
    step documentation documentation
    step "the benchmark's tools" bench_tools
    with c++ "the fuzz targets" fuzz_targets
    step "build without default features" cargo build --locked --quiet --no-default-features
    step illumos scripts/check/illumos.sh
    with python3 "service files" service_files
    step licences licences
    step sources sources
    advisories
fi

echo
for name in "${skipped[@]+"${skipped[@]}"}"; do echo "skipped: $name"; done
if [ ${#failed[@]} -gt 0 ]; then
    printf 'FAILED: %s\n' "${failed[@]}"
    exit 1
fi
echo "check: ok"
