// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package tee

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/marblerun/marblerun/internal/seal"
)

// snpParameters say how the key of a blob is derived. In a blob they are 28 bytes, big-endian, in this order.
type snpParameters struct {
	root   uint32 // ROOT_KEY_SELECT and KEY_SEL
	fields uint64 // GUEST_FIELD_SELECT
	vmpl   uint32 // privilege level, 0 (highest) to 3
	svn    uint32 // guest SVN
	tcb    tcb
}

const snpParameterSize = 4 + 8 + 4 + 4 + 8

func (p snpParameters) encode() []byte {
	out := binary.BigEndian.AppendUint32(nil, p.root)
	out = binary.BigEndian.AppendUint64(out, p.fields)
	out = binary.BigEndian.AppendUint32(out, p.vmpl)
	out = binary.BigEndian.AppendUint32(out, p.svn)
	return binary.BigEndian.AppendUint64(out, uint64(p.tcb))
}

// decodeSNPParameters reads exactly snpParameterSize bytes.
func decodeSNPParameters(b []byte) snpParameters {
	return snpParameters{
		root:   binary.BigEndian.Uint32(b),
		fields: binary.BigEndian.Uint64(b[4:]),
		vmpl:   binary.BigEndian.Uint32(b[12:]),
		svn:    binary.BigEndian.Uint32(b[16:]),
		tcb:    tcb(binary.BigEndian.Uint64(b[20:])),
	}
}

// tcb is a TCB_VERSION: eight component versions of one byte each, to be compared one by one (FORMATS §5.1).
type tcb uint64

func (t tcb) atMost(limit tcb) bool {
	for shift := 0; shift < 64; shift += 8 {
		if byte(t>>shift) > byte(limit>>shift) {
			return false
		}
	}
	return true
}

// GUEST_FIELD_SELECT: what is mixed into the key.
const (
	fieldPolicy      = 1 << 0
	fieldImageID     = 1 << 1
	fieldFamilyID    = 1 << 2
	fieldMeasurement = 1 << 3
	fieldSVN         = 1 << 4
	fieldTCB         = 1 << 5

	fieldsProduct = fieldPolicy | fieldImageID | fieldFamilyID | fieldSVN | fieldTCB
	fieldsUnique  = fieldsProduct | fieldMeasurement
)

// ROOT_KEY_SELECT, bit 0: 0 for the chip's or provider's key, 1 for the VM root key, which does not survive the VM.
// KEY_SEL, bits 2:1, since firmware that knows provider keys: 0 provider's if installed, else the chip's; 1 the chip's.
const (
	rootDefault = 0 << 1
	rootChip    = 1 << 1
)

// snp seals with keys derived by the security processor.
type snp struct {
	name     string
	required uint64 // fields that must be mixed in
	use      label
	guest    *guest
	random   io.Reader
}

func snpSealers(cfg Config) (seal.Sealers, error) {
	g, err := newGuest(cfg)
	if err != nil {
		return seal.Sealers{}, err
	}
	product := &snp{"snp-product", fieldsProduct, labelSNPProduct, g, cfg.Rand}
	switch {
	case !cfg.SNPProductByIDBlock:
		product.required = fieldsUnique
		cfg.Log.Info("The product key includes the measurement of this guest. After an update the state opens by recovery")
	case !g.self.signed:
		return seal.Sealers{}, errors.New("the product key is to be bound to the ID block, but this guest was launched " +
			"without one: every guest on this machine could have its key")
	}
	return seal.Sealers{
		Product: product,
		Unique:  &snp{"snp-unique", fieldsUnique, labelSNPUnique, g, cfg.Rand},
	}, nil
}

func (s *snp) Name() string { return s.name }

// Seal implements seal.Sealer. The key is that of the current guest SVN and of the committed TCB.
func (s *snp) Seal(ctx context.Context, plaintext, aad []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	self := s.guest.self
	p := snpParameters{root: rootChip, fields: s.required, vmpl: self.vmpl, svn: self.svn, tcb: self.committed}
	key, err := s.guest.derive(p)
	if errors.Is(err, statusInvalidParameter) || errors.Is(err, statusInvalidKeySelection) {
		p.root = rootDefault // firmware too old to be asked, or the provider masks the chip's key
		key, err = s.guest.derive(p)
	}
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return sealBlob(key, s.use, driverSNP, p.encode(), plaintext, aad, s.random)
}

// Unseal implements seal.Sealer. It also opens what an older version of the guest sealed on an older TCB.
func (s *snp) Unseal(ctx context.Context, sealed, aad []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b, err := parseBlob(sealed, driverSNP)
	if err != nil {
		return nil, err
	}
	p := decodeSNPParameters(b.parameters())
	if err := s.acceptable(p); err != nil {
		return nil, err
	}
	key, err := s.guest.derive(p)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	plaintext, err := b.open(key, s.use, aad)
	if err != nil {
		return nil, fmt.Errorf("%w (the key is another one on another machine, and in a guest of another %s)",
			err, s.identity())
	}
	return plaintext, nil
}

func (s *snp) identity() string {
	if s.required&fieldMeasurement != 0 {
		return "measurement, policy or ID block"
	}
	return "policy or ID block"
}

// acceptable refuses parameters that this guest would not seal with itself: the host may have written them, together
// with a key that a guest of its own has. It also refuses, in better words, what the firmware would.
func (s *snp) acceptable(p snpParameters) error {
	self := s.guest.self
	switch {
	case p.root != rootChip && p.root != rootDefault:
		return fmt.Errorf("%w: root key %#x is not one to seal with", seal.ErrWrongKey, p.root)
	case p.fields&s.required != s.required || p.fields&^uint64(fieldsUnique) != 0:
		return fmt.Errorf("%w: it was sealed for guest fields %#x, this sealer needs %#x",
			seal.ErrWrongKey, p.fields, s.required)
	case p.vmpl != self.vmpl:
		return fmt.Errorf("%w: it was sealed at VMPL %d, this guest runs at VMPL %d", seal.ErrWrongKey, p.vmpl, self.vmpl)
	case p.svn > self.svn:
		return fmt.Errorf("%w: it was sealed by a guest of SVN %d, this guest has SVN %d", seal.ErrWrongKey, p.svn, self.svn)
	case !p.tcb.atMost(self.committed):
		return fmt.Errorf("%w: it was sealed on TCB version %016x, this machine has committed to %016x",
			seal.ErrWrongKey, uint64(p.tcb), uint64(self.committed))
	}
	return nil
}
