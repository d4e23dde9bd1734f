#!/bin/sh
# What `make lint` checks: format, vet, staticcheck, shell syntax, import rules. All are run even if one is red.
cd "$(dirname "$0")/.." || exit 1
staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2
tags=${TAGS:-urfave_cli_no_docs,nethttpomithttp2}
# ./... leaves out testdata, where the benchmark and the hostile images are.
packages='./... ./testdata/bench ./testdata/hostile'
red=0
check() { # NAME COMMAND...: red if the command fails or says anything
	name=$1
	shift
	if out=$("$@" 2>&1) && [ -z "$out" ]; then
		echo "ok    $name"
	else
		printf 'FAIL  %s\n%s\n' "$name" "$out"
		red=1
	fi
}
shells() {
	for f in scripts/*.sh .ci/run; do
		if head -n 1 "$f" | grep -q bash; then bash -n "$f"; else sh -n "$f"; fi || return
	done
}
imports() { go test -count=1 -tags "$tags" -run '^TestImports' . >/dev/null || go test -count=1 -tags "$tags" -run '^TestImports' .; }

check 'gofmt' gofmt -l .
# shellcheck disable=SC2086 # the packages are words
check 'go vet' go vet -tags "$tags" $packages
# The first time its modules are fetched, which go tells on stderr: that is no finding.
go run "$staticcheck" -version >/dev/null 2>&1
# shellcheck disable=SC2086
check 'staticcheck' go run "$staticcheck" -tags "$tags" $packages
# Another system's view of the same tree: our machine code has an arm64 side too.
# shellcheck disable=SC2086
check 'go vet (arm64)' env GOARCH=arm64 go vet -tags "$tags" $packages
check 'shell syntax' shells
check 'import rules' imports
exit $red
