# How a host takes back what guard.sh has kept.
#
# shellcheck disable=SC2154 # $guard and $guard_told are set there

# Puts all back as it was, and starts again what has been restarted since. What is done already stays done
guard_back() {
  at guard
  tab=$(printf '\t')
  id=$(cat "$guard/id")
  if [ ! -e "$guard_told/$id/collected" ]; then
    guard_changed || {
      rm -rf "${guard_told:?}/$id"
      : >"$guard/over"
      guard_gone
      return 0
    }
    guard_collect || true
  fi
  while IFS=$tab read -r service enabled active invocation listens; do
    [ "$enabled" != - ] || gone_service "$service" # its unit was not there
  done <"$guard/units"
  left=$(guard_undo_all before)$(tac "$guard/paths" | while IFS=$tab read -r what path; do
    guard_put "$what" "$path" >&2 || printf ' %s' "$path"
  done)
  systemctl daemon-reload
  left=$left$(guard_packages)$(guard_undo_all after)
  guard_start
  guard_well
  [ -z "$left" ] || fail "could not be put back:$left"
  guard_outcome || true
  : >"$guard/over"
  guard_gone
}

# WHEN: prints what could not be taken back
guard_undo_all() {
  for each in "$guard"/undo/*; do
    [ ! -d "$each" ] || undo_once "$each" "$1" || printf ' %s' "${each##*/}"
  done
}

# Installs the packages of before again, and prints those that could not be
guard_packages() {
  for each in "$guard"/packages/*.deb; do
    { [ ! -e "$each" ] || package_is "$each"; } && continue
    (package_ready /run/paddock/apt.conf) >&2 || true
    package_file "$each" >&2 || printf ' %s' "${each##*/}"
  done
}

# Whether anything is not as it was
guard_changed() {
  for each in "$guard"/packages/*.deb; do
    [ ! -e "$each" ] || package_is "$each" || return 0
  done
  while IFS=$tab read -r what path; do
    guard_same "$what" "$path" || return 0
  done <"$guard/paths"
  while IFS=$tab read -r service enabled active invocation listens; do
    now=$(service_manager "$service" show -P InvocationID 2>/dev/null) || now=
    [ "${now:--}" = "$invocation" ] || return 0
  done <"$guard/units"
  return 1
}

# WHAT PATH: whether it is as it was
guard_same() {
  case $1 in
    missing) [ ! -e "$2" ] && [ ! -L "$2" ] ;;
    directory:*) [ -d "$2" ] && [ "directory:$(stat -c %a:%u:%g "$2")" = "$1" ] ;;
    *)
      if [ -L "$guard/files$2" ]; then
        [ "$(readlink "$2")" = "$(readlink "$guard/files$2")" ]
      else
        [ ! -L "$2" ] && cmp -s "$guard/files$2" "$2" &&
          [ "$(stat -c %a:%u:%g "$2")" = "$(stat -c %a:%u:%g "$guard/files$2")" ]
      fi
      ;;
  esac
}

# WHAT PATH: a second name of the copy takes no room on a disk that is full
guard_put() {
  ! guard_same "$1" "$2" || return 0
  case $1 in
    missing)
      if [ -d "$2" ] && [ ! -L "$2" ]; then
        rmdir --ignore-fail-on-non-empty "$2"
      else
        rm -f "$2"
      fi
      ;;
    directory:*)
      whose=${1#directory:}
      mkdir -p "$2" && chown "${whose#*:}" "$2" && chmod "${whose%%:*}" "$2"
      ;;
    *)
      near=${2%/*}/.paddock-${2##*/}
      rm -rf "$near"
      ln "$guard/files$2" "$near" 2>/dev/null || cp -a -- "$guard/files$2" "$near" || {
        rm -rf "$near"
        return 1
      }
      mv -fT "$near" "$2"
      ;;
  esac
}

# The units are enabled as they were, and those that ran run with what was put back
guard_start() {
  sed -n "s|^\([^/$tab]*\)/.*|\1|p" "$guard/units" | sort -u | while read -r each; do
    manager "$each" daemon-reload || true
  done
  while IFS=$tab read -r service enabled active invocation listens; do
    case $enabled in
      enabled) service_manager "$service" enable --quiet 2>/dev/null || true ;;
      disabled) service_manager "$service" disable --quiet 2>/dev/null || true ;;
      -) continue ;;
    esac
    if [ "$active" != active ]; then
      service_manager "$service" stop 2>/dev/null || true
    elif ! guard_untouched "$service" "$invocation"; then
      service_manager "$service" reset-failed 2>/dev/null || true
      service_manager "$service" restart 2>/dev/null || true
    fi
    service_unkept "$service"
  done <"$guard/units"
}

