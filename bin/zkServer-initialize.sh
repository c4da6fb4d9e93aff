#!/usr/bin/env bash
# Prepares the data directory of a new server: zkServer-initialize.sh --help
# A link to this script works; a copy needs zkEnv.sh and the binary beside it, or ROOKEEPER set.
ZOOBIN="$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"
ZOOBINDIR="$(cd "$ZOOBIN" && pwd)" || exit 1
# shellcheck source=bin/zkEnv.sh
. "$ZOOBINDIR/zkEnv.sh"

exec "$ROOKEEPER" init --named "$0" "$ZOOCFG" "$@"
