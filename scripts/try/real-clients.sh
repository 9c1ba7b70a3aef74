#!/usr/bin/env bash
# Runs the package clients of this machine through the proxy, twice.
#
#   scripts/try/real-clients.sh [--keep] [apt] [pip] [npm] [cargo]
#
# First run: each client fetches its indexes and a few small packages through a proxy in front
# of the source it is configured for. Second run: the same cache directories, but the proxies'
# origin is a closed port; the clients fetch the same packages again, and every file that the
# first run let through the regex is asked for by hand. All of it must come from the cache,
# byte for byte.
#
# The sources are read from the clients' own configuration when the script runs. Every client
# works in a directory of its own below a temporary directory: nothing of the user's is read
# for anything but that configuration, and nothing is written. One proxy stands for one origin
# host. Where an index names its files by absolute links to a host (pip, cargo), a small
# rewriting server between proxy and index points these links at the files host's proxy.
#
# FS_CACHE_BINARY: the program to test, with arguments if need be, such as --io poll (default: the
# release build).
# --keep leaves the temporary directory behind. Exit code 0: everything that ran is right.
set -uo pipefail

here=$(cd "$(dirname "$0")/../.." && pwd)
keep=false
clients=()
for arg in "$@"; do
    case $arg in
    --keep) keep=true ;;
    apt | pip | npm | cargo) clients+=("$arg") ;;
    -h | --help) sed -n '2,21s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "real-clients: unknown argument $arg (see --help)" >&2; exit 2 ;;
    esac
