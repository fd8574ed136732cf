#!/bin/bash
# Makes the disk of a Debian 12 machine for tests, with what it boots from:
#
#   image.sh DIR     writes DIR/disk.raw (sparse), DIR/vmlinuz and DIR/initrd
#
# The machine has systemd, D-Bus, polkit, a kernel with nbd and KVM, and the
# packages that esxid depends on, so that apt installs esxid's package without a
# network. It has no package lists: apt must make do with what is here. A service
# starts the agent of the drive labelled "payload" (see the package debianvm).
#   image.sh STEP ROOT DIR     is how mmdebstrap calls it back
set -euo pipefail

machine=(systemd systemd-sysv udev dbus polkitd kmod procps linux-image-cloud-amd64 initramfs-tools zstd)
# Marked as installed automatically: apt would remove those again that esxid's
# package does not ask for, which a test can see.
needed=(qemu-system-x86 qemu-utils seabios mtools init-system-helpers adduser ca-certificates)

# Without what no test reads the image is half as large.
small=(
	--dpkgopt='path-exclude=/usr/share/doc/*'
	--dpkgopt='path-exclude=/usr/share/locale/*'
	--aptopt='Acquire::Languages "none"'
	--aptopt='APT::Install-Recommends "false"'
	--dpkgopt=force-unsafe-io
)

# An initramfs with the drivers of exactly this machine is unpacked in no time.
initramfs() {
	mkdir -p "$1/etc/initramfs-tools/conf.d"
	printf '%s\n' MODULES=list BUSYBOX=n COMPRESS=zstd >"$1/etc/initramfs-tools/conf.d/small"
	printf '%s\n' virtio_pci virtio_blk ext4 >"$1/etc/initramfs-tools/modules"
}

settings() {
	echo test >"$1/etc/hostname"
	echo '127.0.0.1 localhost test' >"$1/etc/hosts"
	cat >"$1/etc/fstab" <<-END
		/dev/vda / ext4 errors=remount-ro 0 1
		LABEL=payload /payload ext4 ro 0 0
	END
	mkdir -p "$1/payload" "$1/var/log/journal"
	cat >"$1/etc/systemd/network/10-test.network" <<-END
		[Match]
		Type=ether
		[Network]
		Address=10.0.2.15/24
	END
	cat >"$1/etc/systemd/system/test-agent.service" <<-END
		[Unit]
		Description=Runs the commands of a test
		RequiresMountsFor=/payload
		[Service]
		ExecStart=/payload/agent
		Restart=on-failure
		# What a test started goes on when the agent ends.
		KillMode=process
		[Install]
		WantedBy=multi-user.target
	END
	chroot "$1" apt-mark auto "${needed[@]}" >/dev/null
	chroot "$1" systemctl --quiet enable test-agent systemd-networkd
	chroot "$1" systemctl --quiet disable apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer
}

finish() {
	cp "$1"/boot/vmlinuz-* "$2/vmlinuz"
	cp "$1"/boot/initrd.img-* "$2/initrd"
	rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin "$1"/etc/{apt/apt.conf.d,dpkg/dpkg.cfg.d}/99mmdebstrap
	# mmdebstrap has /proc, /sys and /dev mounted there, which must not be copied.
	# shellcheck disable=SC2016 # for the inner shell
	unshare --mount sh -c '
		for m in proc sys dev; do ! mountpoint -q "$1/$m" || umount -R "$1/$m"; done
		truncate -s 12G "$2"
		mke2fs -q -F -t ext4 -L root -d "$1" "$2"' sh "$1" "$2/disk.raw"
}

case $1 in initramfs | settings | finish) "$@"; exit ;; esac

dir=$1
join() { local IFS=,; echo "$*"; }
# shellcheck disable=SC2016 # mmdebstrap's $1, the root directory
hook() { printf '%q %s "$1" %q' "$(realpath "$0")" "$1" "$dir"; }
# Services cannot start while there is no init; a policy against it would stay.
mmdebstrap --quiet --variant=minbase --format=null --skip=chroot/policy-rc.d,chroot/start-stop-daemon "${small[@]}" \
	--include="$(join "${machine[@]}" "${needed[@]}")" \
	--essential-hook="$(hook initramfs)" \
	--customize-hook="$(hook settings)" \
	--customize-hook="$(hook finish)" \
	bookworm /dev/null
