#!/bin/bash
# The main job, shown: an installer ISO becomes a boot resource in a MAAS
# stand-in and is deployed from there, through the real steps.
#
#   demo.sh [ISO]      without an ISO a simulated ESXi 6.7 installer is made
#
# Everything is made in a temporary directory; DEMO_DIR=DIR keeps it in DIR.
set -euo pipefail
cd "$(dirname "$0")/.."

iso=${1-}
if [[ -n ${DEMO_DIR-} ]]; then
	work=$DEMO_DIR
	mkdir -p "$work"
else
	work=$(mktemp -d)
fi

maas_pid=
stop_maas() {
	if [[ -n $maas_pid ]]; then
		kill "$maas_pid" 2>/dev/null || true
		wait "$maas_pid" 2>/dev/null || true
	fi
}
trap 'stop_maas; [[ -n ${DEMO_DIR-} ]] || rm -rf "$work"' EXIT

begin=$SECONDS
step() { printf '\n== %s\n' "$*"; }
took() { printf '   (%d s)\n' $((SECONDS - $1)); }

if [[ -z $iso ]]; then
	step "Making a simulated ESXi 6.7 installer ISO"
	at=$SECONDS
	iso=$work/VMware-VMvisor-Installer-6.7.0-8169922.x86_64.iso
	bin/rig iso --version 6.7 --build 8169922 -o "$iso"
	took $at
fi

step "What the ISO is: esxid inspect"
bin/esxid inspect "$iso"
name=$(bin/esxid inspect --json "$iso" | sed -n 's/^ *"name": "\(.*\)",*$/\1/p')

step "Starting a MAAS 3.6 stand-in on the loopback interface"
bin/rig maas --listen 127.0.0.1:0 --generation 3.6 --dir "$work/maas" >"$work/maas.out" 2>"$work/maas.err" &
maas_pid=$!
for _ in {1..100}; do
	grep -q '^key_file=' "$work/maas.out" && break
	kill -0 "$maas_pid" || { cat "$work/maas.err" >&2; exit 1; }
	sleep 0.1
done
url=$(sed -n 's/^url=//p' "$work/maas.out")
key_file=$(sed -n 's/^key_file=//p' "$work/maas.out")
echo "$url"

cat >"$work/esxid.toml" <<-END
	[[target]]
	type = "maas"
	name = "demo"
	url = "$url"
	api_key_file = "$key_file"
END

step "The main job: esxid build --publish"
image=$(bin/esxid build --config "$work/esxid.toml" --accel auto --output "$work/images" --publish "$iso")
echo "$image"

step "The image again, as a deployment reads it: esxid verify"
bin/esxid verify "$image"

step "What MAAS has now"
bin/rig list --url "$url" --key-file "$key_file" --name "$name" | tee "$work/resource.json"
local_sum=$(sha256sum "$image" | cut -d' ' -f1)
maas_sum=$(sed -n 's/^ *"sha256": "\(.*\)",*$/\1/p' "$work/resource.json")
echo "sha256 of the local file: $local_sum"
if [[ $local_sum != "$maas_sum" ]]; then
	echo "MAAS has another image: $maas_sum" >&2
	exit 1
fi
echo "MAAS has the same."

step "Deploying it as MAAS and curtin would: rig deploy"
at=$SECONDS
bin/rig deploy --url "$url" --key-file "$key_file" --name "$name" \
	--curtin internal/guest/testdata/curtin/d-flat-default.json -o "$work/deployed.raw"
took $at

printf '\nDone in %d s.\n' $((SECONDS - begin))
