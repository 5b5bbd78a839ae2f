# What a host does to itself, and what kinds share. Sourced from the archive that it came in, with `set -eu`, the lock
# held and $stage the unpacked archive; the probe sources it too, and calls the functions named probe_… alone, which
# change nothing. `at` names the resource at work: whatever fails, the last line on standard error says where; a
# script that is killed leaves the last of its `paddock-does:` lines.

# RESOURCE
at() {
  # shellcheck disable=SC2034 # said at the end by who sources this (deploys/applying.py)
  at=$1
  echo "paddock-does: $1" >&2
}

# WORDS
fail() {
  echo "$1" >&2
  exit 1
}

# The seconds since the machine was started: no clock that is set moves them, so that what
# waits goes by it
uptime_s() {
  read -r up </proc/uptime
  echo "${up%%.*}"
}

# Why a command may have failed whose own words do not tell: where there is no room. What ends with a failure says so
full_disks() {
  df -P -k / /etc /opt /var/lib/paddock 2>/dev/null |
    awk 'NR > 1 && $4 < 64 && !seen[$6]++ { print "paddock-full: " $6 }'
}

# PATH: keeps what was there before Paddock, once
backup() {
  kept=/var/lib/paddock/backup$1
  [ -e "$1" ] || [ -L "$1" ] || return 0
  [ ! -e "$kept" ] && [ ! -L "$kept" ] || return 0
  if ! { mkdir -p "${kept%/*}" && rm -rf "$kept.new" && cp -a -- "$1" "$kept.new" && mv -fT "$kept.new" "$kept"; }; then
    fail "could not be kept as $kept, so it was left as it is"
  fi
}

# ORIGIN PATH: puts back what was there before Paddock. What was there and has no backup was never changed, or is back
# already
restore() {
  kept=/var/lib/paddock/backup$2
  near=${2%/*}/.paddock-${2##*/}
  if [ -e "$kept" ] || [ -L "$kept" ]; then
    rm -rf "$near"
    cp -a -- "$kept" "$near"
    mv -fT "$near" "$2"
    rm -rf "$kept"
  elif [ "$1" = put ]; then
    rm -f -- "$2"
  fi
  tidy "$kept"
}

# BACKUP: leaves no empty directory where it was
tidy() {
  rmdir -p --ignore-fail-on-non-empty "${1%/*}" 2>/dev/null || true
}

# STAGED PATH: by a rename, so that no reader ever sees a part of it
into_place() {
  [ ! -d "$2" ] || [ -L "$2" ] || fail "a directory stands where the file is to be: $2"
  [ -d "${2%/*}" ] || fail "there is no directory ${2%/*}"
  beside "$1" "$2"
  mv -fT "$near" "$2"
}

# STAGED PATH: sets $near, from where a rename leads to PATH
beside() {
  near=$1
  [ "$(stat -c %d "$1")" != "$(stat -c %d "${2%/*}")" ] || return 0
  near=${2%/*}/.paddock-${2##*/}
  rm -rf "$near"
  if ! { (umask 077 && cp "$1" "$near") && chown --reference="$1" "$near" && chmod --reference="$1" "$near"; }; then
    rm -f "$near"
    exit 1
  fi
  sync -f "$near"
}

# OWNER: fails where the manifest has a later time of the same state: another run has changed meanwhile who is let in
no_newer() {
  at manifest
  ours=${1#fleet }
  theirs=$(sed -n '1s/^fleet //p' /var/lib/paddock/manifest 2>/dev/null) || return 0
  [ "${theirs% *}" = "${ours% *}" ] || return 0
  if expr "${theirs##* }" '>' "${ours##* }" >/dev/null; then
    fail "who is let in was changed by another run at ${theirs##* }, after this one had begun: run it again"
  fi
}

# Takes the manifest away
gone_manifest() {
  at manifest
  rm -f /var/lib/paddock/manifest
}

# Takes away what builds, probes, services, speeds and the history have left, once a host is nobody's
gone_rest() {
  at manifest
  rm -rf /var/lib/paddock/build /var/lib/paddock/roots /var/lib/paddock/digests /var/lib/paddock/kept \
    /var/lib/paddock/history /var/lib/paddock/images /var/lib/paddock/packages /var/lib/paddock/try.*
  find /run/paddock -mindepth 1 -maxdepth 1 ! -name lease ! -name lock -exec rm -rf {} +
  rm -f /var/lib/paddock/speeds /var/lib/paddock/speeds.new
}

# What a run kept that was ended is not needed any more: all is as declared
gone_kept() {
  at kept
  rm -rf /var/lib/paddock/kept
  guard_waits || guard_gone
}

# NAME: what follows in the probe's answer is of this section. $mark is random, so that no text on a host can look like
# it
section() {
  echo "$mark $1"
}

# Sets what every probe needs: a fixed locale, values by line, no globs; waits for a run that is changing the host.
probe_begin() {
  LC_ALL=C
  TZ=UTC
  export LC_ALL TZ
  # shellcheck disable=SC2034 # of the kinds' probes
  tab=$(printf '\t')
  IFS='
'
  set -f
  if [ -e /run/paddock/lock ]; then
    exec 9</run/paddock/lock
    flock -s -w 300 9 || {
      echo 'paddock: another run has been changing this host for five minutes' >&2
      exit 75
    }
  fi
  mark="#$(od -An -N12 -tx1 /dev/urandom | tr -d ' ')"
  echo "$mark"
  section clock
  date +%s
  section identity
  identity
  section lease
  lease_read
  [ -z "$lease_id" ] || lease_line
  section rest
  find /var/lib/paddock -maxdepth 1 \( -name 'stage.*' -o -name kept ! -empty \) 2>/dev/null
  guard_rest
  probe_guard
  probe_manifest
  probe_history
}

# The manifest, with whose the host is, and how large the model files are that it names, which file each is and how many
# names that has, with what lies beside them of a download.
probe_manifest() {
  [ -f /var/lib/paddock/manifest ] || return 0
  section owner
  grep -a '^fleet' /var/lib/paddock/manifest || true
  section manifest
  set --
  while read -r line; do
    case $line in
      'put '?* | 'kept '?* | 'data '?*) printf '%s\n' "$line" ;;
    esac
    case $line in
      'data model:'*)
        path=${line#data model:}
        set -- "$@" "$path" "$path.part" "$path.wrong"
        ;;
    esac
  done </var/lib/paddock/manifest
  if [ $# != 0 ]; then
    section data
    stat --printf '%n\t%s\t%d:%i\t%h\n' -- "$@" 2>/dev/null
  fi
}
