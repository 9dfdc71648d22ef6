// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package tee

import "io/fs"

// openDevice says that there is none: only Linux guests have it.
func openDevice(string) (device, error) { return nil, fs.ErrNotExist }
