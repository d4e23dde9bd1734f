#!/bin/sh
# Runs tests in a QEMU guest without hardware virtualisation, on Debian's cloud kernel: cgroup v2 alone, an ordinary user with a
# delegated subtree, no networks, and then those of root on a kernel where one switch lets IPv6 through everywhere. P chooses the
# packages, RUN the tests, EVENTS a file for the outcomes (testrun -merge). The kernel package is fetched once and kept below
# ~/.cache/hull; nothing is installed.
set -eu
cd "$(dirname "$0")/.."
packages=${P:-./cgroups ./network ./ns/... ./run .}
limit=${VM_SECONDS:-2700}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/hull/vm
for tool in qemu-system-x86_64:qemu-system-x86 mke2fs:e2fsprogs busybox:busybox-static dpkg:dpkg timeout:coreutils apparmor_parser:apparmor; do
	PATH=$PATH:/sbin:/usr/sbin command -v "${tool%:*}" >/dev/null || missing="${missing-} ${tool#*:}"
done
[ -z "${missing-}" ] || { echo "vm-test: not run, this machine lacks:$missing" >&2; exit 1; }
PATH=$PATH:/sbin:/usr/sbin
work=$(mktemp -d "${TMPDIR:-/var/tmp}/hull-vm-XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# The kernel that linux-image-cloud-amd64 depends on, unpacked.
kernel() {
	name=$(apt-cache depends linux-image-cloud-amd64 | awk '$1 == "Depends:" {print $2; exit}')
	[ -n "$name" ] || { echo 'vm-test: apt knows no linux-image-cloud-amd64 (apt-get update?)' >&2; exit 1; }
	kernel=$cache/$name
	[ ! -d "$kernel" ] || return 0
	mkdir -p "$cache" "$work/deb"
	(cd "$work/deb" && apt-get -q download "$name")
	dpkg -x "$work"/deb/*.deb "$work/deb/x"
	mv "$work/deb/x" "$kernel"
}

# modules puts those that are named into a folder, with a script that loads them in this order; what is built in is not in the package.
modules() {
	to=$1
	mkdir -p "$to"
	shift
	for m; do
		find "$kernel/lib/modules" "$kernel/usr/lib/modules" -name "$m.ko*" -exec cp {} "$to/" \; 2>/dev/null || true
		for f in "$to/$m".ko.?z*; do [ ! -e "$f" ] || case $f in *.xz) xz -d "$f" ;; *.gz) gzip -d "$f" ;; *.zst) zstd -qd --rm "$f" ;; esac; done
		[ ! -e "$to/$m.ko" ] || echo "insmod /modules/$m.ko" >>"$to/load"
	done
}

# What the kernel needs before it can mount the disk.
initramfs() {
	mkdir -p "$work/init/bin" "$work/init/dev" "$work/init/new"
	cp "$(command -v busybox)" "$work/init/bin/busybox"
	modules "$work/init/modules" virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk overlay
	cat >"$work/init/init" <<-'EOF'
		#!/bin/busybox sh
		export PATH=/bin
		/bin/busybox --install -s /bin
		mount -t devtmpfs dev /dev
		. /modules/load
		mount -t ext4 /dev/vda /new
		exec switch_root /new /sbin/init
	EOF
	chmod +x "$work/init/init"
	(cd "$work/init" && find . | busybox cpio -o -H newc 2>/dev/null) >"$work/initramfs"
}

# A program and the libraries that it loads.
with_libraries() {
	command -v "$1" >/dev/null || return 0
	for f in "$(command -v "$1")" $(ldd "$(command -v "$1")" | grep -o '/[^ ]*'); do
		mkdir -p "$work/root$(dirname "$f")"
		cp -L "$f" "$work/root$f"
	done
}

disk() {
	for d in bin sbin dev proc sys run tmp var/tmp var/lib root etc home; do mkdir -p "$work/root/$d"; done
	for a in $(busybox --list); do ln -s busybox "$work/root/bin/$a"; done
	cp --remove-destination "$(command -v busybox)" "$work/root/bin/busybox"
	for p in newuidmap newgidmap apparmor_parser pgrep nft; do with_libraries $p; done
	# What root's networks are made of.
	modules "$work/root/modules" llc stp bridge veth libcrc32c nfnetlink nf_defrag_ipv4 nf_defrag_ipv6 nf_conntrack nf_conntrack_netlink \
		nf_nat nf_tables nft_chain_nat nft_nat nft_masq nft_ct nft_fib nft_fib_ipv4 nft_fib_ipv6 nft_fib_inet nf_reject_ipv4 \
		nf_reject_ipv6 nft_reject nft_reject_ipv4 nft_reject_ipv6 nft_reject_inet
	printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n' >"$work/root/etc/passwd"
	printf 'root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n' >"$work/root/etc/group"
	echo 'user:100000:65536' | tee "$work/root/etc/subuid" >"$work/root/etc/subgid"
	: >"$work/root/etc/resolv.conf"
	echo '127.0.0.1 localhost' >"$work/root/etc/hosts"
	cp scripts/vm-init.sh "$work/root/sbin/init"
	cp scripts/apparmor.profile "$work/root/etc/apparmor.profile"
	echo "${RUN-}" >"$work/root/etc/run"
	# shellcheck disable=SC2086 # the packages are words
	go run ./internal/testrun -stage "$work/root/stage" $packages
	mke2fs -q -t ext4 -d "$work/root" "$work/disk" 3G >/dev/null
}

# The emulator may lose an interrupt between its processors, and then both wait for ever: the kernel's watchdog ends such
# a guest with the stacks on the console. A guest that did not come to its tests' end says nothing about hull, so it is
# booted again; a test that hangs is no such case, testrun ends it.
boot() {
	cp --sparse=always "$work/disk" "$work/vda"
	: >"$work/events"
	timeout "$limit" qemu-system-x86_64 -accel tcg -smp 2 -m 2048 -nodefaults -no-user-config -display none -no-reboot \
		-kernel "$kernel"/boot/vmlinuz-* -initrd "$work/initramfs" \
		-append 'console=ttyS0 quiet panic=-1 watchdog_thresh=30 softlockup_panic=1' \
		-drive "file=$work/vda,format=raw,if=virtio,cache=unsafe" \
		-serial stdio -serial "file:$work/events" </dev/null | sed -u 's/\r$//' | tee "$work/console" || true
	grep -q '^vm: tests ended' "$work/console"
}

kernel
disk
initramfs
tries=1
until boot; do
	echo "vm-test: the guest did not come to the end of its tests within $limit s (boot $tries of 2)" >&2
	[ $tries -lt 2 ] || break
	tries=$((tries + 1))
done
[ -z "${EVENTS-}" ] || tr -d '\r' <"$work/events" >"$EVENTS"
grep -q '^vm: tests ended with 0$' "$work/console"
