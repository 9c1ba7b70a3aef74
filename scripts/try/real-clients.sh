#!/bin/sh
exec "$(dirname "$0")/real-clients.py" "$@"
