# Ports that services listen on.
#
# shellcheck disable=SC2154 # $stage and $tab are set where this is sourced: see base.sh

# The sockets, of each process that has one its cgroup, and the socket units by which systemd holds any.
probe_port() {
  filter=$(ports)
  [ -n "$filter" ] || return 0
  section socket
  sockets=$(ss -Hltunp "$filter")
  printf '%s\n' "$sockets"
  case $sockets in
    *,pid=1,*)
      section held
      port_sockets
      ;;
  esac
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

# What the socket units that run listen on, a line each: the unit, a tab, 127.0.0.1:8080, a tab, Stream
port_sockets() {
  systemctl show --property=Id,Listen,ActiveState '*.socket' | awk -v tab="$(printf '\t')" '
    /^Id=/ { unit = substr($0, 4) }
    /^ActiveState=/ { active = $0 == "ActiveState=active" }
    /^Listen=.*:[0-9]+ \((Stream|Datagram)\)$/ { listens[++n] = substr($1, 8) tab substr($2, 2, length($2) - 2) }
    /^$/ { tell() }
    END { tell() }
    function tell(at) {
      for (at = 1; at <= n && active; at++) print unit tab listens[at]
      n = 0
    }'
}

# PORT/PROTOCOL[/ADDRESS]: the units and processes that listen on it, or on all addresses. What systemd holds is its
# socket unit's, also while that one's service has it too
port_holders() {
  kind=${1#*/}
  address=${kind#*/}
  [ "$address" != "$kind" ] || address=
  kind=${kind%%/*}
  ss -Hlnp --"$kind" "sport = :${1%%/*}" | awk -v own="$address" '
    { at = $4; sub(/:[0-9]+$/, "", at); gsub(/[][]|%.*/, "", at) }
    own == "" || at == own || at == "*" || at == "0.0.0.0" || at == "::"' | while IFS= read -r socket; do
    case $socket in
      *,pid=1,*) port_unit "$kind" "$(printf '%s\n' "$socket" | awk '{ sub(/^\*/, "[::]", $4); print $4 }')" ;;
      *)
        printf '%s\n' "$socket" | grep -o '"[^"]*",pid=[0-9]*' | while IFS=, read -r name pid; do
          pid=${pid#pid=}
          unit=$(sed -nE 's|^(0:\|[0-9]+:name=systemd):.*/([^/]*\.service)$|\2|p' "/proc/$pid/cgroup" | head -n1)
          echo "${unit:-none} $name (pid $pid)"
        done
        ;;
    esac
  done | sort -u
}

# PROTOCOL ADDRESS:PORT: the socket unit by which systemd holds it, who may write the address otherwise than ss
port_unit() {
  stream=Stream
  [ "$1" = tcp ] || stream=Datagram
  unit=$(port_sockets | awk -F "$(printf '\t')" -v kind="$stream" -v at="$2" -v end=":${2##*:}" '
    $3 != kind || substr($2, length($2) - length(end) + 1) != end { next }
    $2 == at { found = $1; exit }
    found == "" { found = $1 }
    END { if (found != "") print found }')
  echo "${unit:-none} \"systemd\" (pid 1)"
}
