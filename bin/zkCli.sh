#!/usr/bin/env bash
# Talks to a server in zkCli's syntax.
# A link to this script works; a copy needs zkEnv.sh and the binary beside it, or ROOKEEPER set.
ZOOBIN="$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"
ZOOBINDIR="$(cd "$ZOOBIN" && pwd)" || exit 1
# shellcheck source=bin/zkEnv.sh
. "$ZOOBINDIR/zkEnv.sh"

# zookeeper-env.sh and java.env need not export what they set.
export CLIENT_JVMFLAGS JVMFLAGS
exec "$ROOKEEPER" cli "$@"