done
[ ${#clients[@]} -gt 0 ] || clients=(apt pip npm cargo)

for tool in python3 curl; do
    command -v $tool >/dev/null || { echo "real-clients: needs $tool" >&2; exit 2; }
done

if [ -n "${FS_CACHE_BINARY:-}" ]; then
    read -r -a binary <<<"$FS_CACHE_BINARY"
else
    (cd "$here" && cargo build --release --locked --quiet) || exit 1
    target=$(cd "$here" && cargo metadata --locked --no-deps --format-version 1 |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
    binary=("$target/release/fs-caching-server")
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/real-clients.XXXXXX") || exit 1
mkdir "$work/tmp" && export TMPDIR=$work/tmp
pids=()
cleanup() {
    for pid in "${pids[@]+"${pids[@]}"}"; do kill "$pid" 2>/dev/null; done
    wait 2>/dev/null
    if $keep; then echo "kept: $work"; else rm -rf "$work"; fi
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# The proxy under test is configured by its arguments alone, and the clients reach it directly.
for name in $(compgen -e | grep -i -E '^(FS_CACHE_.*|https?_proxy|all_proxy|npm_config_.*|PIP_(INDEX|EXTRA|FIND).*)$'); do
    [ "$name" = PIP_INDEX_URL ] && pip_index_from_environment=$PIP_INDEX_URL
    case $name in npm_config_registry | NPM_CONFIG_REGISTRY) npm_registry_from_environment=${!name} ;; esac
    unset "$name"
done
export no_proxy=127.0.0.1 NO_PROXY=127.0.0.1

regex='\.(deb|whl|tgz|crate|tar\.gz)$|/download$'
declare -A port_of pid_of proxies_of

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# The scheme and authority of a URL; its path.
origin() { sed -E 's#^([a-z]+://[^/]+).*#\1#' <<<"$1"; }
path() { sed -E 's#^[a-z]+://[^/]+##' <<<"$1"; }

await_port() { # PORT PID
    for _ in $(seq 100); do
        (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return 0
        kill -0 "$2" 2>/dev/null || return 1
        sleep 0.1
    done
    return 1
}

# start_proxy NAME ORIGIN: keeps NAME's port and cache directory over restarts.
start_proxy() {
    local name=$1
    mkdir -p "$work/proxy-$name/cache"
    [ -n "${port_of[$name]:-}" ] || port_of[$name]=$(free_port)
    (cd "$work/proxy-$name" && exec "${binary[@]}" -c "$work/proxy-$name/cache" -H 127.0.0.1 -p "${port_of[$name]}" \
        -r "$regex" -U "$2" >>"$work/proxy-$name/access.log" 2>>"$work/proxy-$name/stderr.log") &
    pid_of[$name]=$!
    pids+=($!)
    await_port "${port_of[$name]}" $! || { why="the proxy did not start: $(tail -n 1 "$work/proxy-$name/stderr.log")"; return 1; }
}

stop_proxy() {
    kill "${pid_of[$1]}" 2>/dev/null
    wait "${pid_of[$1]}" 2>/dev/null
    return 0
}

# add_proxy CLIENT NAME ORIGIN
add_proxy() {
    proxies_of[$1]="${proxies_of[$1]:-} $2"
    start_proxy "$2" "$3"
}

cat >"$work/front.py" <<'PY'
"""A rewriting server: front.py PORT ORIGIN FROM=TO... forwards GET and replaces FROM by TO in bodies."""
import http.server, sys, urllib.error, urllib.request

origin = sys.argv[2]
rules = sorted((rule.split("=", 1) for rule in sys.argv[3:]), key=lambda rule: -len(rule[0]))


class Front(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        request = urllib.request.Request(origin + self.path)
        request.add_header("Accept", self.headers.get("Accept", "*/*"))
        request.add_header("User-Agent", self.headers.get("User-Agent", "-"))
        try:
            answer = urllib.request.urlopen(request, timeout=60)
        except urllib.error.HTTPError as error:
            answer = error
        except OSError as error:
            self.send_error(502, str(error))
            return
        body = answer.read()
        for old, new in rules:
            body = body.replace(old.encode(), new.encode())
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "text/plain"))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Front).serve_forever()
PY

# start_front ORIGIN FROM=TO...: sets front_port.
start_front() {
    front_port=$(free_port)
    python3 "$work/front.py" "$front_port" "$@" 2>>"$work/front.log" &
    pids+=($!)
    await_port "$front_port" $! || { why="the rewriting server did not start"; return 1; }
}

cat >"$work/verify.py" <<'PY'
"""verify.py record|replay LOG CACHE REGEX PORT MANIFEST

record: every GET in the access log that matches the regex and was answered 200 must be a whole
file in the cache; writes target, size and sum of each to MANIFEST. replay: each target once more
from the proxy, whose origin is closed, must give the same bytes; a path that is not cached must
give an error. Prints "files bytes"."""
import hashlib, os, re, sys, time, urllib.error, urllib.parse, urllib.request

mode, log, cache, regex, port, manifest = sys.argv[1:]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def digest(data):
    return hashlib.sha256(data).hexdigest()


def fail(text):
    print(text)
    sys.exit(1)


if mode == "record":
    rows, targets = [], []
    for line in open(log, encoding="utf-8", errors="replace"):
        match = re.search(r'"GET (\S+) HTTP/1\.[01]" 200 ', line)
        if not match:
            continue
        path = os.path.normpath(urllib.parse.unquote(match[1].split("?")[0]))
        if re.search(regex, path) and match[1] not in targets:
            targets.append(match[1])
            name = cache + path
            for _ in range(100):
                if os.path.exists(name):
                    break
                time.sleep(0.1)
            else:
                fail("answered 200 but not in the cache: " + path)
            with open(name, "rb") as file:
                data = file.read()
            rows.append((match[1], len(data), digest(data)))
    left = [n for _, _, names in os.walk(cache) for n in names if n.endswith(".in-progress")]
    if left:
        fail("left in the cache: " + " ".join(left))
    with open(manifest, "w") as file:
        for row in rows:
            print(*row, file=file)
else:
    rows = [line.split() for line in open(manifest)]
    for target, size, want in rows:
        try:
            data = opener.open(f"http://127.0.0.1:{port}{target}", timeout=60).read()
        except (OSError, urllib.error.HTTPError) as error:
            fail(f"not served from the cache: {target}: {error}")
        if len(data) != int(size) or digest(data) != want:
            fail("served with other bytes: " + target)
    try:
        opener.open(f"http://127.0.0.1:{port}/not-in-the-cache-{os.getpid()}", timeout=60)
        fail("the origin can still be reached in the second run")
    except urllib.error.HTTPError as error:
        if error.code < 500:
            fail(f"an uncached path gave {error.code} with the origin closed")

print(len(rows), sum(int(row[1]) for row in rows))
PY

# verify CLIENT record|replay FETCHED: over the CLIENT's proxies; sets files and bytes, or why.
verify() {
    local client=$1 mode=$2 fetched=$3 name out n b
    local -a names
    files=0 bytes=0
    read -r -a names <<<"${proxies_of[$client]}"
    for name in "${names[@]}"; do
        out=$(python3 "$work/verify.py" "$mode" "$work/proxy-$name/access.log" \
            "$work/proxy-$name/cache" "$regex" "${port_of[$name]}" "$work/proxy-$name/manifest" 2>&1) ||
            { why="$mode: $(tail -n 1 <<<"$out")"; return 1; }
        read -r n b <<<"$out"
        files=$((files + n)) bytes=$((bytes + b))
    done
    if [ "$files" -eq 0 ]; then
        why="no file matched the regex (does the source redirect to another host?)"
        return 1
    fi
    # What the client itself holds must be some of these files.
    local sums count=0
    sums=$(for name in "${names[@]}"; do cut -d ' ' -f 3 "$work/proxy-$name/manifest"; done)
    while IFS= read -r -d '' file; do
        grep -q "$(python3 -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$file")" <<<"$sums" ||
            { why="$mode: the client has other bytes than the cache: $(basename "$file")"; return 1; }
        count=$((count + 1))
    done < <(find "$fetched" -type f -print0)
    [ "$count" -gt 0 ] || { why="$mode: the client fetched nothing"; return 1; }
}

# attempt LOG COMMAND...: bounded in time; on failure why is its last line.
attempt() {
    local log=$1
    shift
    timeout --kill-after=5 "${REAL_CLIENTS_TIMEOUT:-240}" "$@" >"$log" 2>&1 </dev/null && return 0
    local status=$?
    why="$1 exited $status: $(grep -v '^ *$' "$log" | tail -n 2 | tr '\n' ' ' | cut -c 1-300)"
    return 1
}

reachable() { # URL
    local code
    code=$(curl -sS -L --noproxy '*' -m 30 -o /dev/null -w '%{http_code}' "$1" 2>/dev/null)
    [ "${code:0:1}" = 2 ]
}

# Each client has CLIENT_setup (returns 0, or 2 with why for "skipped"), CLIENT_first and
# CLIENT_second; the last two leave what the client fetched in $work/CLIENT/first and .../second.

apt_setup() {
    command -v apt-get >/dev/null || { why="apt-get is not installed"; return 2; }
    local uri release component found="" keyrings
    while IFS='|' read -r uri release component; do
        case $uri in http://* | https://*) ;; *) continue ;; esac
        if reachable "${uri%/}/dists/$release/InRelease"; then
            found=yes
            break
        fi
    done < <(apt-get indextargets --format '$(REPO_URI)|$(RELEASE)|$(COMPONENT)' 'Created-By: Packages' | sort -u)
    [ -n "$found" ] || { why="no http or https source of this machine can be reached"; return 2; }
    add_proxy apt apt "$(origin "$uri")" || return 1
    local dir=$work/apt
    mkdir -p "$dir"/{state/lists/partial,cache/archives/partial,first,second}
    : >"$dir/status"
    keyrings=$(find /usr/share/keyrings /etc/apt/keyrings /etc/apt/trusted.gpg.d -type f \( -name '*.gpg' -o -name '*.asc' \) 2>/dev/null | paste -sd,)
    echo "deb [${keyrings:+signed-by=$keyrings}] http://127.0.0.1:${port_of[apt]}$(path "$uri") $release $component" |
        sed 's/ \[\]//' >"$dir/sources.list"
    # Read before all else, so that none of the machine's own settings and hooks apply.
    cat >"$dir/apt.conf" <<CONF
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "$dir/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "$dir/state";
Dir::State::status "$dir/status";
Dir::Cache "$dir/cache";
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
Acquire::Retries "0";
Acquire::Check-Valid-Until "$(apt-config dump --format '%v' Acquire::Check-Valid-Until | grep . || echo true)";
Acquire::Check-Date "$(apt-config dump --format '%v' Acquire::Check-Date | grep . || echo true)";
CONF
}

apt_first() {
    local dir=$work/apt packages
    export APT_CONFIG=$dir/apt.conf
    attempt "$dir/update.log" apt-get -q update || return 1
    # Two small packages, one of them with a plus sign in its file name if there is one.
    apt-cache dumpavail 2>/dev/null | awk '
        function consider() {
            if (size < 4000 || size > 200000 || name == "") return
            if (file ~ /\+/ && plus == "") plus = name "=" version
            else if (file !~ /\+/ && plain == "") plain = name "=" version
            else if (second == "") second = name "=" version
        }
        /^Package: / { name = $2 } /^Version: / { version = $2 }
        /^Filename: / { file = $2 } /^Size: / { size = $2 }
        /^$/ { consider(); name = ""; size = 0; file = "" }
        END { print plain; print (plus != "" ? plus : second) }' | grep . >"$dir/packages"
    [ -s "$dir/packages" ] || { why="the source lists no small package"; return 1; }
    mapfile -t packages <"$dir/packages"
    (cd "$dir/first" && attempt "$dir/download.log" apt-get -q download "${packages[@]}" && echo >"$dir/ok") ||
        { why="apt-get download: $(tail -n 2 "$dir/download.log" | tr '\n' ' ')"; return 1; }
}

apt_second() {
    local dir=$work/apt packages
    mapfile -t packages <"$dir/packages"
    (cd "$dir/second" && attempt "$dir/download-2.log" apt-get -q download "${packages[@]}") ||
        { why="apt-get download: $(tail -n 2 "$dir/download-2.log" | tr '\n' ' ')"; return 1; }
}

pip_index() {
    if [ -n "${pip_index_from_environment:-}" ]; then
        echo "$pip_index_from_environment"
    else
        pip config list 2>/dev/null | sed -n "s/^global\.index-url='\(.*\)'\$/\1/p" | grep . ||
            pip config list 2>/dev/null | sed -n "s/^[a-z]*\.index-url='\(.*\)'\$/\1/p" | head -n 1 | grep . ||
            "${pip_python[@]}" -c 'from pip._internal.models.index import PyPI; print(PyPI.simple_url)' 2>/dev/null
    fi
}

pip_setup() {
    pip --version >/dev/null 2>&1 || { why="pip is not installed"; return 2; }
    pip_python=(python3)
    python3 -c 'import pip' 2>/dev/null || pip_python=(/usr/bin/python3)
    local index page files
    index=$(pip_index)
    index=${index%/}
    case $index in
    http://*@* | https://*@*) why="the index of this machine asks for a password"; return 2 ;;
    http://* | https://*) ;;
    *) why="no http or https index is configured"; return 2 ;;
    esac
    mkdir -p "$work/pip"/{first,second}
    page=$(curl -sS -L --noproxy '*' -m 30 "$index/six/" 2>/dev/null)
    [ -n "$page" ] || { why="the index cannot be reached"; return 2; }
    files=$(grep -o -E 'href="https?://[^/"]+' <<<"$page" | sed 's/^href="//' | sort | uniq -c | sort -rn | awk 'NR == 1 { print $2 }')
    : "${files:=$(origin "$index")}"
    # Files first: the index front must know where to point the links.
    add_proxy pip pip-files "$files" || return 1
    start_front "$(origin "$index")" "$files=http://127.0.0.1:${port_of[pip-files]}" || return 1
    add_proxy pip pip-index "http://127.0.0.1:$front_port" || return 1
    pip_simple="http://127.0.0.1:${port_of[pip-index]}$(path "$index")/"
}

