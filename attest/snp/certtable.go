// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"encoding/binary"
	"slices"
)

// Bounds of a certificate table.
const (
	maxTableSize    = 1 << 20
	maxTableEntries = 64
	tableEntrySize  = 24 // GUID[16], offset u32, length u32
)

// CertTable is the certificate table of an extended report, or of a configfs-tsm auxblob. Fields are nil where the host
// did not provide the certificate. Nothing in it is trusted before Verify.
type CertTable struct {
	VCEK, VLEK, ASK, ARK, CRL []byte
}

// ParseCertTable reads a table: 24-byte entries up to one that is all zero, offsets counted from the table's beginning.
// Unknown entries are skipped; an empty or all-zero input is an empty table. The result shares memory with b.
func ParseCertTable(b []byte) (CertTable, error) {
	var t CertTable
	if len(b) > maxTableSize {
		return t, refuse(CodeFormat, "", "", "certificate table of %d bytes, at most %d are read", len(b), maxTableSize)
	}
	for i := 0; i < maxTableEntries; i++ {
		at := i * tableEntrySize
		if at == len(b) && i == 0 {
			return t, nil
		}
		if at+tableEntrySize > len(b) {
			return CertTable{}, refuse(CodeFormat, "", "", "the certificate table ends within entry %d", i)
		}
		entry := b[at : at+tableEntrySize]
		if zero(entry) {
			return t, nil
		}
		if err := t.take(entry, b); err != nil {
			return CertTable{}, err
		}
	}
	return CertTable{}, refuse(CodeFormat, "", "", "the certificate table has more than %d entries", maxTableEntries)
}

func (t *CertTable) take(entry, b []byte) error {
	offset, length := uint64(binary.LittleEndian.Uint32(entry[16:])), uint64(binary.LittleEndian.Uint32(entry[20:]))
	if offset+length > uint64(len(b)) {
		return refuse(CodeFormat, "", "", "a certificate table entry points outside: offset %d length %d of %d",
			offset, length, len(b))
	}
	slot := t.slot([16]byte(entry))
	if slot == nil {
		return nil
	}
	if *slot != nil {
		return refuse(CodeFormat, "", "", "the certificate table has an entry twice: %x", entry[:16])
	}
	*slot = b[offset : offset+length : offset+length]
	return nil
}

// slots lists the entries, FORMATS §5.2, with their GUIDs in the byte order of the text.
func (t *CertTable) slots() []tableSlot {
	return []tableSlot{
		// 63da758d-e664-4564-adc5-f4b93be8accd
		{[16]byte{0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd}, &t.VCEK},
		// a8074bc2-a25a-483e-aae6-39c045a0b8a1
		{[16]byte{0xa8, 0x07, 0x4b, 0xc2, 0xa2, 0x5a, 0x48, 0x3e, 0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0, 0xb8, 0xa1}, &t.VLEK},
		// 4ab7b379-bbac-4fe4-a02f-05aef327c782
		{[16]byte{0x4a, 0xb7, 0xb3, 0x79, 0xbb, 0xac, 0x4f, 0xe4, 0xa0, 0x2f, 0x05, 0xae, 0xf3, 0x27, 0xc7, 0x82}, &t.ASK},
		// c0b406a4-a803-4952-9743-3fb6014cd0ae
		{[16]byte{0xc0, 0xb4, 0x06, 0xa4, 0xa8, 0x03, 0x49, 0x52, 0x97, 0x43, 0x3f, 0xb6, 0x01, 0x4c, 0xd0, 0xae}, &t.ARK},
		// 92f81bc3-5811-4d3d-97ff-d19f88dc67ea
		{[16]byte{0x92, 0xf8, 0x1b, 0xc3, 0x58, 0x11, 0x4d, 0x3d, 0x97, 0xff, 0xd1, 0x9f, 0x88, 0xdc, 0x67, 0xea}, &t.CRL},
	}
}

type tableSlot struct {
	guid [16]byte
	data *[]byte
}

// slot finds the field of a GUID, in the byte order of its text, or in the mixed order that some hosts use.
func (t *CertTable) slot(guid [16]byte) *[]byte {
	for _, s := range t.slots() {
		if s.guid == guid || s.guid == mixed(guid) {
			return s.data
		}
	}
	return nil
}

// mixed swaps the first three groups of a GUID.
func mixed(g [16]byte) [16]byte {
	slices.Reverse(g[0:4])
	slices.Reverse(g[4:6])
	slices.Reverse(g[6:8])
	return g
}

// Marshal is the inverse of ParseCertTable; entries without content are left out.
func (t CertTable) Marshal() []byte {
	slots := slices.DeleteFunc(t.slots(), func(s tableSlot) bool { return len(*s.data) == 0 })
	offset := (len(slots) + 1) * tableEntrySize
	var head, body []byte
	for _, s := range slots {
		head = append(head, s.guid[:]...)
		head = binary.LittleEndian.AppendUint32(head, uint32(offset+len(body)))
		head = binary.LittleEndian.AppendUint32(head, uint32(len(*s.data)))
		body = append(body, *s.data...)
	}
	return slices.Concat(head, make([]byte, tableEntrySize), body)
}

// Certificates picks what Verify needs for a report signed by the given kind of key.
func (t CertTable) Certificates(k Key) Certificates {
	c := Certificates{VEK: t.VCEK, ASK: t.ASK, ARK: t.ARK, CRL: t.CRL}
	if k == VLEK {
		c.VEK = t.VLEK
	}
	return c
}
