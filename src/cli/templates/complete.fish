# Completion for fish, made by `fs-caching-server --generate fish`.
complete -c fs-caching-server -f
{flags}
