# Model files. One comes as PATH.part, is checked, noted in PATH.sha256 (digest, size, time, inode), and only then
# renamed to what it is called. What lies on the host already is not fetched: the path becomes another name of that
# file, a hard link.
#
# shellcheck disable=SC2154 # $stage and $tab are set where this is sourced: see base.sh

# The digest of each model. It is read once, and noted: beside the file only where it is Paddock's, for another's
# could say anything. And the digests of what the manifest names, as they are noted.
probe_model() {
  section model
  for path in $(models); do
    [ -f "$path" ] || continue
    now=$(stat -c '%s %Y %i' "$path")
    recorded=
    ours=
    # shellcheck disable=SC3067 # dash and bash have -O: it is the owner's
    if [ -O "$path.sha256" ]; then
      note=$path.sha256
    else
      note=/var/lib/paddock/digests/$(printf %s "$path" | sha256sum | cut -c -32)
      ours=1
    fi
    [ ! -f "$note" ] || read -r recorded <"$note"
    if [ "${recorded#* }" = "$now" ] && ! deep; then
      echo "$path$tab${recorded%% *}"
      continue
    fi
    sum=$(sha256sum <"$path")
    echo "$path$tab${sum%% *}"
    # What was noted while it was whole is no proof any more.
    [ -n "$ours" ] || [ "${recorded%% *}" = "${sum%% *}" ] || model_forget "$path"
    if [ -n "$ours" ] && [ -d /var/lib/paddock ]; then
      { mkdir -p "${note%/*}" && echo "${sum%% *} $now" >"$note.$$" && mv -f "$note.$$" "$note"; } 2>/dev/null
    fi
  done
  section held
  model_files | while read -r path; do
    sum=$(model_noted "$path")
    [ -z "$sum" ] || echo "$path$tab$sum"
  done
}

# Prints the paths of the models that Paddock keeps on this host, one a line
model_files() {
  sed -n 's/^data model://p' /var/lib/paddock/manifest 2>/dev/null || true
}

# PATH: prints its digest, as it was noted when it was whole; nothing where the file has changed since, or the note is
# not root's
model_noted() {
  # shellcheck disable=SC3067 # dash and bash have -O
  if [ -f "$1" ] && [ ! -L "$1" ] && [ -O "$1.sha256" ] && read -r noted <"$1.sha256"; then
    [ "${noted#* }" != "$(stat -c '%s %Y %i' "$1")" ] || echo "${noted%% *}"
  fi
}

# PATH: forgets what was noted of a file, under all of its names
model_forget() {
  rm -f "$1.sha256"
  model_files | while read -r other; do
    [ ! "$other" -ef "$1" ] || rm -f "$other.sha256"
  done
}

# SHA256: sets $held to a file of Paddock's on this host that is this; to nothing where there is none
model_held() {
  held=$(model_files | while read -r other; do
    [ "$(model_noted "$other")" != "$1" ] || {
      echo "$other"
      break
    }
  done)
}

# HELD PATH: makes PATH a name of the file that lies at HELD; a copy on a file system that has no hard links, or another
model_linked() {
  chown root:root "$1"
  chmod 644 "$1"
  if [ ! "$1" -ef "$2" ]; then
    near=${2%/*}/.paddock-${2##*/}
    rm -rf "$near"
    if ! ln "$1" "$near" 2>/dev/null; then
      cp --reflink=auto "$1" "$near" || {
        rm -f "$near"
        exit 1
      }
      chmod 644 "$near"
      sync "$near"
    fi
    model_note "$(model_noted "$1")" "$near" "$2"
    into_place "$near" "$2"
  elif [ "$1" != "$2" ]; then
    cat "$1.sha256" >"$2.sha256"
  fi
  rm -f "$2.part"
}

# SHA256 NEAR PATH: notes what NEAR is, for PATH, whose name it is to get
model_note() {
  echo "$1 $(stat -c '%s %Y %i' "$2")" >"$3.sha256"
}

# PATH SIZE SHA256…: whether there is room for all models that are to come, before the first byte of any does
model_room() {
  for device in $(model_to_come "$@" | cut -d' ' -f1 | sort -u); do
    need=0
    while read -r on directory bytes; do
      if [ "$on" = "$device" ]; then
        need=$((need + bytes))
        here=$directory
      fi
    done <<END
$(model_to_come "$@")
END
    at "directory:$here"
    free=$(df -B1 --output=avail "$here" | tail -n 1)
    [ "$need" -le "$free" ] || fail "$(in_words "$need") of models are to come, and $(in_words "$free") are free:\
 make room, name another directory (roles.models.directory), or see what \`paddock models prune\` would take away"
  done
}

