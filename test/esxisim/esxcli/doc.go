// Package esxcli is the esxcli and localcli of a simulated host: the namespaces
// that a first boot uses, one file each, over a grammar they share.
//
// The form of what is printed follows real output, per version where versions
// differ; it is tested through the programs, in test/esxisim/hosttools. The
// descriptions in usage texts are the simulator's own.
package esxcli
