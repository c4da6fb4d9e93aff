#!/usr/bin/env bash
# Removes old snapshots and logs of the configured server, in PurgeTxnLog's syntax: zkCleanup.sh [--config CONF_DIR] -n COUNT
# A link to this script works; a copy needs zkEnv.sh and the binary beside it, or ROOKEEPER set.
ZOOBIN="$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"
ZOOBINDIR="$(cd "$ZOOBIN" && pwd)" || exit 1
# shellcheck source=bin/zkEnv.sh
. "$ZOOBINDIR/zkEnv.sh"

exec "$ROOKEEPER" cleanup --config "$ZOOCFG" "$@"
