# manager USER ARGUMENT…: systemctl of the manager of this account's own services; of the system's where USER is -
#
# By setpriv: runuser would write two lines to the journal at each call. HOME is unset, so that systemctl looks up the
# account's own.
manager() {
  if [ "$1" = - ]; then
    shift
    systemctl "$@"
  else
    account=$1
    shift
    uid=$(id -u "$account") && gid=$(id -g "$account") &&
      setpriv --reuid="$uid" --regid="$gid" --init-groups \
        env -u HOME XDG_RUNTIME_DIR="/run/user/$uid" systemctl --user "$@"
  fi
}
