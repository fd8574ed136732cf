package build

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/esxid/esxid/internal/fault"
	"github.com/esxid/esxid/internal/iso"
	"github.com/esxid/esxid/internal/vm"
)

// Job is a step that needs other rights than the service has: everything that
// whoever runs it has to know. It is handed over as job.json in the build's
// directory and answered by result.json.
type Job struct {
	Format int    `json:"format"`
	Build  string `json:"build"` // id
	Step   string `json:"step"`
	// Nonce ties the result to this job, so that no other run's counts.
	Nonce     string        `json:"nonce"`
	Install   *InstallJob   `json:"install,omitempty"`
	Customize *CustomizeJob `json:"customize,omitempty"`
}

// InstallJob is what the step install needs beside the rendered kickstart.
type InstallJob struct {
	ISOFile        string        `json:"iso_file"`
	ISO            iso.Info      `json:"iso"` // what must be in it
	Profile        Profile       `json:"profile"`
	Marker         string        `json:"marker"`
	Accel          string        `json:"accel"` // kvm, tcg or auto
	QEMU           string        `json:"qemu"`
	IdleTimeout    time.Duration `json:"idle_timeout"` // nanoseconds
	OverallTimeout time.Duration `json:"overall_timeout"`
}

// CustomizeJob is what the step customize needs beside the installed disk. The
// payload is part of the program.
type CustomizeJob struct {
	Access      string `json:"access"`      // auto, nbd or direct
	Unsupported string `json:"unsupported"` // error or warn
	VCenterCA   string `json:"vcenter_ca,omitempty"`
}

// Result is how a job went.
type Result struct {
	Format  int     `json:"format"`
	Nonce   string  `json:"nonce"` // of the job
	Seconds float64 `json:"seconds"`
	Note    string  `json:"note,omitempty"`
	// Warnings are for the service's log. It has them from the unit's status at once,
	// unless it was not there then.
	Warnings []string `json:"warnings,omitempty"`
	// Stopped says that the job was told to end before it was done.
	Stopped bool     `json:"stopped,omitempty"`
	Failure *Failure `json:"failure,omitempty"`
}

// Failure is the error of a job.
type Failure struct {
	Message string      `json:"message"`
	Class   fault.Class `json:"class"`
	// Installer is there if an installation failed.
	Installer *vm.InstallError `json:"installer,omitempty"`
}

// JobRecord is the job that was handed over and whose result is not known yet.
type JobRecord struct {
	Step  string `json:"step"`
	Nonce string `json:"nonce"`
	// Key is the plan's key of what the step makes. A job for the same is gone on
	// with, whoever started it.
	Key string `json:"key"`
	// Started is when the unit was asked for, which may have been by another process.
	Started time.Time `json:"started,omitzero"`
	// Warned are the job's warnings that have been reported.
	Warned []string `json:"warned,omitempty"`
}

// Files of a job in the build's directory.
const (
	jobName    = "job.json"
	resultName = "result.json"
)

const (
	jobFormat = 1
	// maxJob bounds the size of both files that is read, in bytes.
	maxJob = 256 << 10
)

// job returns the job of a step, without a nonce.
func (s *step) job(name string) Job {
	p, cfg := s.build.Plan, s.Config
	j := Job{Format: jobFormat, Build: s.build.ID(), Step: name}
	switch name {
	case StepInstall:
		j.Install = &InstallJob{
			ISOFile: s.build.ISOFile, ISO: p.ISO, Profile: p.Profile, Marker: marker(p), Accel: cfg.VM.Accel, QEMU: cfg.VM.QEMU,
			IdleTimeout: cfg.VM.IdleTimeout, OverallTimeout: cfg.VM.OverallTimeout,
		}
	case StepCustomize:
		j.Customize = &CustomizeJob{Access: p.Access, Unsupported: p.Unsupported, VCenterCA: p.VCenterCA}
	}
	return j
}

