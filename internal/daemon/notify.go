package daemon

import sd "github.com/coreos/go-systemd/v22/daemon"

// notify tells the service manager, if there is one (sd_notify(3)).
func notify(state string) {
	// Without a manager this does nothing; with one, a lost status is no reason to stop.
	_, _ = sd.SdNotify(false, state)
}
