#!/bin/bash
# Makes a zoo.cfg and a myid of the variables that the official image of ZooKeeper takes, where there are none yet, and becomes the command.
# Every path comes from a variable, so it runs as well outside of a container.
set -e

# A container that was started as root goes on as the user of the service; one that was started with --user is that already, and with
# ZOO_USER=root the user of the service is root.
user="${ZOO_USER:-zookeeper}"
if [[ "$1" = 'zkServer.sh' && "$(id -u)" = '0' && "$(id -u "$user")" != '0' ]]; then
  chown -R "$user" "$ZOO_DATA_DIR" "$ZOO_DATA_LOG_DIR" "$ZOO_LOG_DIR"
  # reconfig writes the membership beside zoo.cfg. A directory that is mounted for reading stays as it is.
  chown "$user" "$ZOO_CONF_DIR" 2>/dev/null || true
  exec setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups "$0" "$@"
fi

config="$ZOO_CONF_DIR/zoo.cfg"
if [[ ! -f "$config" ]]; then
  # Under its name only when it is whole: a container that is killed in between must not come back with a half.
  {
    echo "dataDir=$ZOO_DATA_DIR"
    echo "dataLogDir=$ZOO_DATA_LOG_DIR"
    echo "tickTime=$ZOO_TICK_TIME"
    echo "initLimit=$ZOO_INIT_LIMIT"
    echo "syncLimit=$ZOO_SYNC_LIMIT"
    echo "autopurge.snapRetainCount=$ZOO_AUTOPURGE_SNAPRETAINCOUNT"
    echo "autopurge.purgeInterval=$ZOO_AUTOPURGE_PURGEINTERVAL"
    echo "maxClientCnxns=$ZOO_MAX_CLIENT_CNXNS"
    echo "standaloneEnabled=$ZOO_STANDALONE_ENABLED"
    echo "admin.enableServer=$ZOO_ADMINSERVER_ENABLED"
    for server in ${ZOO_SERVERS:-server.1=localhost:2888:3888;2181}; do
      echo "$server"
    done
    if [[ -n $ZOO_4LW_COMMANDS_WHITELIST ]]; then
      echo "4lw.commands.whitelist=$ZOO_4LW_COMMANDS_WHITELIST"
    fi
    for entry in $ZOO_CFG_EXTRA; do
      echo "$entry"
    done
  } > "$config.new"
  mv "$config.new" "$config"
fi

if [[ ! -f "$ZOO_DATA_DIR/myid" ]]; then
  echo "${ZOO_MY_ID:-1}" > "$ZOO_DATA_DIR/myid"
fi

exec "$@"
