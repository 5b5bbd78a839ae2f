#!/bin/sh
# Makes a Debian root with the lab's packages a lab host's. Runs as root inside it.
set -eu

# No password opens a lab host. Its host keys are its own, made when it first starts.
cat >/etc/ssh/sshd_config.d/paddock-lab.conf <<'EOF'
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
EOF
rm -f /etc/ssh/ssh_host_*
install -d -m 700 /root/.ssh

# udev brings it to every machine, and a container has no udev: llama-server belongs to it for the sake of GPUs.
getent group render >/dev/null || groupadd --system render

# A container image holds services back and throws packages away; a host does neither.
rm -f /usr/sbin/policy-rc.d /etc/apt/apt.conf.d/docker-* /etc/dpkg/dpkg.cfg.d/docker*

# Packages are fetched once for all hosts: what one has unpacked is copied to the shared directory, and found there
# after each `apt-get update`.
cat >/etc/apt/apt.conf.d/80paddock-lab <<'EOF'
Acquire::Languages "none";
Binary::apt::APT::Keep-Downloaded-Packages "true";
APT::Update::Post-Invoke { "/usr/local/sbin/paddock-lab-packages find || true"; };
DPkg::Post-Invoke { "/usr/local/sbin/paddock-lab-packages keep || true"; };
EOF
cat >/usr/local/sbin/paddock-lab-packages <<'EOF'
#!/bin/sh
# Finds packages in the shared directory, or keeps there those that were fetched: paddock-lab-packages find|keep
set -eu
shared=/var/cache/paddock/apt own=/var/cache/apt/archives
[ -d "$shared" ] || exit 0
case $1 in
  find) find "$shared" -name '[!.]*.deb' -exec ln -st "$own" {} + 2>/dev/null ;;
  keep)
    find "$own" -maxdepth 1 -type f -name '*.deb' | while read -r deb; do
      [ ! -e "$shared/${deb##*/}" ] || continue
      if part=$(mktemp "$shared/.XXXXXX") && cp "$deb" "$part"; then
        chmod 644 "$part"
        mv "$part" "$shared/${deb##*/}"
      fi
    done
    ;;
esac
EOF
chmod 755 /usr/local/sbin/paddock-lab-packages

# These would hold apt's lock when a deploy needs it, and set the kernel of the machine that all containers share.
systemctl mask --quiet apt-daily.timer apt-daily-upgrade.timer systemd-sysctl.service systemd-binfmt.service

# What belongs to one machine, and what each host is to have of its own.
rm -f /etc/apt/sources.list /etc/apt/sources.list.d/* /etc/environment
rm -f /etc/apt/apt.conf.d/90paddock-lab /etc/apt/apt.conf.d/99mmdebstrap
rm -f /usr/local/share/ca-certificates/*
rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
: >/etc/machine-id
rm -f /var/lib/dbus/machine-id
