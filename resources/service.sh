# Services that run what is declared.

# SERVICE ARGUMENT…: systemctl of the manager that a service belongs to: the system's, or that of the account before a
# slash (`ai/llama-server.service`)
service_manager() {
  case $1 in
    */*)
      owner=${1%%/*}
      unit=${1#*/}
      ;;
    *)
      owner=-
      unit=$1
      ;;
  esac
  shift
  manager "$owner" "$@" "$unit"
}

# The units as systemd has them, the programs that they run, and what was noted at their starts and reloads. An
# account's own units come after the system's, and are named with it: ai/llama-server.service. What has a line break in
# it is nothing of Paddock's: it is left out, or it would read as a line more.
probe_service() {
  # shellcheck disable=SC2046 # a line a value: IFS is a line break
  set -- $(services)
  [ $# != 0 ] || return 0
  properties='--timestamp=us+utc
--property=Id,ActiveState,UnitFileState,NeedDaemonReload,InvocationID,MainPID,ActiveEnterTimestamp,StateChangeTimestamp
--property=FragmentPath,DropInPaths,NRestarts,Environment'
  system=
  owned=
  for each; do
    case $each in
      */*) owned="$owned$each$IFS" ;;
      *) system="$system$each$IFS" ;;
    esac
  done
  # shellcheck disable=SC2086 # words, by line
  shown=$(
    [ -z "$system" ] || systemctl show $properties -- $system
    for each in $owned; do
      echo
      service_manager "$each" show $properties -- 2>/dev/null || echo "ActiveState=unknown"
    done
  )
  section service
  printf '%s\n' "$shown"
  section program
  set --
  for line in $shown; do
    case $line in
      MainPID=[1-9]*) set -- "$@" "/proc/${line#MainPID=}/exe" ;;
    esac
  done
  if [ $# != 0 ]; then
    find "$@" -maxdepth 0 ! -lname "*$IFS*" -printf '%p\t%l\n' 2>/dev/null
    section environ
    # shellcheck disable=SC2046 # words, by line
    grep -zoaHE '^(LLAMA_ARG|GGML|CUDA|LD)_[A-Za-z0-9_]*=' $(printf '%s\n' "$@" | sed 's/exe$/environ/') 2>/dev/null |
      tr '\0' '\n' | sed -n 's/^\([^:]*\):\(.*\)=$/\1\t\2/p'
  fi
  section in_force
  for line in $(in_force); do
    ! sh -c "${line#*"$tab"}" >/dev/null 2>&1 </dev/null || printf '%s\tyes\n' "${line%%"$tab"*}"
  done
  section left_open
  for line in $(left_open); do
    ! sh -c "${line#*"$tab"}" >/dev/null 2>&1 </dev/null || printf '%s\tconnections\n' "${line%%"$tab"*}"
  done
  section stamp
  find /run/paddock -type l ! -lname "*$IFS*" -printf '%f\t%l\n' 2>/dev/null
  # shellcheck disable=SC2086 # words, by line
  [ -z "$owned" ] || for account in $(printf '%s\n' $owned | cut -d/ -f1 | sort -u); do
    find "/run/user/$(id -u "$account")/paddock" -type l -name "$account--*" ! -name "*$IFS*" ! -lname "*$IFS*" \
      -printf '%f\t%l\n' 2>/dev/null
  done
}

# SERVICE VERB TIMEOUT PORT…: `reset-failed` because systemd refuses a sixth start within ten seconds, also one that
# we ask for
put_service() {
  service=$1
  name=${1#*/}
  verb=$2
  timeout=$3
  at "service:$service"
  shift 3
  for port; do
    # What a socket unit had, and has no more, its service may still have: it ends when the socket is restarted.
    other=$(port_holders "$port" | grep -v -e "^$name " -e "^${name%.socket}.service " | cut -d' ' -f2- | head -n1)
    if [ -n "$other" ]; then
      at "port:$port"
      fail "port $port, which $name is to listen on, is taken by $other"
    fi
  done
  said=$(service_manager "$service" enable --quiet 2>&1) ||
    fail "cannot be enabled: $(printf '%s\n' "$said" | tail -n 1)"
  since=$(date +%s)
  if [ "$verb" != none ]; then
    service_manager "$service" reset-failed 2>/dev/null || true # which forgets how often it was restarted, too
    acted=$verb
    service_manager "$service" "$verb" >/dev/null 2>&1 || service_unwell "$service" "$since" "did not come up"
  fi
  late=$(($(uptime_s) + timeout)) # what it was answering had its time before
  until service_listens "$@" && service_settled "$service"; do
    if service_settled "$service"; then
      case $(service_manager "$service" show -P SubState) in
        running | listening | reload* | start*) ;;
        *) service_unwell "$service" "$since" "did not come up" ;;
      esac
    fi
    if [ "$(uptime_s)" -ge "$late" ]; then
      [ -z "$missing" ] || missing="does not listen on port $missing"
      service_unwell "$service" "$since" "${missing:-is still being restarted} after $timeout s"
    fi
    sleep 0.1
  done
  # shellcheck disable=SC2034 # kept.sh reads it
  acted=
  [ -e "$(service_kept "$service")/after" ] || service_unkept "$service"
}

