# A switch that the host takes back by itself, unless it is confirmed in time.
#
# /var/lib/paddock/guard has its `id`, in `words` what it is, its `deadline` in seconds, `files` as they were before it,
# `paths`, `units` and `secret` paths, a line each, `packages` as files, `undo` for more than that, the journal's
# `cursor`, and what the timer's service runs. It is `armed` once the timer runs; `taking` says why it is taken back,
# `over` that it is confirmed or taken back.
#
# shellcheck disable=SC2154 # $stage is set where this is sourced: see base.sh

guard=/var/lib/paddock/guard
guard_told=/var/lib/paddock/evidence
guard_unit=/etc/systemd/system/paddock-guard

# The switch that waits for its confirmation, and the last one that was taken back.
probe_guard() {
  [ -e "$guard/armed" ] || [ -e /var/lib/paddock/taken-back ] || return 0
  section guard
  if guard_waits; then
    printf 'id\t%s\nwords\t%s\nleft\t%s\n' "$(cat "$guard/id")" "$(cat "$guard/words")" "$(guard_left)"
  fi
  section taken_back
  cat /var/lib/paddock/taken-back/outcome 2>/dev/null || true
}

# What a run that was killed has left of one
guard_rest() {
  guard_waits || find "$guard" "$guard.new" "$guard.gone" -maxdepth 0 2>/dev/null || true
}

# DEADLINE_S ID WORDS PATH… -- UNIT…: keeps what the switch changes, as far as it is not kept yet; sets its deadline
guard_arm() {
  at guard
  deadline=$1
  id=$2
  words=$3
  shift 3
  [ ! -e "$guard_told/$id/outcome" ] || fail "$words was taken back meanwhile: $(guard_why "$id")"
  if guard_waits; then
    guard_mine "$id"
    guard_keep "$guard" "$@" || fail "what is to be put back could not be kept, so nothing more was changed"
    echo "$deadline" >"$guard/deadline"
  else
    guard_gone
    guard_begin "$@" || {
      rm -rf "$guard.new"
      fail "what is to be put back could not be kept, so nothing was changed"
    }
    mv -T "$guard.new" "$guard"
  fi
  guard_timer "$id" "$deadline"
  : >"$guard/armed"
  sync -f "$guard"
}

# NAME: the file of the package that is installed is kept too
guard_package() {
  at guard
  [ -e "$guard/packages/$1.deb" ] || package_keep "$1" "$guard/packages" ||
    fail "what is to be put back could not be kept, so nothing more was changed"
}

# PATH…: what changed in these is not told
guard_secret() {
  at guard
  printf '%s\n' "$@" >"$guard/secret"
}

# NAME NOTE BEFORE AFTER: how more than files is taken back
guard_undo() {
  at guard
  [ ! -e "$guard/undo/$1/after" ] || return 0
  mkdir -p "$guard/undo/$1"
  ln -sfn "$guard/files" "$guard/undo/$1/files"
  undo_keep "$guard/undo/$1" "$2" "$3" "$4"
}

# DEADLINE_S ID: it has so many seconds from now on
guard_extend() {
  at guard
  guard_mine "$2"
  echo "$1" >"$guard/deadline"
  guard_timer "$2" "$1"
}

# ID: it stays
guard_confirm() {
  at guard
  guard_mine "$1"
  : >"$guard/over"
  rm -f /var/lib/paddock/taken-back
  guard_gone
}

# ID WHY EVIDENCE: now. The evidence is what the control machine has of it, in base64. Prints how it ended; nothing
# where the run has failed before it changed anything
guard_take_back() {
  at guard
  if [ ! -e "$guard_told/$1/outcome" ]; then
    guard_waits || return 0
    [ -e "$guard/taking" ] || guard_mine "$1"
    [ "$(cat "$guard/id")" = "$1" ] || fail "$(cat "$guard/words") is being taken back"
    rm -f "$guard/reserve"
    guard_timer "$1" 30 # goes on with it where this is ended
    printf '%s\n' "$2" >"$guard/taking"
    (umask 077 && mkdir -p "$guard_told/$1" && printf '%s' "$3" | base64 -d >"$guard_told/$1/control-machine") || true
    guard_back
  fi
  cat "$guard_told/$1/outcome" 2>/dev/null || true
}