pip_get() { # DIRECTORY ARGUMENTS...
    local dest=$1
    shift
    HOME=$work/pip attempt "$work/pip/$(basename "$dest").log" pip --isolated --disable-pip-version-check download --no-cache-dir --no-deps \
        --only-binary :all: --retries 0 --timeout 60 --dest "$dest" "$@"
}

pip_first() { pip_get "$work/pip/first" --index-url "$pip_simple" six idna; }

# Without its index pip can still be given the files' own addresses.
pip_second() {
    local -a urls
    mapfile -t urls < <(for name in pip-files pip-index; do
        sed "s#^\([^ ]*\) .*#http://127.0.0.1:${port_of[$name]}\1#" "$work/proxy-$name/manifest"
    done)
    pip_get "$work/pip/second" --no-index "${urls[@]}"
}

npm_setup() {
    npm --version >/dev/null 2>&1 || { why="npm is not installed"; return 2; }
    local registry
    registry=${npm_registry_from_environment:-$(npm config get registry 2>/dev/null)}
    registry=${registry%/}
    case $registry in http://* | https://*) ;; *) why="no registry is configured"; return 2 ;; esac
    reachable "$registry/ms" || { why="the registry cannot be reached without more than its address"; return 2; }
    mkdir -p "$work/npm"/{first,second}
    : >"$work/npm/npmrc"
    add_proxy npm npm "$(origin "$registry")" || return 1
    npm_registry="http://127.0.0.1:${port_of[npm]}$(path "$registry")/"
}

