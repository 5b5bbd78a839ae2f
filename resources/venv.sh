# Python environments. Each is made where it stays, PATH/DIGEST, since its programs name that place; PATH/current says
# which one is used, and moves once the other is whole. Its stamp comes last, so that one without is no environment.
#
# shellcheck disable=SC2154 # $stage and $tab are set where this is sourced: see base.sh

# Of each what it was made of, whether for the host's Python, and the first of its files that is not as it was then.
probe_venv() {
  section venv
  for path in $(venvs); do
    stamp=$path/current/.paddock-venv
    [ -f "$stamp" ] || continue
    {
      read -r wheels
      read -r made_for
    } <"$stamp"
    venv_python || there=none
    python="host's"
    [ "$made_for" = "$there" ] || python="$made_for, and the host has $there"
    files=$(cd "$path/current/" && venv_changed) || files="cannot be read"
    echo "$path$tab$wheels$tab$python$tab${files:-intact}"
  done
}

# Sets $there to the version of the host's Python, `3.13`: what decides which compiled packages it takes
venv_python() {
  there=$(/usr/bin/python3 -I -S -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
}

# Prints what lies in this directory, a line each: path, type, mode, owner and where a link leads
venv_listed() {
  find . ! -path './.paddock-*' -printf '%P\t%y %m %U:%G %l\n' | LC_ALL=C sort
}

# Prints the first file of the environment in this directory that is not as it was made; nothing where all are
venv_changed() {
  changed=$(venv_listed | awk -F '\t' '
    NR == FNR { was[$1] = $2; next }
    !($1 in was) { said = $1 " was added"; exit }
    was[$1] != $2 { said = $1 " has another owner, mode or target"; exit }
    { delete was[$1] }
    END {
      if (!said) for (each in was) said = each " is missing"
      if (said) print said
    }' .paddock-files -)
  if [ -z "$changed" ]; then
    changed=$(find . -type f -newercc .paddock-venv -printf './%P\n' | awk '
      FILENAME == "-" { since[$0]; next }
      substr($0, 67) in since' - .paddock-sums | sha256sum --check --quiet 2>/dev/null | head -n 1)
    changed=${changed#./}
    [ -z "$changed" ] || changed="${changed%: FAILED*} was changed"
  fi
  if [ -z "$changed" ] && deep && ! sha256sum --check --status --strict .paddock-sums 2>/dev/null; then
    changed="a file is not as it was installed"
  fi
  echo "$changed"
}

# PATH DIGEST STAGED NAME SHA256…: DIGEST is of the wheels, which follow. What is used goes on until the new one is
# whole, also where that is of the same wheels
put_venv() {
  at "venv:$1"
  path=$1
  digest=$2
  shift 2
  venv_python || fail "there is no /usr/bin/python3 here that runs: it comes with the package python3-venv"
  new=$path/$(printf '%s %s' "$digest" "$there" | sha256sum | cut -c 1-16)
  before=$(readlink "$path/current" 2>/dev/null) || before=
  [ "$before" != "${new##*/}" ] || new=$new.again
  install -d -m 755 "$path"
  rm -rf "$new"
  mkdir "$stage/wheels"
  while [ $# -gt 2 ]; do
    mv "$stage/$1" "$stage/wheels/$2"
    echo "$stage/wheels/$2 --hash=sha256:$3" >>"$stage/wheels/all"
    shift 3
  done
  said=$(umask 022 && venv_made "$new" "$stage/wheels/all" 2>&1 </dev/null 9>&-) || {
    rm -rf "$new"
    printf '%s\n' "$said" | tail -n 8 >&2
    fail "could not be made, so the one before stays: $(printf '%s\n' "$said" |
      grep -m 1 -i -E 'error|not available|no space' || printf '%s\n' "$said" | tail -n 1)"
  }
  chmod -R u=rwX,go=rX "$new"
  (
    umask 022
    cd "$new" || exit
    venv_listed >.paddock-files
    find . ! -path './.paddock-*' -type f -exec sha256sum {} + >.paddock-sums
    printf '%s\n%s\n' "$digest" "$there" >.paddock-venv
  )
  rm -rf "$stage/wheels"
  sync -f "$new"
  ln -sfn "${new##*/}" "$path/current.paddock"
  mv -fT "$path/current.paddock" "$path/current"
  find "$path" -mindepth 1 -maxdepth 1 ! -name current ! -name "${new##*/}" ! -name "${before:-current}" \
    -exec rm -rf {} +
}

# DIRECTORY REQUIREMENTS: nothing comes from elsewhere. pip runs from the wheel that Debian has for this purpose, so
# that it does not stay
venv_made() {
  for pip in /usr/share/python-wheels/pip-*.whl; do
    [ -f "$pip" ] || {
      echo "error: there is no $pip: the package python3-venv brings it"
      return 1
    }
  done
  export PIP_CONFIG_FILE=/dev/null
  /usr/bin/python3 -I -m venv --without-pip "$1" &&
    "$1/bin/python" -I "$pip/pip" --isolated install --quiet --no-input --disable-pip-version-check --no-cache-dir \
      --no-index --no-deps --require-hashes --only-binary :all: --requirement "$2"
}

# PATH
gone_venv() {
  at "venv:$1"
  rm -rf -- "$1"
  rmdir --ignore-fail-on-non-empty "${1%/*}" 2>/dev/null || true
}
