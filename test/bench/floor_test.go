// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/marblerun/marblerun/test/harness"
)

// floorClient drives the floor process: a bare TLS server that does the cryptography of an activation and nothing else.
type floorClient struct {
	process process
	addr    string
	id      harness.Identity
}

func startFloor(t *testing.T) *floorClient {
	t.Helper()
	f := &floorClient{addr: harness.FreeAddr(t), id: harness.NewIdentity(t, "marble")}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "MARBLERUN_FLOOR_ADDR="+f.addr)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	f.process = process{cmd.Process.Pid}
	for deadline := time.Now().Add(10 * time.Second); ; {
		if err := f.handshake(context.Background()); err == nil {
			return f
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// handshake connects, sends the CSR and waits for the signature.
func (f *floorClient) handshake(context.Context) error {
	conn, err := tls.Dial("tcp", f.addr, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{f.id.TLS}})
	if err != nil {
		return err
	}
	defer conn.Close()
	msg := append(binary.BigEndian.AppendUint32(nil, uint32(len(f.id.CSR))), f.id.CSR...)
	if _, err := conn.Write(msg); err != nil {
		return err
	}
	_, err = io.ReadAll(conn)
	return err
}

// serveFloor is the floor process.
func serveFloor() {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		log.Fatal(err)
	}
	l, err := tls.Listen("tcp", os.Getenv("MARBLERUN_FLOOR_ADDR"), &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		ClientAuth:   tls.RequireAnyClientCert, SessionTicketsDisabled: true,
	})
	if err != nil {
		log.Fatal(err)
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			defer conn.Close()
			if err := floorWork(conn, key); err != nil {
				fmt.Fprintln(os.Stderr, "floor:", err)
			}
		}()
	}
}

// floorWork is what no implementation of the protocol can avoid.
func floorWork(conn net.Conn, ca *ecdsa.PrivateKey) error {
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return err
	}
	data := make([]byte, min(binary.BigEndian.Uint32(size[:]), 1<<16))
	if _, err := io.ReadFull(conn, data); err != nil {
		return err
	}
	csr, err := x509.ParseCertificateRequest(data)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return err
	}
	leaf, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return err
	}
	digest := sha512.Sum384(leaf.X.Bytes())
	signature, err := ecdsa.SignASN1(rand.Reader, ca, digest[:])
	if err != nil {
		return err
	}
	_, err = conn.Write(signature)
	return err
}
