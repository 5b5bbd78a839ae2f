# What the kernel says of a process's memory and work on cards: https://docs.kernel.org/gpu/drm-usage-stats.html

# drm_clients PID…: what each client of each card says, once, after a line `client`. A client may have several
# descriptors.
drm_clients() {
  for pid; do
    grep -ls '^drm-client-id:' "/proc/$pid/fdinfo"/* 2>/dev/null || true
  done | while read -r descriptor; do
    echo "$(grep -hsE '^drm-(client-id|pdev):' "$descriptor" | tr -d ' \t\n') $descriptor"
  done | sort -u -k 1,1 | while read -r _ descriptor; do
    echo client
    cat "$descriptor" 2>/dev/null || true
  done
}

# drm_kib PID…: KiB that the processes hold on all cards. Some drivers say one amount twice, as memory and as
# resident.
drm_kib() {
  drm_clients "$@" | awk '
    $1 == "client" { for (each in of) sum += of[each]; split("", of) }
    /^drm-(memory|resident)-(vram|gtt|system|local)[0-9]*:/ {
      kib = $2 * ($3 == "GiB" ? 1048576 : $3 == "MiB" ? 1024 : $3 == "KiB" ? 1 : 1 / 1024)
      sub(/^drm-(memory|resident)-/, "", $1); if (kib > of[$1]) of[$1] = kib
    }
    END { for (each in of) sum += of[each]; printf "%d\n", sum }'
}
