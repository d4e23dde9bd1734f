package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hullrun/hull/registry"
)

// Policy says what is demanded of images, by how their names begin: REGISTRY[/PATH] or, for all without an entry of their
// own, "*". Of several entries the longest counts; each ends where a part of the name does.
type Policy map[string]PolicyRule

// PolicyRule is what an entry demands: "reject" or "accept", or files of public keys, by one of which an image must be signed.
type PolicyRule []string

// The words in place of keys, and the key of the entry for all.
const (
	policyReject = "reject"
	policyAccept = "accept"
	policyAll    = "*"
)

// hubNames are what the Hub's registry is called, too.
const hubNames = " index.docker.io registry-1.docker.io registry.hub.docker.com "

// UnmarshalJSON takes one word or file, or a list of files.
func (r *PolicyRule) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil && string(data) != "null" {
		*r = PolicyRule{one}
		return nil
	}
	var list []string
	if err := json.Unmarshal(data, &list); err != nil || len(list) == 0 {
		return errors.New(`policy: want "reject", "accept", the file of a public key, or a list of such files`)
	}
	*r = list
	return nil
}

// check looks for what cannot be meant.
func (p Policy) check() error {
	seen := map[string]string{}
	for entry, rule := range p {
		if err := checkPolicyEntry(entry); err != nil {
			return fmt.Errorf("policy: %q: %w", entry, err)
		}
		name := officialName(policyPrefix(entry))
		if other, twice := seen[name]; twice {
			return fmt.Errorf("policy: %q and %q mean the same", min(entry, other), max(entry, other))
		}
		seen[name] = entry
		for _, key := range rule {
			if word := key == policyReject || key == policyAccept; !filepath.IsAbs(key) && (!word || len(rule) > 1) {
				return fmt.Errorf(`policy: %q: %q: want "reject", "accept" or the absolute path of a public key`, entry, key)
			}
		}
	}
	return nil
}

func checkPolicyEntry(entry string) error {
	if entry == policyAll {
		return nil
	}
	host, _, _ := strings.Cut(entry, "/")
	ref, err := registry.ParseReference(entry + "/x")
	if err != nil || strings.ContainsAny(strings.TrimPrefix(entry, host), ":@") {
		return errors.New("want REGISTRY[/PATH], without tag and digest")
	}
	if policyHost(host) != policyHost(ref.Domain) {
		return fmt.Errorf("want REGISTRY[/PATH]: is %q meant?", "docker.io/"+entry)
	}
	return nil
}

// policyHost is the one name of a registry that has several.
func policyHost(host string) string {
	host = strings.TrimSuffix(strings.ToLower(host), ":443")
	if strings.Contains(hubNames, " "+host+" ") {
		return "docker.io"
	}
	return host
}

// policyPrefix is an entry as policyName writes names.
func policyPrefix(entry string) string {
	host, path, hasPath := strings.Cut(entry, "/")
	if !hasPath {
		return policyHost(host)
	}
	return policyHost(host) + "/" + path
}

// policyName is a repository as policies know it.
func policyName(ref registry.Reference) string { return policyHost(ref.Domain) + "/" + ref.Path }

// officialName is the repository that docker.io/NAME means: docker.io/library/NAME. Other names it gives back.
func officialName(prefix string) string {
	if name, ok := strings.CutPrefix(prefix, "docker.io/"); ok && !strings.Contains(name, "/") && name != "library" {
		return "docker.io/library/" + name
	}
	return prefix
}

// rule finds the entry for a repository; the zero reference stands for an image without a name. No entry is "".
func (p Policy) rule(ref registry.Reference) (entry string) {
	name, best := policyName(ref), -1
	for e := range p {
		prefix := policyPrefix(e)
		length := -1
		switch rest, begins := strings.CutPrefix(name, prefix); {
		case e == policyAll:
			length = 0
		case ref.Path == "":
		case officialName(prefix) == name:
			length = len(name)
		case begins && rest[0] == '/':
			length = len(prefix)
		}
		if length > best {
			entry, best = e, length
		}
	}
	return entry
}

// filedPolicy is a policy and where it stands.
type filedPolicy struct {
	file string
	Policy
}

// demand is what one policy, or the caller, wants of an image: a signature by one of keys.
type demand struct{ keys []registry.Key }

// demands lists what must hold for images of a name, all of it: what the caller asks for, and the policies.
func (h *Host) demands(ref registry.Reference) ([]demand, error) {
	s, err := h.Settings()
	if err != nil {
		return nil, err
	}
	all, err := s.demands(ref)
	if err == nil && len(h.Verify) > 0 {
		all = append(all, demand{h.Verify})
	}
	return all, err
}

// demands lists what each configuration file wants for itself, so that none takes back what another wants. It is an error if
// one rejects the name.
func (s *Settings) demands(ref registry.Reference) (all []demand, err error) {
	for _, p := range s.policies {
		entry := p.rule(ref)
		rule := p.Policy[entry]
		if entry == "" || rule[0] == policyAccept {
			continue
		}
		if rule[0] == policyReject {
			return nil, fmt.Errorf("policy rejects %s\nit says so of %q in %s", imageWord(ref), entry, p.file)
		}
		var d demand
		for _, file := range rule {
			key, err := registry.ReadKey(file)
			if err != nil {
				return nil, fmt.Errorf("policy for %q in %s: %w", entry, p.file, err)
			}
			d.keys = append(d.keys, key)
		}
		all = append(all, d)
	}
	return all, nil
}

// imageWord is what a message calls an image.
func imageWord(ref registry.Reference) string {
	if ref.Path == "" {
		return "an image without a name"
	}
	return ref.String()
}

// noted gives the key by which a demand is met according to what is known here of a manifest.
func (d demand) noted(verified []string) (registry.Key, bool) {
	for _, k := range d.keys {
		if slices.Contains(verified, k.Fingerprint) {
			return k, true
		}
	}
	return registry.Key{}, false
}
