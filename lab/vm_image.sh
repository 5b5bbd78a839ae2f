#!/bin/sh
# Makes a lab host's root a virtual machine's, after image.sh. Runs as root inside it.
set -eu

# Here the kernel is the host's own.
systemctl unmask --quiet systemd-sysctl.service systemd-binfmt.service

# The first process. What is this one host's comes as a tar on a disk of its own, and is unpacked before anything else
# runs.
cat >/usr/local/sbin/paddock-lab-init <<'END'
#!/bin/sh
set -eu
seeded=/var/lib/paddock-lab-seeded
if [ ! -e "$seeded" ]; then
  if tar -xf /dev/disk/by-id/virtio-seed -C /; then
    : >"$seeded" || true
  else
    echo "paddock-lab: no seed"
  fi
fi
exec /lib/systemd/systemd
END
chmod 755 /usr/local/sbin/paddock-lab-init

# QEMU's user network has one host, and always these addresses.
cat >/etc/systemd/network/50-lab.network <<'END'
[Match]
Type=ether

[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
LinkLocalAddressing=no
IPv6AcceptRA=no
END
systemctl enable --quiet systemd-networkd.service
rm -f /etc/resolv.conf
echo nameserver 10.0.2.3 >/etc/resolv.conf
