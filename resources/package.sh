# Packages of the distribution, and package files that are newer.
#
# shellcheck disable=SC2154 # $stage and $tab are set where this is sourced: see base.sh

# What dpkg says of the packages. A file in its journal says that one died, or is still at work for a run that died.
probe_package() {
  # shellcheck disable=SC2046 # a line a value: IFS is a line break
  set -- $(packages)
  [ $# != 0 ] || return 0
  section rest
  set +f
  for file in /var/lib/dpkg/updates/[0-9]*; do
    [ ! -f "$file" ] || echo "$file"
  done
  set -f
  section package
  dpkg-query -W -f '${Package}\t${db:Status-Abbrev}\t${Version}\n' "$@" 2>/dev/null
}

# CONFIGURATION: once nobody else is at work with apt, makes whole what a run that died left half installed
package_ready() {
  said=
  export DEBIAN_FRONTEND=noninteractive
  printf '%s\n' 'APT::Update::Error-Mode "any";' 'DPkg::Lock::Timeout "300";' 'Dpkg::Use-Pty "false";' >"$1"
  chmod 644 "$1"
  for _ in $(seq 600); do
    pgrep -x 'apt-get|dpkg' >/dev/null || break
    sleep 0.5
  done
  ! apt-get -qq -o DPkg::Lock::Timeout=300 check >/dev/null 2>&1 9>&- || return 0
  # What needs a package that was still to come fails here, and is next.
  dpkg --force-confold --configure -a >/dev/null 2>&1 </dev/null 9>&- || true
  said=$(apt-get -y -q -f --no-install-recommends -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=300 \
    install 2>&1 </dev/null 9>&-) || {
    printf '%s\n' "$said" | grep -E '^([EW]|dpkg): |^ [a-z]' | tail -n 15 >&2
    exit 1
  }
}

package_files=/var/lib/paddock/packages

# NAME STAGED VERSION: a newer package than the distribution's, or that version of the distribution's; what it needs may
# be in lists that apt has not fetched yet. A file stays: what comes next may have to be taken back
put_package() {
  at "package:$1"
  what=$1=$3
  if [ -n "$2" ]; then
    mkdir -p "$package_files"
    mv -T "$stage/$2" "$package_files/$1.deb.new"
    what=$stage/$1.deb
    ln -sfn "$package_files/$1.deb.new" "$what"
  fi
  said=$(package_file "$what") || {
    said=$(apt-get update -q 2>&1 </dev/null 9>&- && package_file "$what")
  } || {
    rm -f "$package_files/$1.deb.new"
    printf '%s\n' "$said" | tail -n 8 >&2
    fail "could not be installed"
  }
  rm -f "$package_files/$1.deb"
  [ -z "$2" ] || mv -T "$package_files/$1.deb.new" "$package_files/$1.deb"
  rmdir "$package_files" 2>/dev/null || true
}

# NAME STAGED VERSION COMMAND STAGED GROUP PATH…: its gate, with its files and those that are to land
package_try() {
  at "package:$1"
  rm -rf /var/lib/paddock/try.*
  trial=$(mktemp -d /var/lib/paddock/try.XXXXXX)
  (package_tried "$@") || {
    rm -rf "$trial"
    exit 1
  }
  rm -rf "$trial"
}

# As package_try, in $trial, which a subshell leaves in any case
package_tried() {
  name=$1
  if [ -n "$2" ]; then
    file=$stage/$2
  else
    file=$(package_fetched "$name" "$3" "$trial") || fail "the version $3 cannot be had: $file"
  fi
  command=$4
  shift 4
  chmod 755 "$trial"
  (umask 022 && mkdir "$trial/files")
  dpkg-deb -x "$file" "$trial/program"
  while [ $# -gt 2 ]; do
    (umask 022 && mkdir -p "$trial/files${3%/*}")
    mv -T "$stage/$1" "$trial/files$3"
    chgrp "$2" "$trial/files$3"
    shift 3
  done
  said=$(sh -euc "$command" gate "$trial/program" "$trial/files" 2>&1 </dev/null 9>&-) ||
    fail "its gate refuses it, so nothing was changed: $(printf '%s\n' "$said" | grep . | tail -n 1)"
}

# NAME VERSION DIRECTORY: prints the file of that version in the directory, or why there is none
package_fetched() {
  (
    cd "$3" || exit
    told=$(apt-get download -q "$1=$2" 2>&1 </dev/null 9>&-) ||
      told=$(apt-get update -q 2>&1 </dev/null 9>&- && apt-get download -q "$1=$2" 2>&1 </dev/null 9>&-) || {
      printf '%s\n' "$told" | tail -n 1
      exit 1
    }
    ls "$3/$1"_*.deb
  )
}

# NAME DIRECTORY: the file of the version that is installed, so that it can be put back; none where none is
package_keep() {
  has=$(dpkg-query -W -f '${db:Status-Status} ${Version}' "$1" 2>/dev/null) || return 0
  [ "${has%% *}" = installed ] || return 0
  mkdir -p "$2"
  if [ "$(dpkg-deb -f "$package_files/$1.deb" Version 2>/dev/null)" = "${has#* }" ]; then
    cp "$package_files/$1.deb" "$2/$1.deb"
  else
    mkdir -p "$2/new"
    file=$(package_fetched "$1" "${has#* }" "$2/new") || {
      echo "the package $1 ${has#* } could not be put back, since apt does not have it any more: $file" >&2
      return 1
    }
    mv -T "$file" "$2/$1.deb"
    rmdir "$2/new"
  fi
}

# FILE: whether that version of the package is installed
package_is() {
  name=${1##*/}
  [ "$(dpkg-query -W -f '${Version}' "${name%.deb}" 2>/dev/null)" = "$(dpkg-deb -f "$1" Version)" ]
}

# FILE, or NAME=VERSION
package_file() {
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends --allow-downgrades \
    -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=300 "$1" 2>&1 </dev/null 9>&-
}

# NAME: whether somebody has changed a file of its configuration, and so uses it
package_configured() {
  dpkg --verify "$1" 2>/dev/null | grep -q '^..5.* c '
}

# NAME…: with what came along for them. What something else needs stays, and so does what nothing needed before
# Paddock came, and what somebody has configured since
gone_package() {
  at "package:$1"
  noted=/var/lib/paddock/orphans
  package_ready /run/paddock/apt.conf
  if [ ! -e "$noted" ]; then
    package_orphans >"$noted.new"
    mv "$noted.new" "$noted"
  fi
  for name; do
    rm -f "$package_files/$name.deb"
    case $(dpkg-query -W -f '${db:Status-Abbrev}' "$name" 2>/dev/null) in
      ?i*) package_configured "$name" || apt-mark -qq auto "$name" >/dev/null ;;
      ?c*) dpkg --purge "$name" >/dev/null 2>&1 9>&- ;;
    esac
  done
  # What is to go is noted first: apt forgets why a package is there before the package has gone.
  {
    package_orphans | grep -vxF -f "$noted" || true
    [ ! -e "$noted.going" ] || cat "$noted.going"
  } | sort -u >"$noted.new"
  mv "$noted.new" "$noted.going"
  # shellcheck disable=SC2046,SC2016 # a word a package; dpkg-query fills the format in
  set -- $(xargs -r dpkg-query -W -f '${db:Status-Abbrev}\t${Package}\n' <"$noted.going" 2>/dev/null |
    sed -n 's/^.[^n].*\t//p')
  packages_leave "$@"
  rm "$noted" "$noted.going"
  rmdir "$package_files" 2>/dev/null || true
}

# NAME…: with their configuration. PostgreSQL's own script takes that for a word to delete all databases
# (debian/postgresql-NN.postrm: it sets the question of debconf for that to yes): so only where data leaves too, and
# nobody else has any there
packages_leave() {
  keeping=yes leaving=
  case $data_gone in
    *" /var/lib/postgresql "*) keeping=$(databases_of_others) ;;
  esac
  for name; do
    shift
    case $name in
      postgresql-[0-9]* | postgresql-common*) leaving="$leaving $name" ;;
      *) set -- "$@" "$name" ;;
    esac
  done
  # shellcheck disable=SC2086 # a word each
  if [ -n "$leaving" ] && [ -z "$keeping" ]; then
    packages_off purge $leaving
    postgres_past
  elif [ -n "$leaving" ]; then
    packages_off remove $leaving
  fi
  [ $# = 0 ] || packages_off purge "$@"
}

