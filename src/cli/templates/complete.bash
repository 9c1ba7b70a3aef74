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
{cases}
    esac
}
complete -F _fs_caching_server fs-caching-server