# SERVICE: whether nothing more is to happen to it: a reload may have asked for a restart
service_settled() {
  case $(service_manager "$1" show -P Job) in
    '' | 0) ;;
    *) return 1 ;;
  esac
}

# SERVICE TIMEOUT COMMAND: it has been started, and others are sent to it once this is over
service_answers() {
  at "service:$1"
  since=$(date -d "$(service_manager "$1" show -P InactiveExitTimestamp)" +%s)
  begun=$(uptime_s)
  acted=restart
  until sh -c "$3" >/dev/null 2>&1 </dev/null 9>&-; do
    case $(service_manager "$1" show -P SubState) in
      running | reload* | start*) ;;
      *) service_unwell "$1" "$since" "did not come up" ;;
    esac
    [ $(($(uptime_s) - begun)) -lt "$2" ] || service_unwell "$1" "$since" "does not answer after $2 s"
    sleep 0.2
  done
  # shellcheck disable=SC2034 # kept.sh reads it
  acted=
  service_unkept "$1"
}

# Who passes requests on to several servers asks each every two seconds: this one is to be known before the next leaves.
service_noticed() {
  sleep 6
}

# PORT…: whether $name listens on all of them; $missing is the first that it does not listen on
service_listens() {
  for missing; do
    port_holders "$missing" | grep -q "^$name " || return 1
  done
  missing=
}

# SERVICE SINCE WORDS: fails with the line of the service's own that tells most, and what stands around it
service_unwell() {
  journalctl -q --sync 2>/dev/null || true
  case $1 in
    */*)
      of=_SYSTEMD_USER_UNIT
      where="--user -M ${1%%/*}@ "
      ;;
    *)
      of=_SYSTEMD_UNIT
      where=
      ;;
  esac
  said=$(journalctl -q -o cat --no-pager --since "@$2" -n 100 "$of=${1#*/}") || true
  told=$(printf '%s\n' "$said" | grep -iE ' E |error|fail|fatal|invalid|unable|cannot|denied|no such' | tail -n 1)
  if [ -n "$where" ]; then
    printf '%s\n' "$said" | tail -n 12 >&2
  else
    journalctl -q -u "$1" --since "@$2" -n 12 -o cat --no-pager >&2 || true
  fi
  echo "the whole log is on the host: journalctl $where-u ${1#*/}" >&2
  [ -n "$told" ] || told=$(printf '%s\n' "$said" | tail -n 1)
  back=
  if [ -d "$(service_kept "$1")" ]; then
    back='; its files are as they were before, and it does not come up with them either'
    ! (service_back "$1") >/dev/null 2>&1 || back='; its files are as they were before, and it runs with them'
  fi
  fail "$3${told:+: $told}$back"
}

# SERVICE DIGEST: a process from before Paddock goes on, with what a start would read from the next one on
service_joined() {
  mkdir -p /run/paddock
  ln -sfn "$(service_manager "$1" show -P InvocationID):$2" "/run/paddock/$1.started"
}

# ACCOUNT: its manager runs, and reads its units anew
service_awake() {
  id -u "$1" >/dev/null 2>&1 ||
    fail "there is no account $1 on this host: make it, or leave roles.llama_server.user out"
  systemctl start "user@$(id -u "$1").service" || fail "the manager of $1's own services does not come up"
  manager "$1" daemon-reload
}

# SERVICE: it is started again in this run, on another port
service_vacate() {
  at "service:$1"
  service_manager "$1" stop
}

