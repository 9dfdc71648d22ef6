// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package attest

// Merge returns the platform status s after a half of its trusted computing base, the TDX module or the quoting
// enclave, has been found to have status half (FORMATS §1.9 steps 4 and 6). Halves have the statuses UpToDate,
// OutOfDate, Revoked and NotSupported, or none; both sides count.
func (s TCBStatus) Merge(half TCBStatus) TCBStatus {
	switch {
	case s == NotSupported || half == NotSupported:
		return NotSupported
	case s == Revoked || half == Revoked:
		return Revoked
	case half != OutOfDate:
		return s
	case s == UpToDate || s == SWHardeningNeeded:
		return OutOfDate
	case s == ConfigurationNeeded || s == ConfigurationAndSWHardeningNeeded:
		return OutOfDateConfigurationNeeded
	}
	return s
}

// outOfDate tells whether s says that something of the platform is older than it should be.
func (s TCBStatus) outOfDate() bool { return s == OutOfDate || s == OutOfDateConfigurationNeeded }

// graced is s, counting as current what is only out of date.
func (s TCBStatus) graced() TCBStatus {
	switch s {
	case OutOfDate:
		return UpToDate
	case OutOfDateConfigurationNeeded:
		return ConfigurationNeeded
	}
	return s
}
