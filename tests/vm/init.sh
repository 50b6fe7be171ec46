#!/bin/sh
# First process of the initramfs: load the disks' drivers, mount the disks, go on in the root disk.
set -e
b=/bin/busybox
$b mount -t devtmpfs dev /dev
echo up > /dev/ttyS1  # whoever started the machine now knows that its kernel runs
for module in /modules/*; do $b insmod "$module"; done
$b mount -t ext4 /dev/vda /root
$b mount -o move /dev /root/dev
$b cp /stage2 /root/run/stage2
exec $b switch_root /root /bin/sh /run/stage2
