# Users that services run as.
#
# shellcheck disable=SC2154 # $stage and $tab are set where this is sourced: see base.sh

# The users as passwd has them, and the groups of each.
probe_user() {
  # shellcheck disable=SC2046 # a line a value: IFS is a line break
  set -- $(users)
  [ $# != 0 ] || return 0
  section passwd
  getent passwd "$@"
  section groups
  for user; do
    groups=$(id -Gn "$user" 2>/dev/null) && echo "$user$tab$groups"
  done
}

# NAME: takes the user out of all groups but its own
put_user() {
  at "user:$1"
  usermod -G "" "$1"
}

# ACCOUNT DIRECTORY: what is the account's there is root's from now on
hand_over() {
  [ ! -d "$2" ] || find "$2" -xdev -user "$1" -exec chown -h root: {} +
}

# NAME: but not that of a package that stays. What it left is not the next account's of its
# number; units that come back take their StateDirectory= whole
gone_user() {
  at "user:$1"
  case $(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null) in
    ?i*) return 0 ;;
  esac
  if getent passwd "$1" >/dev/null; then
    case $1 in
      paddock-*) systemctl stop --quiet "$1-*" 2>/dev/null || true ;;
    esac
    hand_over "$1" /var/cache/paddock
    case $1 in
      paddock-* | llama-server) hand_over "$1" "/var/lib/$1" ;;
    esac
    said=$(userdel "$1" 2>&1) || fail "$said"
  fi
}
