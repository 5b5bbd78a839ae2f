# Directories, files and links.
#
# shellcheck disable=SC2154 # $stage and $tab are set where this is sourced: see base.sh

# What lies at the paths; of files the digest, and the text where it is not as declared and no secret; what
# directories hold that are Paddock's alone.
probe_disk() {
  # shellcheck disable=SC2046 # a line a value: IFS is a line break
  set -- $(paths)
  if [ $# != 0 ]; then
    section stat
    find "$@" -maxdepth 0 -printf '%p\t%y\t%u\t%g\t%m\t%s\t%C@\t' \
      \( -lname "*$IFS*" -printf '(a target of several lines)\n' -o -printf '%l\n' \) 2>/dev/null
  fi
  set --
  for path in $(files); do
    [ ! -f "$path" ] || [ -L "$path" ] || set -- "$@" "$path"
  done
  if [ $# != 0 ]; then
    section sha256
    sums=$(sha256sum -- "$@")
    printf '%s\n' "$sums"
    section text
    set --
    for line in $(known); do
      set -- "$@" -e "$line"
    done
    for line in $(printf '%s\n' "$sums" | grep -vF "$@"); do
      path=${line#*  }
      [ "$(stat -c %s "$path")" -gt 65536 ] || printf '%s\t%s\n' "$path" "$(base64 -w0 "$path")"
    done
  fi
  # shellcheck disable=SC2046 # a line a value: IFS is a line break
  set -- $(exclusive)
  if [ $# != 0 ]; then
    section inside
    find "$@" -mindepth 1 -maxdepth 1 ! -name "*$IFS*" -printf '%h\t%f\n' 2>/dev/null
  fi
}

# PATH OWNER GROUP MODE
put_directory() {
  at "directory:$1"
  [ ! -L "$1" ] ||
    fail "$1 is a symbolic link to $(readlink "$1"): remove it, or declare the directory that it leads to"
  [ ! -e "$1" ] || [ -d "$1" ] || fail "$1 is there and is no directory"
  [ -d "$1" ] || mkdir -m 700 -- "$1"
  chown "$2:$3" "$1"
  chmod "$4" "$1"
}

# PATH: what lies in a directory that is Paddock's alone is put aside
put_aside() {
  at "file:$1"
  [ -e "$1" ] || [ -L "$1" ] || return 0
  aside=/var/lib/paddock/backup$1
  mkdir -p "${aside%/*}"
  rm -rf "$aside"
  mv -T "$1" "$aside"
}

# ORIGIN STAGED PATH
put_file() {
  at "file:$3"
  [ "$1" != kept ] || backup "$3"
  into_place "$stage/$2" "$3"
}

# ORIGIN PATH TARGET
put_link() {
  at "link:$2"
  [ "$1" != kept ] || backup "$2"
  [ ! -d "$2" ] || [ -L "$2" ] || fail "a directory stands where the link is to be: $2"
  ln -sfnT "$3" "$2.paddock"
  mv -fT "$2.paddock" "$2"
}

# The directories of data that have left
data_gone=

# ORIGIN PATH: data goes whole, but where somebody has mounted something of his own; what a package has made goes with
# the package, which has a server to stop first
gone_directory() {
  at "directory:$2"
  if [ "$1" != data ]; then
    [ ! -d "$2" ] || rmdir --ignore-fail-on-non-empty "$2"
    return 0
  fi
  data_gone="$data_gone $2 "
  packages_past "$2" || return 0
  if ! dpkg -S "$2" >/dev/null 2>&1 &&
    awk -v at="$2/" 'index($5 "/", at) == 1 { exit 1 }' /proc/self/mountinfo; then
    rm -rf --one-file-system -- "$2"
  fi
}

# ORIGIN PATH
gone_file() {
  at "file:$2"
  restore "$1" "$2"
  case "$1 $2" in # who is not logged in has no services any more, and their manager ends
    "put /var/lib/systemd/linger/"*) loginctl disable-linger "${2##*/}" 2>/dev/null || true ;;
  esac
}

# ORIGIN PATH
gone_link() {
  at "link:$2"
  restore "$1" "$2"
}