# PATH SIZE SHA256…: of each that the host lacks the file system that it comes to, a directory there, and the bytes
model_to_come() {
  while [ $# -gt 2 ]; do
    near=${1%/*}
    until [ -d "${near:-/}" ]; do
      near=${near%/*}
    done
    model_held "$3"
    [ -n "$held" ] || echo "$(stat -c %d "${near:-/}") ${near:-/} $(($2 - $(size_of "$1.part")))"
    shift 3
  done
}

# FILE: its bytes, 0 where there is none
size_of() {
  stat -c %s -- "$1" 2>/dev/null || echo 0
}

# BYTES
in_words() {
  if [ "$1" -lt 1073741824 ]; then
    echo "$((($1 + 1048575) / 1048576)) MiB"
  else
    echo "$(($1 / 1073741824)).$(($1 % 1073741824 * 10 / 1073741824)) GiB"
  fi
}

MODEL_PAGE="sends a web page, not a file: is the address right, and does it want a login?"

# ASKED FILE SIZE: from where it ended, again and again as long as something comes, and no more than its size where that
# is known (not 0). Sets $kind to what kind it is, $why where it fails
model_download() {
  tries=4
  while :; do
    had=$(size_of "$2")
    rc=0
    said=$(
      [ "$3" = 0 ] || {
        trap '' XFSZ
        ulimit -f $(($3 / 512 + 1)) # blocks of 512 bytes
      }
      curl -fsSLg --connect-timeout 20 --speed-limit 1000 --speed-time 60 -C - -o "$2" \
        -w '%{http_code} %{content_type}' -K "$1" 2>"$stage/curl" 9>&-
    ) || rc=$?
    code=${said%% *}
    kind=${said#* }
    why=$(tail -n 1 "$stage/curl" | sed 's/^curl: ([0-9]*) //')
    if [ "$3" != 0 ] && [ "$(size_of "$2")" -gt "$3" ]; then
      why="sends more than the $(in_words "$3") that it is to have"
      rm -f -- "$2"
      return 1
    fi
    case $rc:$code in
      0:*) return 0 ;;
      22:416)
        # No more is to come: what curl before 8.0 takes for done only where the size is not told (curl#10521).
        [ "$had" = 0 ] || return 0
        return 1
        ;;
      22:40[13])
        why="answers $code: $(sed -n '2s/^# //p' "$1")"
        return 1
        ;;
      22:40[04] | 22:410)
        why="answers $code: there is no such file, or not for everybody: $(sed -n '2s/^# //p' "$1")"
        return 1
        ;;
      22:*) why="answers $code" ;;
      33:*) # it cannot go on in the middle
        case $kind in
          text/html*)
            why=$MODEL_PAGE
            return 1
            ;;
        esac
        rm -f -- "$2"
        continue
        ;;
      # No such URL, a full disk, going round in circles, a certificate: it will not be better in a second.
      3:* | 23:* | 47:* | 60:* | 77:*) return 1 ;;
    esac
    if [ "$(size_of "$2")" -gt "$had" ]; then
      tries=4
    else
      tries=$((tries - 1))
    fi
    if [ $tries -le 0 ]; then
      why="$why; what came is kept, the next run goes on from there"
      return 1
    fi
    sleep $((5 - tries))
  done
}

# FILE SHA256 SIZE ASKED…: from the first that has the right one; the last is where it comes from, those before are
# other hosts
model_fetched() {
  part=$1
  right=$2
  size=$3
  shift 3
  while :; do
    from=$(sed -n '1s/^# //p' "$stage/$1")
    why=
    kind=
    [ "$size" = 0 ] || [ "$(size_of "$part")" -le "$size" ] || rm -f -- "$part"
    if [ "$size" = 0 ] || [ "$(size_of "$part")" != "$size" ]; then
      model_download "$stage/$1" "$part" "$size" || why=${why:-failed}
    fi
    if [ -z "$why" ]; then
      sum=$(sha256sum <"$part")
      sum=${sum%% *}
      [ "$sum" != "$right" ] || return 0
      case $(head -c 4 "$part" | tr -d '\0'):$kind in
        GGUF:*) [ $# -gt 1 ] || return 0 ;; # it is put aside, to be looked at
        '<'* | *:text/html*) why=$MODEL_PAGE ;;
        *) [ $# -gt 1 ] || return 0 ;;
      esac
      rm -f -- "$part"
    fi
    [ $# -gt 1 ] || fail "could not be fetched from $from: $why"
    echo "$from: ${why:-its sha256 is $sum}" >&2
    shift
  done
}

# PATH OFFSET STAGED: a piece of a model that lies on the control machine
model_append() {
  at "model:$1"
  dd if="$stage/$3" of="$1.part" bs=1M oflag=seek_bytes seek="$2" conv=notrunc status=none
}

# PATH SHA256 SIZE HOW [STAGED…]: HOW is `host`, `held`, `staged`, `appended`, or `asked` with what curl is to ask,
# one after another
put_model() {
  at "model:$1"
  path=$1
  want=$2
  how=$4
  staged=$1.part
  if [ "$how" != host ]; then
    model_held "$want"
    if [ -n "$held" ]; then
      model_linked "$held" "$path"
      return 0
    fi
  fi
  case $how in
    host) fail "is to be on the host already, with this sha256: $want" ;;
    held) fail "the file that it is another name of was there, and is not any more: run it again" ;;
    staged) staged=$stage/$5 ;;
    asked)
      bytes=$3
      shift 4
      model_fetched "$staged" "$want" "$bytes" "$@"
      ;;
  esac
  sum=$(sha256sum <"$staged")
  sum=${sum%% *}
  if [ "$sum" != "$want" ]; then
    mv -f -- "$staged" "$path.wrong"
    fail "its sha256 is $sum, and is to be $want; what came is kept as $path.wrong"
  fi
  chown root:root "$staged"
  chmod 644 "$staged"
  beside "$staged" "$path"
  [ "$how" = staged ] || sync "$near"
  # Noted first: a model without its note would be read whole at each probe.
  model_note "$want" "$near" "$path"
  into_place "$near" "$path"
}

# PATH
gone_model() {
  at "model:$1"
  rm -f -- "$1" "$1.sha256" "$1.part"
}