# DIRECTORY: purges what was removed and not purged for the sake of the databases in it. Fails where more lie there than
# a cluster's own three and the gateway's
packages_past() {
  [ "$1" = /var/lib/postgresql ] || return 0
  # shellcheck disable=SC2046,SC2016 # a word a package; dpkg-query fills the format in
  set -- $(dpkg-query -W -f '${db:Status-Abbrev}\t${Package}\n' 'postgresql*' 2>/dev/null | sed -n 's/^.c.*\t//p')
  [ $# != 0 ] || return 0
  [ "$(find /var/lib/postgresql -mindepth 4 -maxdepth 4 -path '*/base/[0-9]*' | wc -l)" -le 4 ] || return 1
  dpkg --purge "$@" >/dev/null 2>&1 9>&- || return 1
  postgres_past
}

# What its packages leave to whoever asks for it
postgres_past() {
  rm -rf /var/log/postgresql
  ! getent passwd postgres >/dev/null || userdel postgres
}

# The databases in PostgreSQL that are not Paddock's, a line each; what nobody can tell counts as one
databases_of_others() {
  if [ "$(pg_lsclusters -h 2>/dev/null | wc -l)" = 1 ]; then
    (cd / && runuser -u postgres -- psql -XAtq -d postgres) 2>/dev/null <<'end' || echo '?'
SELECT datname FROM pg_database
WHERE datname NOT IN ('postgres', 'template0', 'template1') AND datname NOT LIKE 'paddock\_%'
end
  else
    echo '?'
  fi
}

# HOW NAME…
packages_off() {
  DEBIAN_FRONTEND=noninteractive apt-get "$@" -y -q -o DPkg::Lock::Timeout=120 >/dev/null 9>&-
}

# The packages that nothing needs and nobody asked for; a recommendation or a suggestion is no need, and a package that
# apt is told never to take away by itself, as PostgreSQL's say of themselves, is no other
package_orphans() {
  echo '#clear APT::NeverAutoRemove;' >/run/paddock/orphans.conf
  apt-get -s -c /run/paddock/orphans.conf -o APT::AutoRemove::RecommendsImportant=false \
    -o APT::AutoRemove::SuggestsImportant=false autoremove | sed -nE 's/^(Remv|Purg) ([^ ]*).*/\2/p'
}
