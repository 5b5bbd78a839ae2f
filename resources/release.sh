# Builds of llama.cpp.
#
# shellcheck disable=SC2154 # $stage and $tab are set where this is sourced: see base.sh

# What each directory was built as, or which of its files is missing.
probe_release() {
  section release
  for path in $(releases); do
    [ -f "$path/.paddock-release" ] && [ -f "$path/MANIFEST" ] || continue
    read -r print <"$path/.paddock-release"
    # shellcheck disable=SC2013 # by line: IFS is a line break
    for file in $(cut -c 67- "$path/MANIFEST"); do
      [ -f "$path/$file" ] || print="$file is missing"
    done
    # The stamp came last. What has changed since is compared with what was built.
    changed=$(cd "$path" && find . -type f -newercc .paddock-release -printf '%P\n' | awk '
      FILENAME == "-" { since[$0]; next }
      "MANIFEST" in since || substr($0, 67) in since' - MANIFEST | sha256sum --check --quiet 2>/dev/null | head -n 1)
    [ -z "$changed" ] || print="${changed%: FAILED*} was changed"
    if deep && ! (cd "$path" && sha256sum --check --status --strict MANIFEST) 2>/dev/null; then
      print="a file is not as it was built"
    fi
    echo "$path$tab$print$tab$(sha256sum <"$path/MANIFEST" | cut -c 1-64)"
  done
  section lying
  for place in $(release_places); do
    runs=$(find /proc -maxdepth 2 -name exe -lname "$place/*" -printf '%l/\n' 2>/dev/null)
    # shellcheck disable=SC2044 # by line: IFS is a line break
    for path in $(find "$place" -mindepth 1 -maxdepth 1 -type d ! -name '*.paddock' 2>/dev/null); do
      case $runs in
        *"$path/"*) used=used ;;
        *) used=idle ;;
      esac
      made=$(stat -c %Y "$path/.paddock-release" 2>/dev/null || echo 0)
      echo "$path$tab$(du -sk "$path" | cut -f 1)$tab$made$tab$used"
    done
  done
}

# PLACE: the directory in which releases lie
put_releases() {
  at "releases:$1"
  [ ! -L "$1" ] || fail "$1 is a symbolic link to $(readlink "$1"): remove it"
  install -d -m 755 "$1"
}

