// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package issue

import "fmt"

func uname() Uname { return Uname{} }

func openDevice(path string) (device, error) {
	return nil, fmt.Errorf("%s is %w on this operating system", path, errAbsent)
}