# Somebody has been told of what was taken back
guard_seen() {
  rm -f /var/lib/paddock/taken-back
}

# Nothing waits any more, and nothing is kept of any switch
guard_dropped() {
  guard_gone
  rm -rf "$guard_told" /var/lib/paddock/taken-back
}

# Carries out what the timer is for, alone on this host; begins anew where it was ended
guard_due() {
  mkdir -p /run/paddock
  [ ! -L /run/paddock/lock ] || rm -f /run/paddock/lock
  exec 9>>/run/paddock/lock
  flock 9
  guard_waits || {
    guard_gone
    return 0
  }
  if [ ! -e "$guard/taking" ]; then
    if [ ! -e /run/paddock/guard ]; then
      why="the machine was started again before it was confirmed"
    elif [ "$(guard_left)" -gt 0 ]; then
      return 0 # a run has extended it meanwhile
    else
      why="nobody confirmed it within $(cat "$guard/deadline") s"
    fi
    rm -f "$guard/reserve"
    printf '%s\n' "$why" >"$guard/taking"
  fi
  guard_back
}

# Whether a switch waits for its confirmation, or is being taken back
guard_waits() {
  [ -e "$guard/armed" ] && [ ! -e "$guard/over" ]
}

# ID: fails where that one does not wait
guard_mine() {
  [ ! -e "$guard_told/$1/outcome" ] || fail "it was taken back: $(guard_why "$1")"
  guard_waits || fail "no switch waits for its confirmation here"
  [ ! -e "$guard/taking" ] || fail "$(cat "$guard/words") is being taken back: $(cat "$guard/taking")"
  [ -e /run/paddock/guard ] || fail "$(cat "$guard/words") is being taken back: the machine was started again"
  [ "$(cat "$guard/id")" = "$1" ] ||
    fail "$(cat "$guard/words") waits for its confirmation, and is taken back in $(guard_left) s without it"
}

# ID: why it was taken back
guard_why() {
  sed -n "s/^why$(printf '\t')//p" "$guard_told/$1/outcome"
}

