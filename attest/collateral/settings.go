// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package collateral

import (
	"time"

	"github.com/marblerun/marblerun/attest/collateral/qcnl"
)

// ApplyQCNL takes over what an sgx_default_qcnl.conf says about collateral: the service, whether its TLS certificate is
// checked, the data set, how long to cache, how to retry. What it says about PCK certificates is the quote provider's.
func (c *Config) ApplyQCNL(q qcnl.Config) {
	if url := q.Collateral(); url != "" {
		c.PCCS = append(c.PCCS, url)
	}
	c.InsecureTLS = c.InsecureTLS || !q.UseSecureCert
	if q.TCBUpdateType != "" {
		c.Update = q.TCBUpdateType
	}
	if q.CollateralExpireHours > 0 {
		c.RefreshAfter = time.Duration(q.CollateralExpireHours) * time.Hour
	}
	if q.RetryTimes > 0 {
		c.Retries = q.RetryTimes
	}
	if q.RetryDelay > 0 {
		c.MaxWait = time.Duration(q.RetryDelay) * time.Second
	}
}
