#!/bin/bash
# room.sh COMMAND…: runs the command in namespaces of its own, where an engine may do as it likes and everything looks the same on
# every machine: host name, resolv.conf, one address 192.0.2.2 on eth0 with a default route, /mnt empty and in memory. Ends with
# nothing of it left: process 1 of the room is this script, and with it everything dies.
set -eu
if [ "${PARITY_ROOM:-}" != inside ]; then
    PARITY_ROOM=inside exec setpriv --pdeathsig KILL unshare --net --mount --uts --ipc --pid --fork --kill-child=SIGKILL --propagation slave "$0" "$@"
fi
unset PARITY_ROOM

mount --make-rshared /   # bind propagation works in here, and still reaches nothing outside
mount -t tmpfs -o mode=755 room /mnt
mkdir /mnt/cgroup /mnt/tmp
chmod 1777 /mnt/tmp
mount -t proc proc /proc
# The sysfs of this network namespace, with the machine's cgroups in it.
mount --rbind /sys/fs/cgroup /mnt/cgroup
mount --make-rprivate /mnt/cgroup
umount -R -l /sys
mount -t sysfs sysfs /sys
mount --rbind /mnt/cgroup /sys/fs/cgroup
umount -R -l /mnt/cgroup
rmdir /mnt/cgroup

hostname parity
printf 'nameserver 192.0.2.1\n' > /mnt/resolv.conf
printf '127.0.0.1\tlocalhost\n192.0.2.2\tparity\n' > /mnt/hosts
mount --bind /mnt/resolv.conf "$(readlink -f /etc/resolv.conf)"
mount --bind /mnt/hosts /etc/hosts
mount -t tmpfs -o mode=755 run /run
mkdir /run/lock

ip link set lo up
ip link add eth0 address 02:00:00:00:00:02 type veth peer name wire address 02:00:00:00:00:01
ip address add 192.0.2.2/24 dev eth0
ip link set eth0 up
ip link set wire up
ip route add default via 192.0.2.1

# Not exec: somebody has to collect orphans, which this shell does while it waits.
"$@" && exit 0 || exit $?
