# shellcheck shell=sh
# Read by the scripts in /usr/share/rookeeper/bin.
ZOO_LOG_DIR="${ZOO_LOG_DIR:-/var/log/rookeeper}"
