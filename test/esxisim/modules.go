package esxisim

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
)

// Module is one file that the boot loader loads and the installer copies into
// the boot bank.
type Module struct {
	Name string // lower case, 8.3, no directory
	Size int64
	Open func() (io.ReadCloser, error)
}

// Module names in boot.cfg's order, from public ISOs' boot.cfg and listings.
// That of 6.x is known in part only.
const (
	modules6 = `jumpstrt.gz useropts.gz features.gz k.b00 chardevs.b00 a.b00 user.b00 uc_intel.b00 uc_amd.b00 sb.v00 s.v00
		elxnet.v00 i40en.v00 igbn.v00 ixgben.v00 lpfc.v00 lsi_mr3.v00 lsi_msgp.v00 lsi_msgp.v01 ne1000.v00 nenic.v00
		net_e100.v00 ntg3.v00 nvme.v00 nvmxnet3.v00 pvscsi.v00 vmkata.v00 vmkusb.v00 vmw_ahci.v00 esx_ui.v00
		esxupdt.v00 vsan.v00 vsanmgmt.v00 weaselin.t00 tools.t00 xorg.v00 imgdb.tgz imgpayld.tgz`
	modules7 = `jumpstrt.gz useropts.gz features.gz k.b00 uc_intel.b00 uc_amd.b00 uc_hygon.b00 procfs.b00 vmx.v00 vim.v00
		tpm.v00 sb.v00 s.v00 atlantic.v00 bnxtnet.v00 bnxtroce.v00 brcmfcoe.v00 elxiscsi.v00 elxnet.v00 i40en.v00
		iavmd.v00 icen.v00 igbn.v00 ionic_en.v00 irdman.v00 iser.v00 ixgben.v00 lpfc.v00 lpnic.v00 lsi_mr3.v00
		lsi_msgp.v00 lsi_msgp.v01 lsi_msgp.v02 mtip32xx.v00 ne1000.v00 nenic.v00 nfnic.v00 nhpsa.v00 nmlx4_co.v00
		nmlx4_en.v00 nmlx4_rd.v00 nmlx5_co.v00 nmlx5_rd.v00 ntg3.v00 nvme_pci.v00 nvmerdma.v00 nvmetcp.v00
		nvmxnet3.v00 nvmxnet3.v01 pvscsi.v00 qcnic.v00 qedentv.v00 qedrntv.v00 qfle3.v00 qfle3f.v00 qfle3i.v00
		qflge.v00 rste.v00 sfvmk.v00 smartpqi.v00 vmkata.v00 vmkfcoe.v00 vmkusb.v00 vmw_ahci.v00 bmcal.v00 crx.v00
		elx_esx_.v00 btldr.v00 esx_dvfi.v00 esx_ui.v00 esxupdt.v00 tpmesxup.v00 weaselin.v00 esxio_co.v00 loadesx.v00
		lsuv2_hp.v00 lsuv2_in.v00 lsuv2_ls.v00 lsuv2_nv.v00 lsuv2_oe.v00 lsuv2_oe.v01 lsuv2_oe.v02 lsuv2_sm.v00
		native_m.v00 qlnative.v00 trx.v00 vdfs.v00 vmware_e.v00 vsan.v00 vsanheal.v00 vsanmgmt.v00 tools.t00 xorg.v00
		gc.v00 imgdb.tgz basemisc.tgz resvibs.tgz imgpayld.tgz`
	modules8 = `jumpstrt.gz useropts.gz features.gz k.b00 uc_intel.b00 uc_amd.b00 uc_hygon.b00 procfs.b00 vmx.v00 vim.v00
		tpm.v00 sb.v00 s.v00 atlantic.v00 bcm_mpi3.v00 bnxtnet.v00 bnxtroce.v00 brcmfcoe.v00 cndi_igc.v00 dwi2c.v00
		elxiscsi.v00 elxnet.v00 i40en.v00 iavmd.v00 icen.v00 igbn.v00 intelgpi.v00 ionic_cl.v00 ionic_en.v00
		irdman.v00 iser.v00 ixgben.v00 lpfc.v00 lpnic.v00 lsi_mr3.v00 lsi_msgp.v00 lsi_msgp.v01 lsi_msgp.v02
		mtip32xx.v00 ne1000.v00 nenic.v00 nfnic.v00 nhpsa.v00 nipmi.v00 nmlx5_cc.v00 nmlx5_co.v00 nmlx5_rd.v00
		ntg3.v00 nvme_pci.v00 nvmerdma.v00 nvmetcp.v00 nvmxnet3.v00 nvmxnet3.v01 pvscsi.v00 qcnic.v00 qedentv.v00
		qedrntv.v00 qfle3.v00 qfle3f.v00 qfle3i.v00 qflge.v00 rdmahl.v00 rshim_ne.v00 rshim.v00 rste.v00 sfvmk.v00
		smartpqi.v00 vmkata.v00 vmksdhci.v00 vmkusb.v00 vmw_ahci.v00 bmcal.v00 clusters.v00 crx.v00 drivervm.v00
		elx_esx_.v00 btldr.v00 dvfilter.v00 esx_ui.v00 esxupdt.v00 tpmesxup.v00 weaselin.v00 esxio_co.v00 infravis.v00
		loadesx.v00 lsuv2_hp.v00 lsuv2_in.v00 lsuv2_ls.v00 lsuv2_nv.v00 lsuv2_oe.v00 lsuv2_oe.v01 lsuv2_sm.v00
		native_m.v00 qlnative.v00 trx.v00 vcls_pod.v00 vdfs.v00 vds_vsip.v00 vmware_e.v00 hbrsrv.v00 vsan.v00
		vsanheal.v00 vsanmgmt.v00 tools.t00 xorg.v00 gc.v00 imgdb.tgz basemisc.tgz resvibs.tgz esxiodpt.tgz
		imgpayld.tgz`
)

