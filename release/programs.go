// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/marblerun/marblerun/release/build"
	"github.com/marblerun/marblerun/release/image"
)

func linux() []build.Platform {
	return []build.Platform{{OS: "linux", Arch: "amd64"}, {OS: "linux", Arch: "arm64"}}
}

// program is one that is published as a file.
type program struct {
	pkg       string
	platforms []build.Platform
}

func programs() []program {
	return []program{
		{"./cmd/coordinator", linux()},
		{"./cmd/premain-libos", linux()},
		{"./cmd/marble-injector", linux()},
		{"./cmd/marblerun", append(linux(),
			build.Platform{OS: "darwin", Arch: "amd64"}, build.Platform{OS: "darwin", Arch: "arm64"},
			build.Platform{OS: "windows", Arch: "amd64"}, build.Platform{OS: "windows", Arch: "arm64"})},
	}
}

// Paths in the images. The chart and images/ name them, too.
const (
	coordinatorState = "/coordinator/data"
	marbleFolder     = "/marble"
	certificates     = "/etc/ssl/certs/ca-certificates.crt"
)

// picture is an image and the programs in it, as packages.
type picture struct {
	image.Spec
	packages []string
}

// pictures describes the images. roots are root certificates in PEM: the Coordinator is the only one that speaks to
// servers of the public web, Intel's and AMD's.
func pictures(roots []byte) []picture {
	all := []picture{
		{image.Spec{
			Name: "coordinator", Title: "Marblerun Coordinator",
			Layers: [][]image.File{
				{{Path: certificates, Mode: 0o644, Content: roots}, folder(coordinatorState)},
				{executable("/coordinator/coordinator", "coordinator")},
			},
			Entrypoint: []string{"/coordinator/coordinator"},
			Env:        []string{"EDG_COORDINATOR_SEAL_DIR=" + coordinatorState},
			WorkingDir: "/coordinator", Ports: []string{"4433/tcp", "2001/tcp"},
		}, []string{"./cmd/coordinator"}},
		{image.Spec{
			Name: "marble-injector", Title: "Marblerun admission webhook",
			Layers:     [][]image.File{{executable("/marble-injector", "marble-injector")}},
			Entrypoint: []string{"/marble-injector"}, WorkingDir: "/", Ports: []string{"8443/tcp"},
		}, []string{"./cmd/marble-injector"}},
	}
	for _, s := range []struct {
		name  string
		ports []string
	}{{"echo-server", []string{"7000/tcp"}}, {"echo-client", nil}, {"web", []string{"8443/tcp"}}, {"one-time-job", nil}} {
		all = append(all, sample(s.name, s.ports))
	}
	return all
}

// sample is a Marble: premain-libos activates it and becomes the sample. Both are in the entrypoint, because
// arguments of a Pod replace the command of an image, and those of a Marble come from the manifest alone. Relative
// paths of the manifest's files count from the working directory, which the Marble may write to; with a read-only
// root it needs a volume there.
func sample(name string, ports []string) picture {
	return picture{image.Spec{
		Name: "samples/" + name, Title: "Marblerun sample " + name,
		Layers: [][]image.File{
			{folder(marbleFolder), executable("/premain-libos", "premain-libos")},
			{executable("/"+name, name)},
		},
		Entrypoint: []string{"/premain-libos", "/" + name}, WorkingDir: marbleFolder, Ports: ports,
	}, []string{"./cmd/premain-libos", "./samples/" + name}}
}

func executable(path, program string) image.File {
	return image.File{Path: path, Mode: 0o755, Program: program}
}

// folder is one that the processes of the image may write to, and nobody else may look into.
func folder(path string) image.File {
	return image.File{Path: path, Folder: true, Mode: 0o700, Owner: image.ID}
}
