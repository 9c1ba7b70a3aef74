#!/usr/bin/env bash
# Type-checks and lints the library and the program for illumos, warnings denied. Nothing is linked
# and nothing runs: it needs the target's standard library, but no illumos.
#
#   scripts/check/illumos.sh [--way auto|installed|rustup|distribution]
#
# The ways to that library, in the order in which `auto` (the default) tries them:
#   installed      the toolchain at hand has the target
#   rustup         `rustup target add`, for at most 60 seconds
#   distribution   the distribution's newer compiler with its library source (the packages rustc-web,
#                  cargo-web, rust-web-src and, for the lints, rust-web-clippy; installed if missing),
#                  with which the standard library is checked first
# If none of them works, the check fails: it is never left out. CHECK_ILLUMOS_WAY does what --way does.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1

target=x86_64-unknown-illumos
way=${CHECK_ILLUMOS_WAY:-auto}
while [ $# -gt 0 ]; do
    case $1 in
    --way) way=${2-}; shift 2 || shift ;;
    --way=*) way=${1#*=}; shift ;;
    -h | --help) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "scripts/check/illumos.sh: unknown option $1 (see --help)" >&2; exit 2 ;;
    esac
done
case $way in
auto | installed | rustup | distribution) ;;
*) echo "scripts/check/illumos.sh: no such way: '$way' (see --help)" >&2; exit 2 ;;
esac

# A build script compiles C for the target; what it makes is never linked, so nothing has to be made.
export CC_x86_64_unknown_illumos=true AR_x86_64_unknown_illumos=true
unset RUSTFLAGS RUSTDOCFLAGS

# With https and without: a zone without a C compiler builds the latter.
feature_sets=("" "--no-default-features")

installed() {
    local directory
    directory=$(rustc --print target-libdir --target "$target" 2>/dev/null) || return 1
    compgen -G "$directory/libstd-*.rlib" >/dev/null
}

add_by_rustup() {
    command -v rustup >/dev/null || { echo "rustup is not installed"; return 1; }
    timeout 60 rustup target add "$target" || { echo "rustup could not add the target within 60 seconds"; return 1; }
    installed || { echo "rustup has added the target to another toolchain than the one in use"; return 1; }
}

# The distribution's tools, by path: those of rustup come first on the PATH.
rustc_web=/usr/bin/rustc cargo_web=/usr/bin/cargo clippy_web=/usr/bin/cargo-clippy
packages=(rustc-web cargo-web rust-web-src)

has_package() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# APT COMMAND...: as root, without questions.
apt() {
    local prefix=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || { echo "not root, and no sudo, to install packages"; return 1; }
        prefix=(sudo -n)
    fi
    "${prefix[@]+"${prefix[@]}"}" env DEBIAN_FRONTEND=noninteractive timeout 300 apt-get -qq "$@" >/dev/null
}

install_distribution() {
    local missing=() package
    command -v apt-get >/dev/null || { echo "no apt-get: this way is for Debian and its kin"; return 1; }
    for package in "${packages[@]}"; do has_package "$package" || missing+=("$package"); done
    if [ ${#missing[@]} -gt 0 ]; then
        echo "installing ${missing[*]}"
        apt update || echo "apt-get update failed; going on with the lists at hand"
        apt install --no-install-recommends -y "${missing[@]}" || { echo "apt-get cannot install ${missing[*]}"; return 1; }
    fi
    has_package rust-web-clippy || apt install --no-install-recommends -y rust-web-clippy || true
}

# The lints by the toolchain at hand, or a mere type-check where it has none.
check_with_target() {
    local command=(cargo clippy) set
    if ! cargo clippy --version >/dev/null 2>&1; then
        echo "cargo clippy is not installed: type-check only"
        command=(cargo check)
    fi
    for set in "${feature_sets[@]}"; do
        # shellcheck disable=SC2086 # An empty set is no argument.
        if [ "${command[1]}" = clippy ]; then
            cargo clippy --locked --target "$target" --lib --bins $set -- -D warnings || return 1
        else
            RUSTFLAGS="-D warnings" cargo check --locked --target "$target" --lib --bins $set || return 1
        fi
    done
}

check_with_distribution() {
    local set lints=false
    # A directory of its own: another compiler's results are of no use to the one at hand.
    export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/illumos-distribution"
    export RUSTC=$rustc_web CARGO=$cargo_web RUSTC_BOOTSTRAP=1
    unset RUSTUP_TOOLCHAIN RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER
    "$rustc_web" --version || return 1
    if has_package rust-web-clippy && [ -x $clippy_web ]; then
        lints=true
    else
        echo "the distribution's clippy cannot be had: type-check only"
    fi
    for set in "${feature_sets[@]}"; do
        local flags=(-Z "build-std=std,panic_abort" --locked --target "$target" --lib --bins)
        [ -z "$set" ] || flags+=("$set")
        if $lints; then
            # With a standard library from source this lint does not see the `const` that is there.
            "$clippy_web" clippy "${flags[@]}" -- -D warnings -A clippy::missing_const_for_thread_local || return 1
        else
            RUSTFLAGS="-D warnings" "$cargo_web" check "${flags[@]}" || return 1
        fi
    done
}

# verdict WAY STATUS: the last line, and the end.
verdict() {
    if [ "$2" -eq 0 ]; then
        echo "illumos: ok ($1, ${SECONDS} s)"
    else
        echo "illumos: FAILED ($1, ${SECONDS} s)"
    fi
    exit "$2"
}

if [ "$way" = auto ] || [ "$way" = installed ]; then
    if installed; then
        check_with_target
        verdict "target installed" $?
    fi
    echo "the toolchain at hand has no $target"
fi
if [ "$way" = auto ] || [ "$way" = rustup ]; then
    if add_by_rustup; then
        check_with_target
        verdict "rustup target add" $?
    fi
fi
if [ "$way" = auto ] || [ "$way" = distribution ]; then
    if install_distribution; then
        check_with_distribution
        verdict "the distribution's compiler" $?
    fi
fi
echo "illumos: FAILED: no standard library for $target can be had (tried: ${way/auto/installed, rustup, distribution})"
exit 1
