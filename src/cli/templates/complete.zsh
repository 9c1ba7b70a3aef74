#compdef fs-caching-server
# Completion for zsh, made by `fs-caching-server --generate zsh`.
_arguments -s -S : \
{flags}
