# Lines in files that belong to somebody else.
#
# shellcheck disable=SC2154 # $stage and $tab are set where this is sourced: see base.sh

# The lines that are there, by the file that each is in.
probe_line() {
  section line
  for pair in $(lines); do
    path=${pair%%"$tab"*}
    ! grep -qxF -e "${pair#*"$tab"}" "$path" 2>/dev/null || printf '%s\n' "$path"
  done
}

# ORIGIN PATH TEXT
put_line() {
  at "line:$2: $3"
  ! grep -qxF -e "$3" "$2" 2>/dev/null || return 0
  if [ ! -f "$2" ] || {
    backup "$2"
    line_untouched "$2"
  }; then
    printf '%s\n' "$3" >"$stage/line"
  else
    cp "$2" "$stage/line"
    [ -z "$(tail -c1 "$2")" ] || echo >>"$stage/line"
    printf '%s\n' "$3" >>"$stage/line"
  fi
  chmod 644 "$stage/line"
  if [ -f "$2" ]; then
    chown --reference="$2" "$stage/line"
    chmod --reference="$2" "$stage/line"
  fi
  into_place "$stage/line" "$2"
}

# PATH: whether a file is still as its package left it
line_untouched() {
  dpkg-query -W -f '${Conffiles}\n' | grep -qF " $1 $(md5sum <"$1" | cut -d' ' -f1)"
}

# PATH TEXT: the rest of the file is somebody else's, and stays as they have it now
gone_line() {
  at "line:$1: $2"
  [ -f "$1" ] || return 0
  kept=/var/lib/paddock/backup$1
  if ! grep -qxF -e "$2" "$1"; then
    rm -rf "$kept"
    tidy "$kept"
    return 0
  fi
  grep -vxF -e "$2" "$1" >"$stage/line" || true
  if [ ! -s "$stage/line" ] || { [ -f "$kept" ] && line_whole "$kept" | cmp -s - "$stage/line"; }; then
    restore put "$1"
  else
    chown --reference="$1" "$stage/line"
    chmod --reference="$1" "$stage/line"
    into_place "$stage/line" "$1"
    rm -rf "$kept"
    tidy "$kept"
  fi
}

# FILE: with a line break at its end
line_whole() {
  cat "$1"
  [ -z "$(tail -c1 "$1")" ] || echo
}
