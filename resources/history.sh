# What a host keeps of the configurations that it has had: see history.py.
#
# shellcheck disable=SC2154 # $stage is set where this is sourced: see base.sh

# The end of the list, and the entries whose plan is there.
probe_history() {
  history=/var/lib/paddock/history
  [ -d "$history" ] || return 0
  section history
  tail -n 64 "$history/log" 2>/dev/null | cut -c 1-400
  section entries
  find "$history" -mindepth 2 -maxdepth 2 -path '*/[1-9]*/plan' -type f -printf '%h\n' 2>/dev/null |
    sed 's/.*\///' | head -n 640
}

# NUMBER STAGED: the packed plan of an entry
history_entry() {
  at history
  entry=/var/lib/paddock/history/$1
  install -d -m 700 "${entry%/*}" "$entry"
  into_place "$stage/$2" "$entry/plan"
}

# LINE NUMBER…: adds a line to the list, of which the last stay, and drops the entries
history_line() {
  at history
  history=/var/lib/paddock/history
  install -d -m 700 "$history"
  {
    [ ! -f "$history/log" ] || tail -n 63 "$history/log"
    printf '%s\n' "$1"
  } >"$history/.log"
  mv -fT "$history/.log" "$history/log"
  shift
  for entry; do
    rm -rf "${history:?}/$entry"
  done
}