# The seconds until it is taken back
guard_left() {
  due=$(cat /run/paddock/guard 2>/dev/null) || due=0
  due=$((${due##* } - $(uptime_s)))
  [ "$due" -gt 0 ] || due=0
  echo "$due"
}

# PATH… -- UNIT…: all of it but the timer, beside where it is to be
guard_begin() {
  rm -rf "$guard.new"
  (umask 077 && mkdir -p "$guard.new/files") || return
  echo "$id" >"$guard.new/id" &&
    printf '%s\n' "$words" >"$guard.new/words" &&
    echo "$deadline" >"$guard.new/deadline" &&
    : >"$guard.new/paths" &&
    : >"$guard.new/units" &&
    head -c 65536 /dev/zero >"$guard.new/reserve" && # for what is to be noted on a disk that is full then
    cp "$stage/host.sh" "$guard.new/host.sh" &&
    cat >"$guard.new/take-back" <<'SCRIPT' || return
set -eu
umask 077
LC_ALL=C
export LC_ALL
. /var/lib/paddock/guard/host.sh
guard_due
SCRIPT
  journalctl -q -n 0 --show-cursor 2>/dev/null | sed -n 's/^-- cursor: //p' >"$guard.new/cursor" || return
  guard_keep "$guard.new" "$@" && sync -f "$guard.new"
}

# DIRECTORY PATH… -- UNIT…: what is not kept there yet
guard_keep() {
  into=$1
  shift
  while [ "$1" != -- ]; do
    cut -f 2- "$into/paths" | grep -qxF -e "$1" || guard_keep_path "$1" || return
    shift
  done
  shift
  for each; do
    cut -f 1 "$into/units" | grep -qxF -e "$each" || guard_keep_unit "$each" || return
  done
}

# PATH: as it is now, a link as a link, of a directory only whose it is
guard_keep_path() {
  what=missing
  if [ -f "$1" ] || [ -L "$1" ]; then
    what='file'
    (cd / && cp -a --parents -- "${1#/}" "$into/files") || return
  elif [ -d "$1" ]; then
    what=directory:$(stat -c %a:%u:%g "$1") || return
  fi
  printf '%s\t%s\n' "$what" "$1" >>"$into/paths"
}

# UNIT: whether it is enabled and active, under which invocation, and the ports that it listens on
guard_keep_unit() {
  enabled=$(service_manager "$1" show -P UnitFileState 2>/dev/null) || enabled=
  active=$(service_manager "$1" show -P ActiveState 2>/dev/null) || active=
  invocation=$(service_manager "$1" show -P InvocationID 2>/dev/null) || invocation=
  case $active in
    activating | reloading) active=active ;;
  esac
  listens=
  [ "$active" != active ] || listens=$(guard_ports "$1")
  printf '%s\t%s\t%s\t%s\t%s\n' "$1" "${enabled:--}" "${active:--}" "${invocation:--}" "${listens:--}" >>"$into/units"
}

# UNIT: 8080/tcp 8081/tcp
guard_ports() {
  for number in $(ss -Hltn | sed -nE 's/^([^ ]+ +){3}[^ ]*:([0-9]+) .*/\2/p' | sort -un); do
    ! port_holders "$number/tcp" | grep -q "^${1#*/} " || printf '%s/tcp ' "$number"
  done
}

# ID SECONDS: the units lie in /etc, so that they are there after a boot; at a boot the service runs at once
guard_timer() {
  mkdir -p /run/paddock
  echo "$1 $(($(uptime_s) + $2))" >/run/paddock/guard.new
  mv -fT /run/paddock/guard.new /run/paddock/guard
  cat >"$guard_unit.service.paddock" <<EOF
[Unit]
Description=Takes back a switch that nobody has confirmed
ConditionPathExists=$guard/take-back
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart=/bin/sh $guard/take-back
Restart=on-failure
RestartSec=10

[Install]
WantedBy=multi-user.target
EOF
  cat >"$guard_unit.timer.paddock" <<EOF
[Unit]
Description=Until when a switch is to be confirmed
StartLimitIntervalSec=0

[Timer]
OnActiveSec=$2
AccuracySec=1
EOF
  for each in service timer; do
    chmod 644 "$guard_unit.$each.paddock"
    mv -fT "$guard_unit.$each.paddock" "$guard_unit.$each"
  done
  systemctl daemon-reload
  systemctl enable --quiet paddock-guard.service 2>/dev/null || fail "its timer cannot be set"
  systemctl restart paddock-guard.timer 2>/dev/null || fail "its timer cannot be set"
}

# No timer, no unit and no copy is left of it
guard_gone() {
  if [ -e "$guard_unit.service" ] || [ -e "$guard_unit.timer" ]; then
    systemctl stop --quiet paddock-guard.timer 2>/dev/null || true
    systemctl disable --quiet paddock-guard.service 2>/dev/null || true
    rm -f "$guard_unit.service" "$guard_unit.timer" "$guard_unit.service.paddock" "$guard_unit.timer.paddock"
    systemctl daemon-reload
    systemctl reset-failed paddock-guard.service 2>/dev/null || true
  fi
  rm -rf "$guard.new" "$guard.gone"
  [ ! -e "$guard" ] || mv -T "$guard" "$guard.gone"
  rm -rf "$guard.gone"
  rm -f /run/paddock/guard
}
