# What nvidia-smi says of the memory that processes hold on cards.

# nvidia_cards: asks for all processes, once
nvidia_cards() {
  cards=
  if command -v nvidia-smi >/dev/null; then
    cards=$(timeout 10 nvidia-smi --query-compute-apps=pid,used_gpu_memory --format=csv,noheader,nounits \
      2>/dev/null) || cards=
  fi
}

# nvidia_kib PID: what it holds, as it was when nvidia_cards asked
nvidia_kib() {
  printf '%s\n' "$cards" | awk -F', *' -v pid="$1" '$1 == pid {sum += $2} END {printf "%d\n", sum * 1024}'
}
