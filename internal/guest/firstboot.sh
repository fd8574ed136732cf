# Starts the agent that the deployment left on the second boot bank. A host
# that was not deployed by MAAS has none; it stays as it was installed.
PATH=/bin:/sbin
export PATH

say() {
	logger -t esxid "$1"
	echo "esxid: $1" >/dev/console
}

# The agent removes itself when it is done, whatever became of it. If it is
# still there, it was killed or could not start: a second start brings the old
# network back and tells MAAS.
configure() {
	log=$1/firstboot.log
	# Where the bank cannot be written, the agent can still tell MAAS so.
	( : >>"$log" ) || log=/dev/null
	for attempt in 1 2; do
		[ -f "$1/agent.py" ] || break
		[ "$attempt" = 1 ] || say "the agent ended before it was done, starting it again"
		/bin/python -B "$1/agent.py" "$1" 2>>"$log" && return 0
	done
	return 1
}

# No credentials stay, even if the agent cannot run at all. FAT leaves the data
# of removed files in place. Nor does the firewall stay open.
clean_up() {
	for file in "$1"/*; do
		size=$(wc -c <"$file")
		case $file in
		*/firstboot.log) continue ;;
		*/config.json) dd if=/dev/zero of="$file" bs="$size" count=1 conv=notrunc,fsync ;;
		esac
		rm -f "$file"
	done
	if [ -f /etc/vmware/firewall/esxid.xml ]; then
		rm -f /etc/vmware/firewall/esxid.xml
		localcli network firewall refresh
	fi
}

for bank in /altbootbank /bootbank; do
	if [ -f "$bank/esxid/agent.py" ]; then
		say "configuring this host for MAAS, log in $bank/esxid/firstboot.log"
		configure "$bank/esxid" && exit 0
		clean_up "$bank/esxid"
		say "this host could not be configured for MAAS: see $bank/esxid/firstboot.log"
		exit 1
	fi
done
say "no configuration from MAAS on /altbootbank: nothing was configured"
exit 1
