#!/bin/sh
# Process 1 of the guest of vm-test.sh: mounts what a system mounts, runs the tests, stops the machine.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root LANG=C.UTF-8 TERM=dumb CI=$CI
mount -t proc proc /proc
mount -t sysfs -o nosuid,nodev,noexec sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t tmpfs -o mode=755 run /run
mount -t securityfs -o nosuid,nodev,noexec securityfs /sys/kernel/security
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
chown -R 0:0 /bin /sbin /etc /usr /lib /lib64 /root /var /stage 2>/dev/null # the image may have been made by somebody else
chmod 1777 /tmp /var/tmp
chmod u+s /usr/bin/newuidmap /usr/bin/newgidmap 2>/dev/null
ip link set lo up
apparmor_parser --replace --skip-cache /etc/apparmor.profile
hostname vm
printf 'vm: Linux %s, cgroup v2 with %s, up for %s s\n' "$(uname -r)" "$(cat /sys/fs/cgroup/cgroup.controllers)" "$(cut -d ' ' -f 1 /proc/uptime)"
run=$(cat /etc/run)
tests() {
	/stage/bin/testrun -staged /stage -uid 1000 -run "$1" -timeout 900s -events "/events.$2" </dev/null 2>&1 || failed=1
}
failed=0
tests "$run" all
. /modules/load
printf 'vm: networks, up for %s s\n' "$(cut -d ' ' -f 1 /proc/uptime)"
[ -n "$run" ] || run='TestBridge|TestScripts/(networks|network-names)$'
tests "$run" networks
echo "vm: tests ended with $failed"
stty -F /dev/ttyS1 raw 2>/dev/null
cat /events.* >/dev/ttyS1
sync
reboot -f
