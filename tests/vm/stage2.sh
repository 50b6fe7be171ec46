# The machine's first process, or what comes before it: file systems, drivers, network, disks; then the command, by itself or as a
# service of systemd's. Its exit code goes to the second serial port.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o mode=755 run /run
mkdir -p /dev/pts /dev/shm /run/lock
mount -t devpts -o mode=620,ptmxmode=666,gid=5 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t mqueue mqueue /dev/mqueue 2>/dev/null || mkdir -p /dev/mqueue
ln -sf /proc/self/fd /dev/fd
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t securityfs securityfs /sys/kernel/security
mount -t bpf bpf /sys/fs/bpf 2>/dev/null || true
mount --make-rshared /

# Modules that a container runtime's host loads by itself; the rest comes by name when it is asked for.
for module in overlay veth bridge br_netfilter virtio_net virtio-rng nf_tables nf_nat nft_nat nft_masq nft_chain_nat; do
    modprobe -q $module || true
done

hostname sampan-vm
echo "127.0.0.1 localhost sampan-vm" > /etc/hosts
echo "nameserver 10.0.2.3" > /etc/resolv.conf
ip link set lo up
interface=$(ls /sys/class/net | grep -v -e lo -e bonding_masters | head -n 1)
if [ -n "$interface" ]; then
    ip address add 10.0.2.15/24 dev "$interface"
    ip link set "$interface" up
    ip route add default via 10.0.2.2
fi

cat > /run/finish <<'FINISH'
echo "$1" > /dev/ttyS1
sync
# The kernel flushes a serial port when it is closed; power off only then.
busybox poweroff -f
FINISH

modprobe -q qemu_fw_cfg
message=/sys/firmware/qemu_fw_cfg/by_name/opt/sampan/command/raw
if ! [ -r "$message" ]; then
    echo "tests/vm: the command did not arrive: $message" > /dev/ttyS0
    sh /run/finish 125
fi
eval "$(head -n 1 "$message")"
checkout=$(echo "$CHECKOUT" | base64 -d)
mkdir -p "$checkout"
mount -t ext4 /dev/vdb "$checkout" && mount -t ext4 /dev/vdc "$checkout/.venv" || sh /run/finish 125
# The environment was made with the host's Python; here Debian's of the same version stands in its place.
home=$(sed -n 's/^home = //p' "$checkout/.venv/pyvenv.cfg")
if [ ! -e "$home" ]; then
    mkdir -p "$(dirname "$(dirname "$home")")"
    ln -s /usr "$(dirname "$home")"
fi
sed 1d "$message" > /run/command

if [ "$INIT" = systemd ]; then
    mkdir -p /run/systemd/system
    cat > /run/systemd/system/sampan-tests.service <<'UNIT'
[Unit]
Wants=basic.target dbus.socket
After=basic.target dbus.socket
[Service]
Type=oneshot
Environment=HOME=/root LANG=C.UTF-8 TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ExecStart=-/bin/sh -c 'sh /run/command < /dev/null > /dev/ttyS0 2>&1; sh /run/finish $?'
ExecStopPost=-/bin/sh /run/finish 125
Delegate=yes
TasksMax=infinity
UNIT
    # Debian starts the services of whatever is installed: those of the tests are started by the tests.
    for unit in docker.service docker.socket containerd.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer; do
        ln -s /dev/null /run/systemd/system/$unit
    done
    dd if=/dev/urandom bs=16 count=1 2>/dev/null | od -An -tx1 | tr -d ' \n' > /etc/machine-id
    exec /lib/systemd/systemd --unit=sampan-tests.service --log-target=null --show-status=false
fi
# A session of its own, and a terminal that turns newlines into lines.
setsid -w sh /run/command < /dev/null > /dev/ttyS0 2>&1
sh /run/finish $?
