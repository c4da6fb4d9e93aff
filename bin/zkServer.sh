#!/usr/bin/env bash
# Runs a server: zkServer.sh [--config CONF_DIR] {start|start-foreground|stop|version|restart|status|print-cmd} [CONF_FILE]
# A link to this script works; a copy needs zkEnv.sh and the binary beside it, or ROOKEEPER set.
ZOOBIN="$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")"
ZOOBINDIR="$(cd "$ZOOBIN" && pwd)" || exit 1
# shellcheck source=bin/zkEnv.sh
. "$ZOOBINDIR/zkEnv.sh"

if [[ -n $2 ]]; then
  ZOOCFG="$ZOOCFGDIR/$2"
fi
# A path to a file somewhere else is taken as it is.
if [[ "$(dirname "$ZOOCFG")" != "$ZOOCFGDIR" ]]; then
  ZOOCFG="$2"
fi

announce() {
  echo "Using config: $ZOOCFG" >&2
}
announce

# The value of a key as far as this script needs it; everything else reads the file itself.
directory() {
  sed -n "s/^[[:space:]]*$1[[:space:]]*=[[:space:]]*//p" "$ZOOCFG" 2>/dev/null | sed -e 's/[[:space:]]*$//' | tail -n 1
}

if [[ -n $ZOO_DATADIR_AUTOCREATE_DISABLE ]]; then
  ZOO_DATADIR="$(directory dataDir)"
  ZOO_DATALOGDIR="$(directory dataLogDir)"
  if [[ ! -d "$ZOO_DATADIR/version-2" ]]; then
    echo "ZooKeeper data directory is missing at $ZOO_DATADIR fix the path or run initialize"
    exit 1
  fi
  if [[ -n $ZOO_DATALOGDIR && ! -d "$ZOO_DATALOGDIR/version-2" ]]; then
    echo "ZooKeeper txnlog directory is missing at $ZOO_DATALOGDIR fix the path or run initialize"
    exit 1
  fi
  SERVER_JVMFLAGS="-Dzookeeper.datadir.autocreate=false $SERVER_JVMFLAGS"
fi
# The server takes -D options from the first two, status those of clients from the others; the files that were read above may have set them without exporting.
export SERVER_JVMFLAGS JVMFLAGS CLIENT_JVMFLAGS

USER="${USER:-$(id -un)}"
_ZOO_DAEMON_OUT="$ZOO_LOG_DIR/zookeeper-$USER-server-${HOSTNAME:-localhost}.out"
pid_file=()
if [[ -n $ZOOPIDFILE ]]; then
  pid_file=(--pid-file "$ZOOPIDFILE")
fi

start() {
  "$ROOKEEPER" start --output "$_ZOO_DAEMON_OUT" "${pid_file[@]}" "$ZOOCFG"
}

stop() {
  "$ROOKEEPER" stop "${pid_file[@]}" "$ZOOCFG"
}

case $1 in
  start)
    start
    ;;
  start-foreground)
    if [[ -n $ZOO_NOEXEC ]]; then
      "$ROOKEEPER" server "$ZOOCFG"
    else
      exec "$ROOKEEPER" server "$ZOOCFG"
    fi
    ;;
  print-cmd)
    echo "\"$ROOKEEPER\" server \"$ZOOCFG\" >> \"$_ZOO_DAEMON_OUT\" 2>&1 < /dev/null"
    ;;
  stop)
    stop
    ;;
  version)
    "$ROOKEEPER" --version
    ;;
  restart)
    announce
    stop || exit
    announce
    start
    ;;
  status)
    "$ROOKEEPER" status "$ZOOCFG"
    ;;
  *)
    echo "Usage: $0 [--config <conf-dir>] {start|start-foreground|stop|version|restart|status|print-cmd}" >&2
    ;;
esac
