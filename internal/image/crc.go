package image

import "hash/crc32"

// The register of a CRC-32 is a polynomial over GF(2), modulo crc32.IEEE; it is
// kept with its bits reversed, so bit 31 stands for x^0. Reading a zero byte
// multiplies it by x^8. That is all it takes to continue a checksum over any
// number of zeros, and to join two, without seeing a byte.

const (
	polyOne  = 1 << 31       // x^0
	polyByte = 1 << (31 - 8) // x^8
)

// polyMul multiplies two polynomials modulo crc32.IEEE.
func polyMul(a, b uint32) uint32 {
	var product uint32
	for bit := uint32(polyOne); bit != 0; bit >>= 1 { // x^0 first
		if a&bit != 0 {
			product ^= b
		}
		carry := b & 1 // x^31, about to become x^32
		b >>= 1
		if carry != 0 {
			b ^= crc32.IEEE
		}
	}
	return product
}

// polyBytes returns x^(8n).
func polyBytes(n int64) uint32 {
	result, square := uint32(polyOne), uint32(polyByte)
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			result = polyMul(result, square)
		}
		square = polyMul(square, square)
	}
	return result
}

// crcJoin returns the checksum of A followed by B from those of A and B and the
// length of B.
func crcJoin(a, b uint32, lenB int64) uint32 {
	return polyMul(polyBytes(lenB), a) ^ b
}

// crcZeros returns the checksum of A followed by n zero bytes. The register
// holds the complement of a checksum.
func crcZeros(a uint32, n int64) uint32 {
	return ^polyMul(polyBytes(n), ^a)
}