// jobKey is the plan's key of what a step makes.
func (p Plan) jobKey(step string) string {
	if step == StepInstall {
		return p.InstallKey
	}
	return p.ImageKey
}

var (
	nonceForm  = regexp.MustCompile(`^[0-9A-Z]{26,52}$`)
	markerForm = regexp.MustCompile(`^esxid-installed-[0-9a-f]{16}$`)
)

// parseJob reads job.json for a step of a build. Whoever wrote it may be allowed
// less than whoever reads it, so nothing is taken as it is.
func parseJob(text []byte, build, step string) (*Job, error) {
	j := &Job{}
	if err := unmarshal(text, j); err != nil {
		return nil, err
	}
	if err := j.check(build, step); err != nil {
		return nil, fault.New(fault.Input, "%w", err)
	}
	return j, nil
}

func (j *Job) check(build, step string) error {
	switch {
	case j.Format != jobFormat:
		return fmt.Errorf("it has format %d, this esxid knows %d", j.Format, jobFormat)
	case j.Build != build || j.Step != step:
		return fmt.Errorf("it is for %.20q of build %.60q", j.Step, j.Build)
	case !nonceForm.MatchString(j.Nonce):
		return errors.New("its nonce is malformed")
	case (step == StepInstall) != (j.Install != nil) || (step == StepCustomize) != (j.Customize != nil):
		return errors.New("it is not about this step alone")
	case j.Install != nil:
		return j.Install.check()
	}
	return j.Customize.check()
}

func (j *InstallJob) check() error {
	switch {
	case !filepath.IsAbs(j.ISOFile) || filepath.Clean(j.ISOFile) != j.ISOFile:
		return fmt.Errorf("the ISO %.200q has no absolute path", j.ISOFile)
	case !markerForm.MatchString(j.Marker):
		return errors.New("its marker is malformed")
	case j.QEMU == "" || j.IdleTimeout <= 0 || j.OverallTimeout <= 0:
		return errors.New("it lacks QEMU or a limit")
	case j.Accel != "kvm" && j.Accel != "tcg" && j.Accel != "auto":
		return fmt.Errorf("accelerator %.20q is none of kvm, tcg, auto", j.Accel)
	}
	return j.Profile.hardware().Check()
}

func (j *CustomizeJob) check() error {
	switch {
	case j.Access != "auto" && j.Access != "nbd" && j.Access != "direct":
		return fmt.Errorf("access %.20q is none of auto, nbd, direct", j.Access)
	case j.Unsupported != "error" && j.Unsupported != "warn":
		return fmt.Errorf("unsupported %.20q is neither error nor warn", j.Unsupported)
	case len(j.VCenterCA) > 2*maxAuthorities: // with other line ends than the file
		return fmt.Errorf("vcenter_ca has more than %d bytes", 2*maxAuthorities)
	}
	return nil
}

// unmarshal decodes one JSON value with known fields only.
func unmarshal(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return fault.New(fault.Input, "%w", err)
	}
	return nil
}

// put writes a job or a result.
func (d *directory) put(name string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", name, err)
	}
	err = d.make(name, 0o640, func(f *os.File) error {
		_, err := f.Write(append(text, '\n'))
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", filepath.Join(d.path, name), err)
	}
	return nil
}

// failure describes an error for the result.
func failure(err error) *Failure {
	f := &Failure{Message: err.Error(), Class: fault.ClassOf(err)}
	errors.As(err, &f.Installer)
	return f
}

// Err is the error again, with its text and its class.
func (f *Failure) Err() error {
	err := error(jobError{f.Message, f.Installer})
	return fault.As(f.Class, err)
}

// jobError has another process's words.
type jobError struct {
	message   string
	installer *vm.InstallError
}

func (e jobError) Error() string { return e.message }

func (e jobError) Unwrap() error {
	if e.installer == nil {
		return nil
	}
	return e.installer
}