npm_get() { # RUN PACKAGES...
    local run=$1
    shift
    (cd "$work/npm" && HOME=$work/npm attempt "$work/npm/$run.log" npm pack --registry "$npm_registry" --replace-registry-host=always \
        --userconfig "$work/npm/npmrc" --globalconfig "$work/npm/no-such-npmrc" --cache "$work/npm/cache-$run" --fetch-retries=0 \
        --fetch-timeout=60000 --no-update-notifier --no-audit --pack-destination "$work/npm/$run" "$@") ||
        { why="npm pack: $(grep -i error "$work/npm/$run.log" | head -n 2 | tr '\n' ' ' | cut -c 1-300)"; return 1; }
}

npm_first() { npm_get first ms@2.1.3 left-pad@1.3.0 @types/ms@2.1.0; }

# Without the metadata npm can still be given the tarballs' own addresses.
npm_second() {
    local -a urls
    mapfile -t urls < <(sed "s#^\([^ ]*\) .*#http://127.0.0.1:${port_of[npm]}\1#" "$work/proxy-npm/manifest")
    npm_get second "${urls[@]}"
}

# The sparse index this machine uses: that of its configuration, else cargo's own default, which
# is read off the directory a private cargo makes for it.
cargo_index() {
    local config text
    config=${CARGO_HOME:-$HOME/.cargo}
    text=$(cat "$config/config.toml" "$config/config" 2>/dev/null)
    if grep -q 'replace-with' <<<"$text"; then
        sed -n 's/^ *registry *= *"sparse+\(http[^"]*\)".*/\1/p' <<<"$text" | head -n 1
        return
    fi
    (cd "$work/cargo/project" && CARGO_HOME=$work/cargo/probe timeout 120 cargo fetch >/dev/null 2>&1)
    for directory in "$work"/cargo/probe/registry/index/*/; do
        [ -f "$directory/config.json" ] && basename "$directory" | sed 's#^\(.*\)-[0-9a-f]*$#https://\1/#'
    done | head -n 1
}

cargo_setup() {
    command -v cargo >/dev/null || { why="cargo is not installed"; return 2; }
    mkdir -p "$work/cargo"/{project/src,home,first,second}
    : >"$work/cargo/project/src/lib.rs"
    printf '[package]\nname = "probe"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\nitoa = "1"\ncfg-if = "1"\n' >"$work/cargo/project/Cargo.toml"
    local index config dl files
    index=$(cargo_index)
    [ -n "$index" ] || { why="no sparse index is configured, or it cannot be reached"; return 2; }
    rm -f "$work/cargo/project/Cargo.lock"
    config=$(curl -sS -L --noproxy '*' -m 30 "${index%/}/config.json" 2>/dev/null)
    dl=$(python3 -c 'import json, sys; print(json.loads(sys.argv[1])["dl"])' "$config" 2>/dev/null)
    [ -n "$dl" ] || { why="the index cannot be reached"; return 2; }
    files=$(origin "$dl")
    add_proxy cargo cargo-files "$files" || return 1
    start_front "$(origin "$index")" "$files=http://127.0.0.1:${port_of[cargo-files]}" || return 1
    add_proxy cargo cargo-index "http://127.0.0.1:$front_port" || return 1
    cat >"$work/cargo/home/config.toml" <<CONF
[source.crates-io]
replace-with = "proxy"
[source.proxy]
registry = "sparse+http://127.0.0.1:${port_of[cargo-index]}$(path "${index%/}/")"
[net]
retry = 0
CONF
}

cargo_get() { # RUN ARGUMENTS...
    local run=$1
    shift
    (cd "$work/cargo/project" && CARGO_HOME=$work/cargo/home attempt "$work/cargo/$run.log" cargo fetch "$@") ||
        { why="cargo fetch: $(tail -n 3 "$work/cargo/$run.log" | tr '\n' ' ' | cut -c 1-300)"; return 1; }
    find "$work/cargo/home/registry/cache" -name '*.crate' -exec cp {} "$work/cargo/$run/" \;
}

cargo_first() { cargo_get first; }

# The lock file and the index that cargo keeps stay; the crates themselves are fetched again.
cargo_second() {
    rm -rf "$work/cargo/home/registry/cache" "$work/cargo/home/registry/src"
    cargo_get second --locked
}

now() { date +%s.%N; }
took() { python3 -c 'import sys; print("%.1f s" % (float(sys.argv[2]) - float(sys.argv[1])))' "$1" "$2"; }

# run_client CLIENT: sets line; returns 1 if it is wrong.
run_client() {
    local client=$1 begun first second name closed
    local -a names
    why=""
    "${client}_setup"
    case $? in
    0) ;;
    2) line="skipped: $why"; return 0 ;;
    *) line="FAILED: setup: $why"; return 1 ;;
    esac
    read -r -a names <<<"${proxies_of[$client]}"
    begun=$(now)
    "${client}_first" || { line="FAILED: first run: $why"; return 1; }
    first=$(took "$begun" "$(now)")
    verify "$client" record "$work/$client/first" || { line="FAILED: first run: $why"; return 1; }
    for name in "${names[@]}"; do
        stop_proxy "$name"
        closed=$(free_port)
        start_proxy "$name" "http://127.0.0.1:$closed" || { line="FAILED: second run: $why"; return 1; }
    done
    begun=$(now)
    "${client}_second" || { line="FAILED: second run: $why"; return 1; }
    second=$(took "$begun" "$(now)")
    verify "$client" replay "$work/$client/second" || { line="FAILED: second run: $why"; return 1; }
    for name in "${names[@]}"; do stop_proxy "$name"; done
    line=$(printf '%2d files %9d bytes  first run %s, second run (origin closed) %s: ok' "$files" "$bytes" "$first" "$second")
}

status=0
for client in "${clients[@]}"; do
    run_client "$client" || status=1
    printf '%-6s %s\n' "$client" "$line"
done
exit $status
