// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package main

import "syscall"

func detached() *syscall.SysProcAttr { return nil }
