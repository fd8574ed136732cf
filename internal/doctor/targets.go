package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/esxid/esxid/internal/config"
	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/publish"
)

// credentialFile is the key of MAAS that systemd reads as root and hands to the
// service as its credential (esxid.service).
const credentialFile = "/etc/esxid/maas.key"

func publishing(ctx context.Context, service account, s Subject) []Finding {
	if len(s.Config.Targets) == 0 {
		return []Finding{{"targets", Warning, "none is configured: images stay in the state directory; add a [[target]] to " + config.DefaultPath + " (config.example.toml shows how) and run: systemctl reload esxid"}}
	}
	var out []Finding
	for _, t := range s.Config.Targets {
		out = append(out, target(ctx, service, t, s.Targets))
	}
	return out
}

// target checks one target with the service's rights: first those to the files it
// needs, then whether it can be published to.
func target(ctx context.Context, service account, t config.Target, targets func(*config.Config) ([]publish.Publisher, error)) Finding {
	f := Finding{"target " + t.Name, OK, "can be published to"}
	if t.Type == config.TargetDirectory {
		if info, err := os.Stat(t.Path); err == nil && info.IsDir() && !service.self {
			if err := service.may(t.Path, unix.R_OK|unix.W_OK|unix.X_OK); err != nil {
				f.Level, f.Detail = levelOf(err), fmt.Sprintf("%v: chgrp %s %s; chmod g+rwx %[3]s", err, service.group, t.Path)
			}
			return f
		}
	}
	for _, file := range []string{t.APIKeyFile, t.CAFile} {
		if file == "" {
			continue
		}
		if err := service.mayRead(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.Level, f.Detail = levelOf(err), fmt.Sprintf("%v: chgrp %s %s; chmod 0640 %[3]s", err, service.group, file)
			return f
		}
	}
	if t.Type == config.TargetMAAS && t.APIKeyFile == "" && os.Getenv("CREDENTIALS_DIRECTORY") == "" {
		if t.APIKeyFile = keyOfService(); t.APIKeyFile == "" {
			f.Level, f.Detail = Problem, "there is no API key: put it into "+credentialFile+" (root's, mode 0600) and run: systemctl restart esxid; or set api_key_file"
			return f
		}
	}
	made, err := targets(&config.Config{Targets: []config.Target{t}})
	if err == nil {
		limited, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		err = made[0].Check(limited)
	}
	switch {
	case err == nil:
	case fault.ClassOf(err) == fault.NotPermitted && errors.Is(err, fs.ErrPermission) && !service.self && os.Geteuid() != 0:
		f.Level, f.Detail = Unknown, fmt.Sprintf("%v; %s", err, asRoot)
	default:
		f.Level, f.Detail = Problem, err.Error()
	}
	return f
}

// keyOfService is the file behind the service's credential if it has a key in it.
func keyOfService() string {
	info, err := os.Stat(credentialFile)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return ""
	}
	return credentialFile
}