# UNIT INVOCATION: whether it still runs as it did
guard_untouched() {
  [ "$(service_manager "$1" show -P InvocationID 2>/dev/null)" = "$2" ] && service_manager "$1" is-active --quiet
}

# Sets $unwell: those that ran, and do not come up again, or not for longer than a moment
guard_well() {
  unwell=
  late=$(($(uptime_s) + 120))
  for round in 1 2; do
    while IFS=$tab read -r service enabled active invocation listens; do
      [ "$active" = active ] || continue
      # shellcheck disable=SC2034 # service_listens looks for it
      name=${service#*/}
      [ "$listens" != - ] || listens=
      # shellcheck disable=SC2086 # a word each
      until service_manager "$service" is-active --quiet && service_settled "$service" && service_listens $listens; do
        if [ "$(uptime_s)" -ge "$late" ]; then
          case " $unwell " in
            *" $service "*) ;;
            *) unwell="${unwell:+$unwell }$service" ;;
          esac
          break
        fi
        sleep 0.2
      done
    done <"$guard/units"
    [ "$round" = 2 ] || sleep 3
  done
}

# A line each of what the control machine reads: `unwell` names the units that do not run
guard_outcome() {
  (umask 077 && mkdir -p "$guard_told/$id") || return
  printf 'id\t%s\nwords\t%s\nat\t%s\nwhy\t%s\nunwell\t%s\n' "$id" "$(cat "$guard/words")" "$(date +%s)" \
    "$(cat "$guard/taking")" "$unwell" >"$guard_told/$id/outcome.new" || return
  sync -f "$guard_told"
  mv -fT "$guard_told/$id/outcome.new" "$guard_told/$id/outcome"
  ln -sfnT "$guard_told/$id" /var/lib/paddock/taken-back
}

# What tells of the switch, before it is gone: the units as they are, what they said since, what was changed. Each file
# has a bound, and five switches are remembered
guard_collect() {
  (umask 077 && mkdir -p "$guard_told/$id") || return
  timeout 20 journalctl -q --sync 2>/dev/null || true
  while IFS=$tab read -r service enabled active invocation listens; do
    file=$guard_told/$id/$(printf '%s' "$service" | tr / -)
    service_manager "$service" show 2>/dev/null | head -c 65536 >"$file.show" || true
    case $service in
      */*) guard_journal "_SYSTEMD_USER_UNIT=${service#*/}" ;;
      *) guard_journal -u "$service" ;;
    esac | tail -c 262144 >"$file.journal"
  done <"$guard/units"
  guard_journal -k | tail -c 65536 >"$guard_told/$id/kernel.journal"
  while IFS=$tab read -r what path; do
    guard_same "$what" "$path" || {
      printf '%s\n' "$path"
      if [ -L "$path" ]; then
        printf '%s -> %s\n' "$(readlink "$guard/files$path")" "$(readlink "$path")"
      elif [ "$what" = file ] && ! grep -qxF -e "$path" "$guard/secret" 2>/dev/null; then
        diff -u -- "$guard/files$path" "$path" 2>/dev/null || true
      fi
    }
  done <"$guard/paths" | head -c 262144 >"$guard_told/$id/changed"
  : >"$guard_told/$id/collected"
  find "$guard_told" -mindepth 1 -maxdepth 1 ! -name "$id" -printf '%T@ %f\n' | # this one whatever the clock says
    sort -rn | tail -n +5 | cut -d ' ' -f 2 | while read -r old; do
    rm -rf "${guard_told:?}/$old"
  done
}

# ARGUMENT…: since it was armed, or what there is where the journal does not go back so far
guard_journal() {
  timeout 20 journalctl -q --no-pager --after-cursor="$(cat "$guard/cursor")" "$@" 2>/dev/null ||
    timeout 20 journalctl -q --no-pager -n 5000 "$@" 2>/dev/null || true
}
