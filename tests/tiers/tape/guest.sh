#!/bin/sh
# The first process of a user-mode Linux whose root is this machine's, not to be written: a library of tgt with two
# drives and eight slots behind iSCSI on loopback, then the story. Told by the kernel's command line: where to write.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sys /sys
for word in $(cat /proc/cmdline); do case $word in work=*) W=${word#work=} ;; esac; done
mount -t tmpfs none /run
mount -t tmpfs none /var/lib
mount -t tmpfs none /etc/iscsi
mount -t tmpfs none /dev/shm 2>/dev/null
mkdir -p /run/lock
mount -t hostfs none "$W" -o "$W"
exec >"$W/guest.log" 2>&1 </dev/null
echo GUEST-IS-UP
set -x
sysctl -q -w kernel.printk='3 4 1 3'
echo "InitiatorName=iqn.2026-01.org.example:guest" >/etc/iscsi/initiatorname.iscsi
echo "node.startup = manual" >/etc/iscsi/iscsid.conf
ip link set lo up
mkdir -p "$W/modules/lib/modules" "$W/media"
ln -sfn "$(echo /usr/lib/uml/modules/*)" "$W/modules/lib/modules/$(uname -r)"
for module in scsi_mod sg st ch iscsi_tcp; do modprobe -d "$W/modules" $module; done

new() { tgtimg --op new --device-type tape --barcode "$1" --size "$2" --type data --file "$W/media/$1" >/dev/null; }
for barcode in TA0001L9 TA0002L9 TB0001L9 TB0002L9; do new $barcode 8; done
new NONE0 8; new NONE1 8
touch "$W/changer"

tgtd -f >"$W/tgtd.log" 2>&1 &
until tgtadm --lld iscsi --mode system --op show >/dev/null 2>&1; do sleep 0.2; done
unit() { tgtadm --lld iscsi --mode logicalunit --tid 1 "$@"; }
tgtadm --lld iscsi --mode target --op new --tid 1 --targetname iqn.2026-01.org.example:library
for drive in 0 1; do
  unit --op new --lun $((drive + 1)) -b "$W/media/NONE$drive" --device-type tape
  unit --op update --lun $((drive + 1)) --params vendor_id=TAPE,product_id=DRIVE,scsi_sn=SERIAL$drive,removable=1
done
unit --op new --lun 3 -b "$W/changer" --device-type changer
unit --op update --lun 3 --params media_home="$W/media"
unit --op update --lun 3 --params removable=1,scsi_sn=CHANGER
unit --op update --lun 3 --params element_type=1,start_address=1,quantity=1
unit --op update --lun 3 --params element_type=4,start_address=500,quantity=2
for drive in 0 1; do
  unit --op update --lun 3 --params element_type=4,address=$((500 + drive)),tid=1,lun=$((drive + 1))
done
unit --op update --lun 3 --params element_type=2,start_address=1000,quantity=8
slot=1000
for barcode in TA0001L9 TA0002L9 TB0001L9 TB0002L9; do
  unit --op update --lun 3 --params element_type=2,address=$slot,barcode=$barcode,sides=1
  slot=$((slot + 1))
done
tgtadm --lld iscsi --mode target --op bind --tid 1 -I ALL

iscsid -f >"$W/iscsid.log" 2>&1 &
sleep 0.5
iscsiadm -m discovery -t st -p 127.0.0.1
iscsiadm -m node -l
for _ in 1 2 3 4 5 6 7 8 9 10; do [ -e /dev/nst1 ] && lsscsi -g | grep -q mediumx && break; sleep 0.5; done
lsscsi -g
changer=$(lsscsi -g | awk '/mediumx/ {print $NF}')
. "$W/environment"
"$PYTHON" "$STORY" "$W" "$changer" /dev/nst0 /dev/nst1
echo "STORY-ENDED $?"
dmesg | tail -n 30
cat /proc/uptime
sync
echo o >/proc/sysrq-trigger
sleep 60
