#compdef fs-caching-server
# Completion for zsh, made by `fs-caching-server --generate zsh`.
local -a flags=(
{flags}
)
_arguments -s -S : $flags
