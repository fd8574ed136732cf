package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/esxid/esxid/test/maassim"
	"github.com/spf13/cobra"
)

// maasServer is one run of rig maas.
type maasServer struct {
	listen, dir, generation string
	faults                  []string
	tls                     bool
}

func newMAASCommand() *cobra.Command {
	var m maasServer
	cmd := &cobra.Command{
		Use:   "maas --listen ADDRESS --generation 2.9|3.4|3.6|3.8 --dir D [--fault NAME[@CHUNK]]... [--tls]",
		Short: "Serve a MAAS that keeps its images in a directory",
		Long: `Serves the API for boot resources, the metadata service and the images of a MAAS.
Prints url=... and key_file=..., with --tls also ca_file=... and plain_url=...
(which answers with redirects, as MAAS does), and runs until it is interrupted.
Started again with the same directory it has the same images and the same key.

Faults; @CHUNK says at which upload request, counted from 1:
` + maassim.DescribeFaults(),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return m.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&m.listen, "listen", "127.0.0.1:5240", "address to listen on; port 0 takes a free one")
	f.StringVar(&m.generation, "generation", "3.6", "how uploads are stored: "+strings.Join(maassim.Generations, ", "))
	f.StringArrayVar(&m.faults, "fault", nil, "inject a fault")
	f.BoolVar(&m.tls, "tls", false, "serve TLS, with a certificate of a new private CA")
	f.StringVar(&m.dir, "dir", "", "directory for images, state, key and ca.pem; it is made if need be")
	if err := cmd.MarkFlagRequired("dir"); err != nil {
		panic(err) // a flag that was not declared above
	}
	return cmd
}

func (m *maasServer) run(ctx context.Context, out io.Writer) error {
	o := maassim.Options{Dir: m.dir, Generation: m.generation, Persist: true}
	for _, s := range m.faults {
		fault, err := maassim.ParseFault(s)
		if err != nil {
			return err
		}
		o.Faults = append(o.Faults, fault)
	}
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return err
	}
	sim, err := maassim.New(o)
	if err != nil {
		return err
	}
	keyFile := filepath.Join(m.dir, "key")
	if err := os.WriteFile(keyFile, []byte(sim.AdminKey()+"\n"), 0o600); err != nil {
		return err
	}
	l, err := net.Listen("tcp", m.listen)
	if err != nil {
		return err
	}
	address := "http://" + l.Addr().String()
	lines := "key_file=" + keyFile + "\n"
	servers := map[net.Listener]http.Handler{l: sim}
	if m.tls {
		plain, err := net.Listen("tcp", net.JoinHostPort(host(l), "0"))
		if err != nil {
			return err
		}
		caFile := filepath.Join(m.dir, "ca.pem")
		conf, err := newCertificate(host(l), caFile)
		if err != nil {
			return err
		}
		address = "https://" + l.Addr().String()
		lines += fmt.Sprintf("ca_file=%s\nplain_url=http://%s/MAAS\n", caFile, plain.Addr())
		servers = map[net.Listener]http.Handler{tls.NewListener(l, conf): sim, plain: sim.RedirectToTLS(address)}
	}
	fmt.Fprintf(out, "url=%s/MAAS\n%s", address, lines)
	return serve(ctx, servers)
}

func host(l net.Listener) string { return l.Addr().(*net.TCPAddr).IP.String() }

// serve serves until ctx ends, and gives requests under way a moment.
func serve(ctx context.Context, servers map[net.Listener]http.Handler) error {
	failed := make(chan error, len(servers))
	for l, h := range servers {
		srv := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
		go func() { failed <- srv.Serve(l) }()
		defer func() {
			grace, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			defer cancel()
			if srv.Shutdown(grace) != nil {
				srv.Close()
			}
		}()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	}
}

// newCertificate makes a private CA, writes its certificate to caFile, and
// returns a TLS configuration with a certificate it signed for ip and
// localhost.
func newCertificate(ip, caFile string) (*tls.Config, error) {
	template := func(name string) *x509.Certificate {
		serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62)) // crypto/rand does not fail
		return &x509.Certificate{
			SerialNumber: serial, Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := template("rig maas CA")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf := template("rig maas")
	leaf.DNSNames, leaf.IPAddresses = []string{"localhost"}, []net.IP{net.ParseIP(ip)}
	leaf.KeyUsage, leaf.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	if err := os.WriteFile(caFile, text, 0o644); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, nil
}
