// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !(linux && amd64)

package issue

// egoSyscall says that there is no EGo here: it runs on linux/amd64 only.
type egoSyscall struct{}

func (egoSyscall) RemoteReport([]byte) ([]byte, error) { return nil, errAbsent }
func (egoSyscall) FreeNothing() error                  { return errAbsent }
