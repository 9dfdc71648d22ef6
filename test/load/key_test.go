// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package load

// recoveryKey is a public key of which nobody has the private one.
const recoveryKey = `-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA3BW5buR+QcEls0cbdJkX
xKisdYo47UA6yjADt6endwrjuKZo9RxOakmh74LnX9Bm09B9bUFCuwPE3AYj9P1n
rYQY2T/7kLpJNsf5LULUPDlFCWsDpQlzqj0C+0qMudJJUkDryzpgayY7O9kzSnET
EKI7N9Ew/5fQh5RRkOIjTxWyLrMCDnrkeqI4u6a5Y5r8Yt6V63i4YQiSYwjlparB
U7IDGu2Z+3iUfuITOKC91ykTZm/oQaTSPQew5/lX77FVXe201+J3yGEzgKgNKzK4
MbayZFfEri9Tuz+fsQyCbnHoGsFttkb2VjUcVfp03sI0qYpnyZy6RBAfXVtf2F8Y
0wIDAQAB
-----END PUBLIC KEY-----
`
