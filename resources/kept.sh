# What a running service reads is kept while something else lands, and put back where it does not run with that.

# What the service at work was asked for: `restart`
acted=

# SERVICE: where what it reads is kept while something else lands
service_kept() {
  echo "/var/lib/paddock/kept/$(printf '%s' "$1" | tr / -)"
}

# SERVICE WHAT…: keeps what a running service reads as it is, paths and lines (the path, a tab, the text), until it runs
# with what lands next. What was kept by a run that was ended is older, and stays, unless it runs with what landed then
service_keep() {
  at "service:$1"
  kept=$(service_kept "$1")
  tab=$(printf '\t')
  ! service_past "$1" || rm -rf "$kept"
  [ ! -d "$kept" ] || return 0
  service_manager "$1" is-active --quiet || return 0
  rm -rf "$kept.new"
  (umask 077 && mkdir -p "$kept.new/files")
  shift
  for each; do
    case $each in
      *"$tab"*)
        grep -qxF -e "${each#*"$tab"}" "${each%%"$tab"*}" 2>/dev/null || printf '%s\n' "$each" >>"$kept.new/lines"
        ;;
      *)
        printf '%s\n' "$each" >>"$kept.new/paths"
        { [ ! -e "$each" ] && [ ! -L "$each" ]; } || (cd / && cp -a --parents -- "${each#/}" "$kept.new/files")
        ;;
    esac
  done
  mv -T "$kept.new" "$kept"
}

# SERVICE NOTE BEFORE AFTER: of what is kept for it, how more than files is taken back, until it answers
service_keep_undo() {
  kept=$(service_kept "$1")
  { [ ! -d "$kept" ] || [ -e "$kept/after" ]; } || undo_keep "$kept" "$2" "$3" "$4"
}

# DIRECTORY NOTE BEFORE AFTER: `after` comes last, so that a directory without it has none of it
undo_keep() {
  sh -c "$2" >"$1/noted" 2>/dev/null </dev/null 9>&- || true
  printf '%s\n' "$3" >"$1/before" && printf '%s\n' "$4" >"$1/after.new" && mv "$1/after.new" "$1/after"
}

# DIRECTORY WHEN: its `before` or its `after`, once
undo_once() {
  [ -e "$1/$2" ] && [ ! -e "$1/$2.done" ] || return 0
  sh -eu "$1/$2" "$1" </dev/null >&2 9>&- || return 1
  : >"$1/$2.done"
}

# SERVICE: whether it was started or reloaded since something was kept: it lets in again nobody who has been thrown out
service_past() {
  [ -n "$(find "/run/paddock/$1".* -maxdepth 0 -newer "$(service_kept "$1")" 2>/dev/null)" ]
}

# SERVICE: what it reads is as it was kept, and it runs with that
service_back() {
  kept=$(service_kept "$1")
  tab=$(printf '\t')
  undo_once "$kept" before || return 1
  while IFS= read -r path; do
    service_back_path "$path" || return 1
  done <"$kept/paths"
  [ ! -e "$kept/lines" ] || while IFS= read -r line; do
    ! grep -qxF -e "${line#*"$tab"}" "${line%%"$tab"*}" || (gone_line "${line%%"$tab"*}" "${line#*"$tab"}") || return 1
  done <"$kept/lines"
  systemctl daemon-reload
  undo_once "$kept" after || return 1
  service_unkept "$1"
  if service_manager "$1" is-active --quiet; then
    case $acted in
      '') return 0 ;;
      reload) ! service_manager "$1" reload || return 0 ;;
    esac
  fi
  service_manager "$1" reset-failed || true
  service_manager "$1" restart
}

# PATH: where no copy comes to be, on a full disk say, what is there stays
service_back_path() {
  near=${1%/*}/.paddock-${1##*/}
  if [ ! -e "$kept/files$1" ] && [ ! -L "$kept/files$1" ]; then
    rm -rf "$1"
  elif ! diff -rq --no-dereference "$kept/files$1" "$1" >/dev/null 2>&1; then
    rm -rf "$near"
    cp -a -- "$kept/files$1" "$near" || {
      rm -rf "$near"
      return 1
    }
    [ ! -d "$1" ] || [ -L "$1" ] || rm -rf "$1"
    mv -fT "$near" "$1"
  fi
}

# SERVICE: it runs with what has landed
service_unkept() {
  rm -rf "$(service_kept "$1")"
  rmdir /var/lib/paddock/kept 2>/dev/null || true
}

# What is still kept when steps fail
undone() {
  for kept in /var/lib/paddock/kept/*.service; do
    [ -d "$kept" ] || continue
    if service_past "${kept##*/}"; then
      service_unkept "${kept##*/}"
    else
      (service_back "${kept##*/}") >/dev/null 2>&1 || true
    fi
  done
}
