# Completion for bash, made by `fs-caching-server --generate bash`.
_fs_caching_server() {
    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    # The line is split at `=` as well.
    if [[ $current == = ]]; then
        current=
    elif [[ $before == = ]]; then
        before=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    COMPREPLY=()
    case $before in
    -c | --cache-dir) mapfile -t COMPREPLY < <(compgen -d -- "$current"); compopt -o filenames ;;
    --preset) mapfile -t COMPREPLY < <(compgen -W 'pkgsrc apt rpm arch alpine openwrt freebsd openbsd void nix pip npm cargo go maven rubygems conda hackage cran cpan' -- "$current") ;;
    --revalidate-after) mapfile -t COMPREPLY < <(compgen -W 'heuristic' -- "$current") ;;
    --stale-if-error) mapfile -t COMPREPLY < <(compgen -W 'forever' -- "$current") ;;
    --fill-query) mapfile -t COMPREPLY < <(compgen -W 'forward strip pass' -- "$current") ;;
    --keep-fields) mapfile -t COMPREPLY < <(compgen -W 'Set-Cookie Set-Cookie2 Clear-Site-Data Authentication-Info' -- "$current") ;;
    --origin-credentials) mapfile -t COMPREPLY < <(compgen -W 'safe all' -- "$current") ;;
    --max-origin-connections) mapfile -t COMPREPLY < <(compgen -W 'auto' -- "$current") ;;
    --max-fills) mapfile -t COMPREPLY < <(compgen -W 'none' -- "$current") ;;
    --abandon-fill) mapfile -t COMPREPLY < <(compgen -W 'never always' -- "$current") ;;
    --max-connections) mapfile -t COMPREPLY < <(compgen -W 'auto' -- "$current") ;;
    --max-client-connections) mapfile -t COMPREPLY < <(compgen -W 'none' -- "$current") ;;
    --max-pipelined) mapfile -t COMPREPLY < <(compgen -W 'none' -- "$current") ;;
    --workers) mapfile -t COMPREPLY < <(compgen -W 'auto' -- "$current") ;;
    --pin-cpus) mapfile -t COMPREPLY < <(compgen -W 'auto' -- "$current") ;;
    --io) mapfile -t COMPREPLY < <(compgen -W 'auto uring poll' -- "$current") ;;
    --open-files) mapfile -t COMPREPLY < <(compgen -W 'auto' -- "$current") ;;
    --sandbox) mapfile -t COMPREPLY < <(compgen -W 'auto on off' -- "$current") ;;
    --user) mapfile -t COMPREPLY < <(compgen -u -- "$current") ;;
    --group) mapfile -t COMPREPLY < <(compgen -g -- "$current") ;;
    --generate) mapfile -t COMPREPLY < <(compgen -W 'man bash zsh fish reference' -- "$current") ;;
    -H | --host | -p | --port | -r | --regex | -U | --url | --revalidate | --revalidate-memory | --fill-fields | --connect-timeout | --response-timeout | --far-range | --resume-attempts | --sweep-partials | --head-timeout | --idle-timeout | --stall-timeout | --min-rate | --max-head | --max-fields | --max-target | --head-memory | --small-body | --small-body-memory | --look-up-time | --drain-timeout) ;;
    *) mapfile -t COMPREPLY < <(compgen -W '--cache-dir --debug --host --help --port --regex --url --updates --version --preset --revalidate --revalidate-after --revalidate-memory --stale-if-error --stale-if-error-always --cdn-cache-control --fill-query --fill-fields --keep-fields --origin-credentials --connect-timeout --response-timeout --max-origin-connections --follow-redirects --rewrite-location --offline --max-fills --far-range --resume-attempts --abandon-fill --sweep-partials --no-sync --head-timeout --idle-timeout --stall-timeout --min-rate --max-head --max-fields --max-target --head-memory --max-connections --max-client-connections --max-pipelined --cache-status --workers --pin-cpus --io --small-body --small-body-memory --open-files --look-up-time --sandbox --user --group --drain-timeout --print-config --generate' -- "$current") ;;
    esac
}
complete -F _fs_caching_server fs-caching-server
