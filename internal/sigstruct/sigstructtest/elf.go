// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package sigstructtest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
)

// Section of an ELF file.
type Section struct {
	Name  string
	Type  elf.SectionType // 0: SHT_PROGBITS
	Flags elf.SectionFlag
	Data  []byte
	Size  uint64 // in the section's header; 0: that of Data
}

// ELF returns a shared object for x86-64 that has nothing but sections: the header, their contents, their names, and
// the section headers.
func ELF(sections ...Section) []byte {
	const headerSize, entrySize = 64, 64
	names := []byte{0}
	var body bytes.Buffer
	headers := []elf.Section64{{}}
	add := func(s Section) {
		if s.Type == 0 {
			s.Type = elf.SHT_PROGBITS
		}
		if s.Size == 0 {
			s.Size = uint64(len(s.Data))
		}
		headers = append(headers, elf.Section64{
			Name: uint32(len(names)), Type: uint32(s.Type), Flags: uint64(s.Flags), Off: uint64(headerSize + body.Len()),
			Size: s.Size, Addralign: 1,
		})
		names = append(append(names, s.Name...), 0)
		body.Write(s.Data)
	}
	for _, s := range sections {
		add(s)
	}
	last := ".shstrtab"
	add(Section{Name: last, Type: elf.SHT_STRTAB, Data: append(append([]byte{}, names...), last+"\x00"...)})
	header := elf.Header64{
		Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT), Ehsize: headerSize,
		Shoff: uint64(headerSize + body.Len()), Shentsize: entrySize,
		Shnum: uint16(len(headers)), Shstrndx: uint16(len(headers) - 1),
	}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS] = byte(elf.ELFCLASS64)
	header.Ident[elf.EI_DATA] = byte(elf.ELFDATA2LSB)
	header.Ident[elf.EI_VERSION] = byte(elf.EV_CURRENT)
	var out bytes.Buffer
	for _, part := range []any{header, body.Bytes(), headers} {
		if err := binary.Write(&out, binary.LittleEndian, part); err != nil {
			panic(err) // fixed-size values and a buffer in memory
		}
	}
	return out.Bytes()
}
