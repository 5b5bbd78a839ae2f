# Who is changing this host: a line in /run/paddock/lease, with tabs: the run's id, when it began and until when that
# holds, in seconds since the machine started, what the run is and whose. It holds for a few minutes and is renewed as
# long as the run lasts. A run that has ended leaves its line, with 0 for its end: who looked at the host before must
# not change it after. Read and written with the lock of the host held; a machine that restarts has forgotten it.

# Sets $lease_id, $lease_began, $lease_ends, $lease_verb and $lease_who, empty where there is none, and $lease_now
lease_read() {
  lease_id=
  IFS=' .' read -r lease_now _ </proc/uptime
  [ -f /run/paddock/lease ] || return 0
  IFS=$(printf '\t') read -r lease_id lease_began lease_ends lease_verb lease_who </run/paddock/lease || true
  if ! { lease_number "$lease_began" && lease_number "$lease_ends"; }; then
    lease_id=
  fi
}

# WORD: whether it is a number that this file may have
lease_number() {
  case $1 in
    '' | 0?* | *[!0-9]* | ???????????*) return 1 ;;
  esac
}

# The line that is read elsewhere: the id, how long ago it began, how long it holds (- where the run has ended), and
# what and who
lease_line() {
  lease_left=$((lease_ends - lease_now))
  [ "$lease_ends" != 0 ] || lease_left=-
  printf '%s\t%s\t%s\t%s\t%s\n' "$lease_id" "$((lease_now - lease_began))" "$lease_left" "$lease_verb" "$lease_who"
}

# ENDS: writes what was read, with another end
lease_write() {
  printf '%s\t%s\t%s\t%s\t%s\n' "$lease_id" "$lease_began" "$1" "$lease_verb" "$lease_who" >/run/paddock/lease.new
  mv -fT /run/paddock/lease.new /run/paddock/lease
}

# SECONDS: waits so long for the lock of the host, and holds it from then on
lease_lock() {
  at directory:/run/paddock
  [ ! -L /run/paddock ] || fail "it is a symbolic link to $(readlink /run/paddock): remove it"
  mkdir -p /run/paddock
  chmod 755 /run/paddock
  [ ! -L /run/paddock/lock ] || rm -f /run/paddock/lock
  at lease
  exec 9>>/run/paddock/lock
  flock -w "$1" 9 || fail "another run has been changing this host for $1 seconds"
}

# ID SECONDS VERB WHO SEEN HOW ID…: takes the lease for so long, unless another run has it, or has had it since SEEN was
# read (- for none, any where nobody has looked). HOW is `steal` for one that is taken although it holds; the last ids
# are runs that are known to be dead. Says what came of it, and a line about the lease that was there
lease_take() {
  lease_read
  lease_said=taken
  if [ -n "$lease_id" ] && [ "$lease_id" != "$1" ]; then
    lease_said=$(lease_verdict "$5" "$6" "$@")
    printf '%s\t' "$lease_said"
    lease_line
    [ "$lease_said" != held ] && [ "$lease_said" != changed ] || return 0
  else
    echo taken
  fi
  if [ "$lease_id" != "$1" ]; then
    lease_id=$1
    lease_began=$lease_now
  fi
  lease_verb=$3
  lease_who=$4
  lease_write $((lease_now + $2))
}

# SEEN HOW … : what becomes of the lease of another run that was read
lease_verdict() {
  lease_seen=$1
  lease_how=$2
  shift 8
  if [ "$lease_ends" -gt "$lease_now" ]; then
    for lease_dead; do
      [ "$lease_dead" != "$lease_id" ] || {
        echo dead
        return 0
      }
    done
    [ "$lease_how" = steal ] && echo stolen || echo held
  elif [ "$lease_seen" != any ] && [ "$lease_seen" != "$lease_id" ]; then
    echo changed
  elif [ "$lease_ends" != 0 ]; then
    echo over
  else
    echo taken
  fi
}

# ID SECONDS: goes on only while the run has the lease, and renews it now and when all is done
lease_keep() {
  at lease
  lease_read
  if [ "$lease_id" != "$1" ] || [ "$lease_ends" = 0 ]; then
    [ -z "$lease_id" ] || echo "paddock-lease: $(lease_line)" >&2
    # What is kept here (kept.sh) is the other run's.
    # shellcheck disable=SC2329 # called at the end by who sources this (deploys/applying.py)
    undone() { :; }
    fail 'the host does not know of this run any more: run it again'
  fi
  lease_write $((lease_now + $2))
  lease_kept=$1
  lease_lasts=$2
}

# ID SECONDS: lets it last longer, where the run still has it
lease_renew() {
  lease_read
  [ "$lease_id" = "$1" ] && [ "$lease_ends" != 0 ] || return 0
  lease_write $((lease_now + $2))
}

# Once steps have ended: they may have taken longer than the lease lasts, with the lock held all the time
lease_renewed() {
  [ -z "${lease_kept-}" ] || lease_renew "$lease_kept" "$lease_lasts"
}

# ID: the run has ended
lease_give() {
  lease_read
  [ "$lease_id" != "$1" ] || lease_write 0
}
