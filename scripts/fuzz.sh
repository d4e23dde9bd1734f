#!/bin/sh
# Runs every fuzz target for the given time (default 30s), one after the other.
cd "$(dirname "$0")/.." || exit 1
time=${1:-30s}
red=0
for pkg in $(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...); do
	for target in $(go test -list '^Fuzz' "$pkg" | grep '^Fuzz'); do
		echo "== $pkg $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$pkg" || red=1
	done
done
exit $red
