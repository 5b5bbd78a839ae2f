# How fast the servers of a host were: see speed.py.

# LINE…: in place of what is kept of the same release, model and way to serve it, its first two words
speed_note() {
  at speeds
  speeds=/var/lib/paddock/speeds
  mkdir -p "${speeds%/*}"
  for line; do
    what=$(printf '%s\n' "$line" | cut -d ' ' -f 1-2)
    {
      [ ! -f "$speeds" ] || awk -v what="$what " 'index($0, what) != 1' "$speeds" | tail -n 99
      printf '%s\n' "$line"
    } >"$speeds.new"
    mv -fT "$speeds.new" "$speeds"
  done
}
