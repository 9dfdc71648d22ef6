// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package apitest

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
)

// invalid says what validation finds in a Secret or webhook configuration.
func invalid(o object) string {
	data, _ := o["data"].(object)
	for key, value := range data {
		text, ok := value.(string)
		if _, err := base64.StdEncoding.DecodeString(text); !ok || err != nil {
			return "data." + key + " is not base64"
		}
	}
	hooks, _ := o["webhooks"].([]any)
	for _, hook := range hooks {
		config, _ := hook.(object)["clientConfig"].(object)
		value, present := config["caBundle"]
		text, _ := value.(string)
		// The API server does not look for certificates in there.
		if _, err := base64.StdEncoding.DecodeString(text); present && err != nil {
			return "clientConfig.caBundle is not base64"
		}
	}
	return ""
}

// merge applies a merge patch (RFC 7386).
func merge(old any, patch any) any {
	members, ok := patch.(object)
	if !ok {
		return patch
	}
	result, ok := old.(object)
	if !ok {
		result = object{}
	}
	for key, value := range members {
		if value == nil {
			delete(result, key)
		} else {
			result[key] = merge(result[key], value)
		}
	}
	return result
}

func versionOf(o object) any {
	metadata, _ := o["metadata"].(object)
	return metadata["resourceVersion"]
}

func copyOf(o object) object {
	encoded, err := json.Marshal(o)
	c := object{}
	if err != nil || json.Unmarshal(encoded, &c) != nil {
		return maps.Clone(o)
	}
	return c
}

func reply(w http.ResponseWriter, code int, v any) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // to a client that may have gone
}

func refuse(w http.ResponseWriter, code int, reason, message string) {
	reply(w, code, object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason,
		"message": message, "code": code})
}