# PLACE NAME…: releases that are not kept, unless one serves by now, or a process runs it
releases_leave() {
  at "releases:$1"
  place=$1
  shift
  for name; do
    case $(readlink "${place%/*}/current") in
      "$place/$name") continue ;;
    esac
    [ -z "$(find /proc -maxdepth 2 -name exe -lname "$place/$name/*" -print 2>/dev/null)" ] || continue
    rm -rf "${place:?}/${name:?}"
  done
}

# PLACE
gone_releases() {
  at "releases:$1"
  [ ! -d "$1" ] || rmdir --ignore-fail-on-non-empty "$1"
}

# CURRENT PATH: it serves from now on
put_release() {
  at "release:$1"
  ln -sfnT "$2" "$1.paddock"
  mv -fT "$1.paddock" "$1"
}

# CURRENT PATH FINGERPRINT PACKED MANIFEST GATE TRIAL: packed only where it does not lie here yet, with the sha256 that
# its list of files is to have. What serves goes on; this one has passed its gate
bring_release() {
  at "release:$1"
  if [ -n "$4" ]; then
    release_unpack "$2" "$3" "$4" "$5"
  fi
  [ -n "$7" ] || fail "has not passed its gate: \`paddock up\` sees to that"
  said=$(sh "$stage/$6" "$2" "$stage/$7" 2>&1 </dev/null 9>&-) || {
    printf '%s\n' "$said" | sed '$d' >&2
    fail "does not pass its gate, so the one before serves on: $(printf '%s\n' "$said" | tail -n 1 |
      sed 's/^the gate refuses it: //')"
  }
}

# CURRENT PATH GATE TRIAL: what serves is asked whether it takes what its services are to read
try_flags() {
  at "release:$1"
  said=$(sh "$stage/$3" "$2" "$stage/$4" 2>&1 </dev/null 9>&-) || {
    printf '%s\n' "$said" | sed '$d' >&2
    fail "does not take what is declared, so it serves on as it was: $(printf '%s\n' "$said" | tail -n 1 |
      sed 's/^the gate refuses it: //')"
  }
}

# PATH FINGERPRINT PACKED MANIFEST
release_unpack() {
  new=$1.paddock
  rm -rf "$new"
  mkdir "$new"
  said=$(tar -xzf "$stage/$3" -C "$new" --strip-components=1 --no-same-owner --no-same-permissions 2>&1) ||
    fail "$(printf '%s\n' "$said" | head -n 1)"
  [ "$(sha256sum <"$new/MANIFEST" | cut -c 1-64)" = "$(cat "$stage/$4")" ] ||
    fail "is not what the fleet's key has signed: its list of files was changed, so the one before serves on"
  said=$(cd "$new" && sha256sum --check --quiet MANIFEST 2>&1) ||
    fail "came damaged: $(printf '%s\n' "$said" | head -n 1)"
  built=$(cat "$new/.paddock-release")
  [ "$built" = "$2" ] || fail "what came was built as $built, not as $2"
  rm "$stage/$3"
  chmod -R u=rwX,go=rX "$new"
  touch "$new/.paddock-release"
  sync -f "$new"
  rm -rf "$1"
  mv -T "$new" "$1"
}

# CURRENT DIRECTORY NAME=VERSION…: the packages that a release is made of, as this host's apt has them. They are not
# installed
release_packages() {
  at "release:$1"
  packages=$2
  shift 2
  # an earlier run had them, and the machine did not lose its power before they were on the disk
  ! (cd "$packages" && sha256sum --check --strict --quiet SHA256SUMS) >/dev/null 2>&1 || return 0
  rm -rf "${packages%/*}"
  install -d -m 755 "${packages%/*/*}" "${packages%/*}" "$packages.apt" "$packages.new"
  chown _apt: "$packages.apt"
  cd "$packages.apt" || return
  export APT_CONFIG=/run/paddock/apt.conf
  said=$(apt-get -q download "$@" 2>&1 </dev/null 9>&-) || {
    said=$(apt-get -q update 2>&1 </dev/null 9>&-) || release_unfetched "and apt's lists could not be renewed"
    said=$(apt-get -q download "$@" 2>&1 </dev/null 9>&-) || {
      for each; do
        release_offered "${each%%=*}" "${each#*=}"
      done
      release_unfetched "though apt's lists have them"
    }
  }
  # What apt has checked was its own account's until now: the copies are root's, and are what apt's lists say.
  for each; do
    cp -- "${each%%=*}"_*.deb "$packages.new/"
    wanted=$(apt-cache show "$each" | sed -n 's/^SHA256: //p' | head -n 1)
    [ "$(cat "$packages.new/${each%%=*}"_*.deb | sha256sum | cut -c 1-64)" = "$wanted" ] ||
      fail "the package ${each%%=*} is not what apt's lists say"
  done
  cd "$packages.new" || return
  sha256sum -- *.deb >SHA256SUMS
  chmod 644 -- *
  sync -f .
  cd /
  mv -T "$packages.new" "$packages"
  rm -rf "$packages.apt"
}

# WORDS: of packages that did not come
release_unfetched() {
  printf '%s\n' "$said" | tail -n 8 >&2
  fail "its packages could not be downloaded, $1: $(printf '%s\n' "$said" | grep -m 1 '^E: ' | cut -c 4-)"
}

# NAME VERSION: fails where this host's apt does not have it
release_offered() {
  has=$(apt-cache madison "$1" | awk -F ' *[|] *' '{ print $2 }' | sort -uV | paste -s -d ' ')
  case " $has " in
    "  ")
      fail "this host's apt has no package $1, Debian's unstable and testing suites have it: \
give the host another source, or \`paddock artifacts import\` the release"
      ;;
    *" $2 "*) ;;
    *)
      fail "this host's apt has $1 $has, and the inventory says $2: \
write what there is into roles.llama_cpp.source, or \`paddock artifacts import\` the release"
      ;;
  esac
}

# PATH SUITE PACKAGE…: a tree of another release of Debian, to compile in
release_root() {
  at "root:$1"
  root=$1
  suite=$2
  shift 2
  made=$(printf '%s\n' "$suite" "$@" | sha256sum | cut -c 1-16)
  [ "$(cat "$root/.paddock-root" 2>/dev/null)" != "$made" ] || return 0
  # shellcheck disable=SC2016 # apt fills it in
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 -E '/debian/?$') ||
    fail "this host's sources name no mirror of Debian"
  include=$(printf '%s,' "$@")
  set --
  apt-config dump |
    grep -E '^Acquire::(https?::Proxy|Check-Valid-Until|Check-Date|ForceIPv[46]|Retries)' >"$stage/apt" || true
  while read -r option; do
    set -- "$@" "--aptopt=$option"
  done <"$stage/apt"
  rm -rf "$root" "$root.paddock"
  mkdir -p "$root.paddock"
  said=$(mmdebstrap --quiet --mode=root --variant=minbase --components=main,contrib,non-free "$@" \
    --include="${include%,}" "$suite" "$root.paddock" "$mirror" 2>&1 </dev/null 9>&-) || {
    printf '%s\n' "$said" | tail -n 8 >&2
    fail "could not be made from $mirror"
  }
  echo "$made" >"$root.paddock/.paddock-root"
  mv -T "$root.paddock" "$root"
}

# CURRENT: with every release beside it, and what builds have left
gone_release() {
  at "release:$1"
  systemctl stop --quiet 'paddock-build-*' 2>/dev/null || true
  rm -rf -- "$1" "${1%/*}/releases" /var/lib/paddock/build /var/cache/paddock/packages
}
