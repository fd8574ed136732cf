# Starts the agent that the deployment left on the second boot bank. A host
# that was not deployed by MAAS has none; it stays as it was installed.
PATH=/bin:/sbin
export PATH

say() {
	logger -t esxid "$1"
	echo "esxid: $1" >/dev/console
}

for bank in /altbootbank /bootbank; do
	if [ -f "$bank/esxid/agent.py" ]; then
		say "configuring this host for MAAS, log in $bank/esxid/firstboot.log"
		/bin/python -B "$bank/esxid/agent.py" "$bank/esxid" && exit 0
		say "this host could not be configured for MAAS: see $bank/esxid/firstboot.log"
		exit 1
	fi
done
say "no configuration from MAAS on /altbootbank: nothing was configured"
exit 1
