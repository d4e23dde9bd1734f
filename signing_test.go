package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hullrun/hull/internal/signing"
)

// keys is the script command "keys NAME...", which makes the key pairs NAME.key and NAME.pub.
func keys(ts *testscript.TestScript, neg bool, args []string) {
	for _, name := range args {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		ts.Check(err)
		der, err := x509.MarshalPKCS8PrivateKey(private)
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs(name+".key"), der, 0o600))
		ts.Check(signing.WriteKey(ts.MkAbs(name+".pub"), private.Public()))
	}
}

// sign is the script command "sign HOW KEY HOST/REPOSITORY:TAG [OTHER]", which signs what the tag stands for and pushes that as
// cosign does: as a "tag", a "referrer" or a "bundle"; "fallback" is a bundle for a registry without the referrers API. With
// OTHER, REPOSITORY:TAG at the same host, what is signed is the image of that, and put beside the first all the same. "sign layout
// KEY DIR" signs the one image of a layout and puts that into it.
func sign(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 || len(args) > 4 {
		ts.Fatalf("usage: sign tag|referrer|bundle|fallback key host/repository:tag [other], or sign layout key dir")
	}
	der, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	private, err := x509.ParsePKCS8PrivateKey(der)
	ts.Check(err)
	key := private.(crypto.Signer)
	if args[0] == "layout" {
		ts.Check(signLayout(key, ts.MkAbs(args[2])))
		return
	}
	host, rest, _ := strings.Cut(args[2], "/")
	path, tag, _ := strings.Cut(rest, ":")
	repository := "http://" + host + "/v2/" + path
	image, err := signing.Head(repository, tag)
	ts.Check(err)
	digest := image.Digest
	if len(args) == 4 {
		path, tag, _ := strings.Cut(args[3], ":")
		other, err := signing.Head("http://"+host+"/v2/"+path, tag)
		ts.Check(err)
		digest = other.Digest
	}
	switch args[0] {
	case "tag":
		a := signing.Simple(key, signing.Payload(host+"/"+path, digest))
		_, err = signing.Push(repository, strings.Replace(image.Digest, ":", "-", 1)+".sig", a)
	case "referrer":
		_, err = signing.Push(repository, "", signing.Simple(key, signing.Payload(host+"/"+path, digest)).Refer(image))
	case "bundle", "fallback":
		var d signing.Descriptor
		d, err = signing.Push(repository, "", signing.Bundle(key, signing.Statement(signing.Predicate, digest), image, signing.Predicate))
		if err == nil && args[0] == "fallback" {
			err = signing.Tag(repository, image.Digest, d)
		}
	default:
		ts.Fatalf("sign %q", args[0])
	}
	ts.Check(err)
}

// signLayout puts a signature into a layout as cosign save does.
func signLayout(key crypto.Signer, dir string) error {
	var index struct {
		SchemaVersion int                  `json:"schemaVersion"`
		Manifests     []signing.Descriptor `json:"manifests"`
	}
	raw, err := os.ReadFile(dir + "/index.json")
	if err == nil {
		err = json.Unmarshal(raw, &index)
	}
	if err != nil {
		return err
	}
	a := signing.Simple(key, signing.Payload("x", index.Manifests[0].Digest))
	if raw, err = json.Marshal(a.Manifest); err != nil {
		return err
	}
	for _, blob := range append(a.Blobs, raw) {
		_, hex, _ := strings.Cut(signing.Digest(blob), ":")
		if err := os.WriteFile(dir+"/blobs/sha256/"+hex, blob, 0o644); err != nil {
			return err
		}
	}
	d := signing.Describe(a.Manifest.MediaType, raw)
	d.Annotations = map[string]string{"kind": "dev.cosignproject.cosign/sigs"}
	index.Manifests = append(index.Manifests, d)
	if raw, err = json.Marshal(index); err != nil {
		return err
	}
	return os.WriteFile(dir+"/index.json", raw, 0o644)
}
