// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
)

// Labels and annotations of a Pod that are understood.
const (
	LabelType      = "marblerun/marbletype"
	LabelContainer = "marblerun/marblecontainer"
	LabelResources = "marblerun/resource-injection"

	AnnotationEPC         = "marblerun/sgx-epc"
	AnnotationAttestation = "marblerun/attestation"
	AnnotationUUID        = "marblerun/uuid"

	// annotationQuoteProvider is that of Intel's device plugin; quoteProviderAESM its value for out-of-process
	// attestation.
	annotationQuoteProvider = "sgx.intel.com/quote-provider"
	quoteProviderAESM       = "aesmd"
)

// wishes is what the labels and annotations of a Pod ask for.
type wishes struct {
	// marbleType is the Marble's type in the manifest; dnsName the type as a DNS label.
	marbleType, dnsName string
	// only is the name of the only container to touch; "" means all.
	only string
	// resources is false if the Pod sees to SGX resources itself.
	resources bool
	// amount of the plugin's resource per container.
	amount string
	// aesm is true if quotes are made by the AESM service instead of by the Marble's own process.
	aesm bool
	// uuidField is the field of the Pod whose value is the Marble's UUID.
	uuidField string
	// uuid is to be written to the Pod's annotation; "" if nothing is.
	uuid string
}

var uuidText = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// readWishes returns what the Pod wants. refusals are sentences about all that cannot be granted.
func (in *Injector) readWishes(p *pod, namespace string) (w wishes, refusals, warnings []string) {
	marbleType, present := p.labels[LabelType]
	switch {
	case !present:
		return w, []string{"Missing [" + LabelType + "] label"}, nil
	case marbleType == "":
		return w, []string{"Empty [" + LabelType + "] label"}, nil
	case !isLabelValue(marbleType):
		return w, []string{fmt.Sprintf("Invalid [%s] label %.80q: not a label value", LabelType, marbleType)}, nil
	}
	w = wishes{marbleType: marbleType, only: p.labels[LabelContainer], amount: in.plugin.quantity,
		uuidField: "metadata.uid"}
	var note string
	w.dnsName, note = dnsName(marbleType)
	warnings = appendText(warnings, note)
	w.resources, note = readResources(p)
	w.resources = w.resources && in.plugin.key != ""
	warnings = appendText(warnings, note)
	refusals = appendText(refusals, in.readEPC(p, &w))
	note, refusal := readAttestation(p, &w)
	warnings, refusals = appendText(warnings, note), appendText(refusals, refusal)
	note, refusal = readUUID(p, namespace, &w)
	return w, appendText(refusals, refusal), appendText(warnings, note)
}

func appendText(list []string, text string) []string {
	if text == "" {
		return list
	}
	return append(list, text)
}

// dnsName makes a DNS label of a label value, which may also have dots and underscores: no Service can have such a
// name.
func dnsName(marbleType string) (name, warning string) {
	name = strings.NewReplacer(".", "-", "_", "-").Replace(strings.ToLower(marbleType))
	if name != strings.ToLower(marbleType) {
		warning = fmt.Sprintf("Marble type %q is not a DNS label: the Marble's DNS names begin with %q", marbleType, name)
	}
	return name, warning
}

func readResources(p *pod) (enabled bool, warning string) {
	switch value := p.labels[LabelResources]; value {
	case "disabled":
		return false, ""
	case "", "enabled":
		return true, ""
	default:
		return true, fmt.Sprintf("label %s: %.80q is not known and ignored; did you mean disabled?", LabelResources, value)
	}
}

func (in *Injector) readEPC(p *pod, w *wishes) (refusal string) {
	text, present := p.annotations[AnnotationEPC]
	if !present {
		return ""
	}
	size, err := parseQuantity(text)
	if err == nil {
		w.amount, err = in.plugin.fromSize(size)
	}
	if err != nil {
		return fmt.Sprintf("Invalid [%s] annotation: %.200v", AnnotationEPC, err)
	}
	return ""
}

// readAttestation also understands the annotation of Intel's plugin alone.
func readAttestation(p *pod, w *wishes) (warning, refusal string) {
	provider := p.annotations[annotationQuoteProvider]
	switch ours := p.annotations[AnnotationAttestation]; ours {
	case "":
		w.aesm = provider == quoteProviderAESM
	case "in-process":
	case "out-of-process":
		w.aesm = true
	default:
		return "", fmt.Sprintf("Invalid [%s] annotation %.80q: want in-process or out-of-process",
			AnnotationAttestation, ours)
	}
	if provider != "" && w.aesm != (provider == quoteProviderAESM) {
		warning = fmt.Sprintf("annotations %s and %s: %.80q contradict each other; the latter is left as it is",
			AnnotationAttestation, annotationQuoteProvider, provider)
	}
	return warning, ""
}

// readUUID: by default the Marble's UUID is the Pod's, so that a recreated Pod is another Marble.
func readUUID(p *pod, namespace string, w *wishes) (warning, refusal string) {
	const shown = "metadata.annotations['" + AnnotationUUID + "']"
	switch text := p.annotations[AnnotationUUID]; {
	case text == "" || text == "pod":
	case text == "stable" && p.name == "":
		return fmt.Sprintf("annotation %s: stable needs a Pod with a stable name, as in a StatefulSet; the Pod's UID is used",
			AnnotationUUID), ""
	case text == "stable":
		w.uuidField, w.uuid = shown, stableUUID(namespace, p.name, w.marbleType)
	case uuidText.MatchString(text):
		w.uuidField = shown
	default:
		return "", fmt.Sprintf("Invalid [%s] annotation %.80q: want pod, stable or a UUID", AnnotationUUID, text)
	}
	return "", ""
}

// stableUUID is a UUID of version 8 (RFC 9562 §5.8): the first 16 bytes of SHA-256 over the label and the three names,
// which have no slash.
func stableUUID(namespace, name, marbleType string) string {
	sum := sha256.Sum256([]byte("marblerun stable uuid v1/" + namespace + "/" + name + "/" + marbleType))
	sum[6] = sum[6]&0x0f | 0x80
	sum[8] = sum[8]&0x3f | 0x80
	x := hex.EncodeToString(sum[:16])
	return x[:8] + "-" + x[8:12] + "-" + x[12:16] + "-" + x[16:20] + "-" + x[20:]
}