# SERVICE: what a package brings must not start before its files have landed; a mask in /run ends with the next boot
# at the latest
service_hold() {
  systemctl is-active --quiet "$1" || {
    mkdir -p /run/systemd/system
    ln -sfnT /dev/null "/run/systemd/system/$1"
  }
}

# SERVICE
service_unhold() {
  [ "$(readlink "/run/systemd/system/$1" || true)" != /dev/null ] || rm -f "/run/systemd/system/$1"
}

# SERVICE COMMAND
service_valid() {
  at "service:$1"
  said=$(sh -c "$2" 2>&1 </dev/null 9>&-) ||
    fail "its configuration is refused, so it was left as it is: $(printf '%s\n' "$said" | grep . | tail -n 1)"
}

# SERVICE WHAT…: its note says no more what it was `started` with, or has `loaded`
service_unvouched() {
  case $1 in
    */*)
      account=${1%%/*}
      id -u "$account" >/dev/null 2>&1 || return 0
      note=/run/user/$(id -u "$account")/paddock/$account--${1#*/}
      shift
      for what; do
        runuser -u "$account" -- rm -f "$note.$what"
      done
      ;;
    *)
      note=/run/paddock/$1
      shift
      for what; do
        rm -f "$note.$what"
      done
      ;;
  esac
}

# SERVICE changed|untouched: it was there before Paddock, and runs with its old files again, if they are others
service_again() {
  at "service:$1"
  rm -f "/run/paddock/$1".*
  [ "$2" = untouched ] || [ -z "$(service_manager "$1" show -P FragmentPath)" ] || service_manager "$1" try-restart
}

# SERVICE…: whoever is being answered gets the rest, for a minute at most. Nobody new is sent there any more.
service_drained() {
  late=$(($(uptime_s) + 60))
  for each; do
    at "service:$each"
    while service_answering "$each" && [ "$(uptime_s)" -lt "$late" ]; do
      sleep 0.2
    done
  done
}

# SERVICE: whether somebody is connected to a port that it listens on, or to a Unix socket. HAProxy before a server
# knows better: callers keep connections over which nothing goes.
service_answering() {
  case $1 in
    paddock-proxy-*)
      said=$(curl -sf --max-time 5 --unix-socket "/run/${1%.*}/figures.sock" 'http://localhost/;csv') || return 1
      [ "$(printf '%s\n' "$said" | grep '^answers,main,' | cut -d, -f5)" != 0 ]
      return
      ;;
    *.socket)
      for path in $(systemctl show -P Listen "$1" | sed -n 's|^\(/.*\) (Stream)$|\1|p'); do
        ! ss -Hx state established | grep -qF " $path " || return 0
      done
      ;;
  esac
  for port in $(ss -Hltn | sed -nE 's/^([^ ]+ +){3}[^ ]*:([0-9]+) .*/\2/p' | sort -u); do
    ! port_holders "$port/tcp" | grep -q "^${1#*/} " ||
      [ -z "$(ss -Htn state established "sport = :$port")" ] || return 0
  done
  return 1
}

# SERVICE
gone_service() {
  at "service:$1"
  service_unhold "${1#*/}"
  service_manager "$1" disable --quiet --now 2>/dev/null || true
  service_manager "$1" reset-failed 2>/dev/null || true
  case $1 in
    *.timer | *.path)
      # What it starts may be at work just now, or have failed, which systemd would tell of a unit that is gone.
      service_manager "${1%.*}.service" stop 2>/dev/null || true
      service_manager "${1%.*}.service" reset-failed 2>/dev/null || true
      ;;
  esac
  service_unvouched "$1" started loaded
  service_unkept "$1"
  case $1 in
    */*) service_homeless "${1%%/*}" ;;
  esac
}

# ACCOUNT: where systemd keeps which services of the account's are enabled, if that is empty; the account itself does
# that, in its own home
service_homeless() {
  home=$(getent passwd "$1" | cut -d: -f6)
  [ -d "$home" ] || return 0
  # shellcheck disable=SC2016 # the shell that it runs expands it
  setpriv --reuid="$(id -u "$1")" --regid="$(id -g "$1")" --init-groups \
    sh -c 'cd "$1" && rmdir -p .config/systemd/user' sh "$home" 2>/dev/null || true
}
