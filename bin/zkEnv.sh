# shellcheck shell=bash
# Sourced by the other scripts, with their arguments: finds the configuration and the binary, as the original's zkEnv.sh finds its own.
#
# ZOOCFGDIR or --config names the directory of the configuration, ZOOCFG the file in it. zookeeper-env.sh and java.env of that directory are
# read, for they may set any of the variables below. ROOKEEPER names the binary; else it is looked for beside the scripts, then in PATH.

ZOOBINDIR="${ZOOBINDIR:-/usr/bin}"
ZOOKEEPER_PREFIX="$ZOOBINDIR/.."

if [[ $# -gt 1 && "--config" == "$1" ]]; then
  shift
  ZOOCFGDIR=$1
  shift
fi

if [[ -z $ZOOCFGDIR ]]; then
  if [[ -e "$ZOOKEEPER_PREFIX/conf" ]]; then
    ZOOCFGDIR="$ZOOBINDIR/../conf"
  elif [[ -e "$ZOOKEEPER_PREFIX/etc/zookeeper" ]]; then
    ZOOCFGDIR="$ZOOBINDIR/../etc/zookeeper"
  else
    ZOOCFGDIR="/etc/rookeeper"
  fi
fi

if [[ -f "$ZOOCFGDIR/zookeeper-env.sh" ]]; then
  # shellcheck source=/dev/null
  . "$ZOOCFGDIR/zookeeper-env.sh"
fi

ZOOCFG=${ZOOCFG:-zoo.cfg}
ZOOCFG="$ZOOCFGDIR/$ZOOCFG"

if [[ -f "$ZOOCFGDIR/java.env" ]]; then
  # shellcheck source=/dev/null
  . "$ZOOCFGDIR/java.env"
fi

ZOO_LOG_DIR=${ZOO_LOG_DIR:-$ZOOKEEPER_PREFIX/logs}

if [[ -z $ROOKEEPER ]]; then
  for candidate in "$ZOOBINDIR/rookeeper" "$ZOOBINDIR/../bin/rookeeper"; do
    if [[ -x $candidate ]]; then
      ROOKEEPER=$candidate
      break
    fi
  done
fi
if [[ -z $ROOKEEPER ]]; then
  ROOKEEPER="$(type -P rookeeper)" || {
    echo "Error: ROOKEEPER is not set and rookeeper could not be found beside the scripts or in PATH." 1>&2
    exit 1
  }
fi
export ROOKEEPER
