// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Command hello is the program of the Pods in the cluster's own test. It listens on port 8080:
//
//	GET /             answers with the Pod's name
//	GET /fetch?url=U  answers with what U answers, asked from inside the Pod
//	PUT /data         stores the body in /data/file, GET /data answers with it
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

const file = "/data/file"

func main() {
	http.HandleFunc("GET /", hello)
	http.HandleFunc("GET /fetch", fetch)
	http.HandleFunc("GET /data", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) })
	http.HandleFunc("PUT /data", store)
	fmt.Println("hello: listening on port 8080")
	if err := http.ListenAndServe(":8080", nil); err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err)
		os.Exit(1)
	}
}

func hello(w http.ResponseWriter, _ *http.Request) {
	name, err := os.Hostname()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintf(w, "hello from %s\n", name)
}

func fetch(w http.ResponseWriter, r *http.Request) {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(r.FormValue("url"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body) // a reader that has gone needs no answer
}

func store(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = os.WriteFile(file, body, 0o600)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}
