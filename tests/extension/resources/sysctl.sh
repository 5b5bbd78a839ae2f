# Parameters of the kernel.

# The value of each, its columns with a space between.
probe_sysctl() {
  section sysctl
  for key in $(sysctls); do
    path=$(sysctl_path "$key")
    [ ! -r "$path" ] || printf '%s\t%s\n' "$key" "$(tr '\t' ' ' <"$path")"
  done
}

# KEY: where the kernel has it
sysctl_path() {
  echo "/proc/sys/$(printf %s "$1" | tr . /)"
}

# KEY VALUE
put_sysctl() {
  at "sysctl:$1"
  path=$(sysctl_path "$1")
  kept=/var/lib/paddock/backup$path
  [ -w "$path" ] || fail "this kernel has no such parameter"
  if [ ! -e "$kept" ]; then
    mkdir -p "${kept%/*}"
    cat "$path" >"$kept.new"
    mv "$kept.new" "$kept"
  fi
  printf '%s\n' "$2" >"$path" || fail "the kernel does not take the value $2"
}

# KEY: its value from before Paddock
gone_sysctl() {
  at "sysctl:$1"
  path=$(sysctl_path "$1")
  kept=/var/lib/paddock/backup$path
  if [ -e "$kept" ]; then
    cat "$kept" >"$path"
    rm "$kept"
  fi
  tidy "$kept"
}
