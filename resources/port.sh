# Ports that services listen on.
#
# shellcheck disable=SC2154 # $stage and $tab are set where this is sourced: see base.sh

# The sockets, and of each process that has one its cgroup.
probe_port() {
  filter=$(ports)
  [ -n "$filter" ] || return 0
  section socket
  sockets=$(ss -Hltunp "$filter")
  printf '%s\n' "$sockets"
  section cgroup
  while
    case $sockets in
      *pid=*) ;;
      *) false ;;
    esac
  do
    sockets=${sockets#*pid=}
    pid=${sockets%%,*}
    while read -r group; do
      case $group in
        0::* | *:name=systemd:*) echo "$pid$tab${group##*:}" ;;
      esac
    done <"/proc/$pid/cgroup"
  done 2>/dev/null
}

# PORT/PROTOCOL: the units and processes that listen on it
port_holders() {
  ss -Hlnp --"${1#*/}" "sport = :${1%/*}" | grep -o '"[^"]*",pid=[0-9]*' | sort -u | while IFS=, read -r name pid; do
    pid=${pid#pid=}
    unit=$(sed -nE 's|^(0:\|[0-9]+:name=systemd):.*/([^/]*\.service)$|\2|p' "/proc/$pid/cgroup" | head -n1)
    echo "${unit:-none} $name (pid $pid)"
  done
}
