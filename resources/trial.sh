# A llama-server that is tried on its host: what gate.sh and measure.sh share. It is sent in front of either, which sets
#   trial   the transient unit that all of it is bound to: whichever process is killed, systemd ends the others and
#           removes their directories in /run
#   server  the unit of the llama-server at work, with its own directory below /run
#   socket, log, environment, properties   where that listens, and the files of its output, variables and properties
# llama-server listens on a socket, not on a port, and runs as the service is to run: with its user, groups and sandbox.
#
# shellcheck shell=sh disable=SC2154,SC2034 # set, or read, by the script behind it
LC_ALL=C
export LC_ALL
command_s=60 ready_s=600 limit_s=''

# supervise LIMIT-S DESCRIPTION ARGUMENT…: runs this script as the trial's unit, with --inside, the ids of its callers
# and the arguments. Gives the unit's status
supervise() {
  trap 'systemctl stop --quiet "$trial" 2>/dev/null || true; exit 143' HUP INT TERM
  systemctl stop --quiet "$trial" "$trial-*" 2>/dev/null || true # a run that was killed this very moment
  lives_s=$1 description=$2
  shift 2
  systemd-run --quiet --wait --pipe --collect --unit="$trial" --description="$description" \
    -p RuntimeDirectory="$trial" -p RuntimeMaxSec="$lives_s" -p TimeoutStopSec=10 -p LimitCORE=0 \
    /bin/sh "$(realpath "$0")" --inside "$$" "$PPID" "$@" </dev/null &
  rc=0
  wait "$!" || rc=$?
  return "$rc"
}

# ends_with CALLER ITS-CALLER: the trial ends when either is gone
ends_with() {
  {
    while [ -d "/proc/$1" ] && [ -d "/proc/$2" ]; do
      sleep 0.5
    done
    systemctl stop --no-block "$trial"
  } </dev/null >/dev/null 2>&1 &
}

# run COMMAND…: as the service is to run, its output in $log. Gives its exit code: of a signal only a shell tells,
# systemd-run does not
run() {
  late_s=$command_s
  set -- timeout -k 5 "${limit_s:-$command_s}" "$@"
  count=$#
  if [ -s "$properties" ]; then
    while IFS= read -r each; do
      set -- "$@" -p "$each"
    done <"$properties"
  else # no service is to run it
    set -- "$@" -p DynamicUser=yes
    for each in render video; do
      if getent group "$each" >/dev/null; then
        set -- "$@" -p SupplementaryGroups="$each"
      fi
    done
  fi
  while IFS= read -r each; do
    set -- "$@" --setenv="$each"
  done <"$environment"
  # shellcheck disable=SC2016 # the shell that it runs expands them
  set -- "$@" /bin/sh -c '"$@"; exit "$?"' trial
  while [ "$count" -gt 0 ]; do
    set -- "$@" "$1"
    shift
    count=$((count - 1))
  done
  systemd-run --quiet --wait --pipe --collect --unit="$server" --description="A llama-server on trial" \
    -p BindsTo="$trial.service" -p After="$trial.service" -p RuntimeDirectory="$server" -p TimeoutStopSec=10 \
    -p LimitCORE=0 -p OOMScoreAdjust=900 "$@" </dev/null >"$log" 2>&1
}

# serve COMMAND…: ends with 0 once it is ready, else with how it ended
serve() {
  limit_s=${serves_s:-$((ready_s + command_s))}
  run "$@" &
  pid=$!
  limit_s=''
  begun=$(uptime_s)
  late_s=$ready_s
  until ask /health >/dev/null; do
    sleep 0.1
    if ! kill -0 "$pid" 2>/dev/null; then
      wait "$pid" || return
      return 1
    fi
    if [ $(($(uptime_s) - begun)) -ge "$ready_s" ]; then
      end
      return 124
    fi
  done
}

# uptime_s: the seconds since the machine was started: no clock that is set moves them
uptime_s() {
  read -r up </proc/uptime
  echo "${up%%.*}"
}

# end: of the llama-server that was started last
end() {
  systemctl stop --quiet "$server" 2>/dev/null || true
  wait "$pid" || true
}

# ask PATH CURL-ARGUMENT…
ask() {
  path=$1
  shift
  curl -fsS --max-time "$command_s" --noproxy '*' --unix-socket "$socket" "$@" "http://localhost$path" 2>/dev/null
}

# died WHAT EXIT-CODE
died() {
  library=$(sed -n 's/.*error while loading shared libraries: \([^:]*\): \(.*\)/\1 \2/p' "$log" | head -n 1)
  newer=$(sed -n "s/.*version \`\([^']*\)' not found.*/\1/p" "$log" | sort -uV | tail -n 1)
  case "$2 $library$newer" in
    *"cannot open shared object"*)
      refuse "$1: the shared library ${library%% *} is missing: install the package that has it"
      ;;
    *" "[!\ ]*.so*)
      refuse "$1: the shared library ${library%% *} is damaged (${library#* }): put there anew what it belongs to"
      ;;
    *" "[!\ ]*)
      refuse "$1: it needs $newer, and this host's libraries are older: build it on this host," \
        "or on one with the same distribution"
      ;;
    "124 ") refuse "$1: it was not done in $late_s s$(telling)" ;;
    "126 ") refuse "$1: it cannot be executed, as a program of another architecture cannot$(telling)" ;;
    "132 ")
      refuse "$1: it dies of an illegal instruction (SIGILL), of a set that its build options do not name:" \
        "build it for this processor (cpu: auto)"
      ;;
    "137 " | "255 ") refuse "$1: it was killed: where nobody did that, the host is short of memory" ;;
    "2"[0-4][0-9]" ") refuse "$1: systemd cannot start it as the service is to run$(of_systemd)" ;;
  esac
  if grep -qiE 'out of memory|OutOfDeviceMemory' "$log"; then
    refuse "$1: too little memory is free beside what serves now: unload a model, and run it again"
  fi
  [ "$2" -le 128 ] || refuse "$1: it dies of SIG$(kill -l "$2")$(telling)"
  refuse "$1: it ends with $2$(telling)"
}

# telling: the line of its own that tells most
telling() {
  told=$(grep -iE '\b(error|failed|failure|invalid|unable|cannot|exception|abort)' "$log" | head -n 1 | cut -c 1-300)
  [ -n "$told" ] || told=$(grep . "$log" | tail -n 1 | cut -c 1-300)
  [ -z "$told" ] || printf ': %s' "$told"
}

# of_systemd: what systemd says of the unit
of_systemd() {
  journalctl -q --sync 2>/dev/null || true
  told=$(journalctl -q -o cat -u "$server" -n 20 --no-pager 2>/dev/null |
    sed -n "s/^$server.service: \(Failed .*\)/\1/p" | grep -v 'with result' | tail -n 2 | head -n 1)
  [ -z "$told" ] || printf ': %s' "$told"
}

# words WORD…: a, b and c
words() {
  said=$1
  shift
  while [ $# -gt 1 ]; do
    said="$said, $1"
    shift
  done
  echo "$said${1:+ and $1}"
}
