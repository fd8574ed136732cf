package host

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"time"
)

// WriteCertificate makes a self-signed certificate for the name in the state
// and puts it where the host's services find it.
func (m *Machine) WriteCertificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	name := m.State.Certificate.CommonName
	template := x509.Certificate{
		SerialNumber: big.NewInt(int64(m.State.Certificate.Generation) + 1),
		Subject:      pkix.Name{CommonName: name, Organization: []string{"VMware, Inc"}},
		DNSNames:     []string{name},
		NotBefore:    m.Now.Add(-time.Hour),
		NotAfter:     m.Now.AddDate(10, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(m.Path("etc/vmware/ssl/rui.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o400); err != nil && !os.IsPermission(err) {
		return err
	}
	return os.WriteFile(m.Path("etc/vmware/ssl/rui.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}