// moduleNames are the modules behind the kernel.
func (r Release) moduleNames() []string {
	switch {
	case r.AtLeast(8):
		return strings.Fields(modules8)
	case r.AtLeast(7):
		return strings.Fields(modules7)
	}
	return strings.Fields(modules6)
}

// bankModules are the modules= of an installed system, whose kernel is b.b00.
// The tools go to the locker, the image's payload stays on the ISO.
func (r Release) bankModules() []string {
	return slices.DeleteFunc(r.moduleNames(), func(name string) bool { return name == "tools.t00" || name == "imgpayld.tgz" })
}

// InstallerKernel is the kernel= of the ISO's boot.cfg: up to 6.7 the trusted
// boot wrapper, which loads b.b00 as its first module.
func (r Release) InstallerKernel() string {
	if r.AtLeast(7) {
		return "b.b00"
	}
	return "tboot.b00"
}

// installerModules are the modules= of the ISO's boot.cfg.
func (r Release) installerModules() []string {
	if r.AtLeast(7) {
		return r.moduleNames()
	}
	return append([]string{"b.b00"}, r.moduleNames()...)
}

// installerModule is the module with the installer in it.
func (r Release) installerModule() string {
	i := slices.IndexFunc(r.moduleNames(), func(name string) bool { return strings.HasPrefix(name, "weaselin.") })
	return r.moduleNames()[i]
}

// heavy are modules that are much larger than a driver.
var heavy = map[string]int64{
	"s.v00": 24, "sb.v00": 8, "vim.v00": 8, "vsan.v00": 8, "vsanmgmt.v00": 4, "tools.t00": 16, "imgpayld.tgz": 16, "esx_ui.v00": 4, "crx.v00": 4,
}

// placeholders are almost empty on the ISO.
var placeholders = map[string]bool{"jumpstrt.gz": true, "useropts.gz": true, "features.gz": true}

// Modules returns all files that the ISO's boot.cfg loads, with contents that
// look random but are the same for the same release.
func (r Release) Modules() []Module {
	names := append([]string{r.InstallerKernel()}, r.installerModules()...)
	var weights int64
	for _, name := range names {
		if !placeholders[name] {
			weights += max(1, heavy[name])
		}
	}
	unit := int64(r.PayloadMiB) << 20 / weights
	modules := make([]Module, 0, len(names))
	for _, name := range names {
		if placeholders[name] {
			modules = append(modules, bytesModule(name, emptyGzip()))
			continue
		}
		modules = append(modules, r.randomFile(name, unit*max(1, heavy[name])))
	}
	return modules
}

// randomFile is a file whose contents follow from the release and its name.
func (r Release) randomFile(name string, size int64) Module {
	seed := sha256.Sum256(fmt.Appendf(nil, "%s %s %s %s", r.Version, r.Build, r.OEM, name))
	return Module{Name: name, Size: size, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(io.LimitReader(rand.NewChaCha8(seed), size)), nil
	}}
}

func bytesModule(name string, data []byte) Module {
	return Module{Name: name, Size: int64(len(data)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	}}
}

// emptyGzip is what the placeholders hold.
func emptyGzip() []byte {
	var b bytes.Buffer
	if err := gzip.NewWriter(&b).Close(); err != nil {
		panic(err) // writing to memory
	}
	return b.Bytes()
}
