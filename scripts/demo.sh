#!/bin/sh
# What `make demo` shows: hull's own registry on loopback, its built-in image in it, and that image pulled and run with
# limits, as root and as an ordinary user. Everything is below one temporary folder, which goes away at the end.
set -eu

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

# Shows a command and runs it.
show() {
	printf '$ hull'
	shift
	printf ' %s' "$@"
	echo
	"$hull" "$@"
}

# The session itself. An account without rights to the checkout runs it through a copy of this script.
session() { # HULL IMAGE
	hull=$1
	show hull pull "$2"
	show hull run --rm --network none --memory 64m --cpus 0.5 --pids-limit 32 "$2"
	status=0
	show hull run --rm --network none "$2" exit 7 || status=$?
	echo "exit status: $status"
	[ "$status" = 7 ] || exit 1
	show hull rmi -f "$2"
}
if [ "${1-}" = session ]; then
	session "$2" "$3"
	exit
fi

cd "$(dirname "$0")/.."
work=$(mktemp -d "${TMPDIR:-/tmp}/hull-demo-XXXXXX")
chmod 755 "$work"
hull=$work/hull
cp bin/hull "$hull" # the checkout may belong to root alone
account=
registry=
finish() {
	if [ -n "$registry" ]; then
		kill "$registry" 2>/dev/null || true
		wait "$registry" 2>/dev/null || true
	fi
	[ -z "$account" ] || userdel "$account" || true
	# What subordinate ids own is removed by hull, which can become them; the rest by us.
	rm -rf "$work" || true
}
trap finish EXIT
trap 'exit 1' INT TERM

start_registry() {
	say 'A registry on loopback, holding the image "hello" that is made from hull itself'
	"$work/hull" registry serve --addr 127.0.0.1:0 "$work/registry" >"$work/registry.log" 2>&1 &
	registry=$!
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		address=$(grep -o '127\.0\.0\.1:[0-9][0-9]*' "$work/registry.log" | head -n 1) && [ -n "$address" ] && break
		sleep 0.2
	done
	[ -n "$address" ] || { echo 'demo: the registry did not start:' >&2; cat "$work/registry.log" >&2; exit 1; }
	image=$address/hello
	export HULL_ROOT="$work/root"
	show hull tag hello "$image"
	show hull push "$image"
	show hull rmi -f hello "$image" # so that pull has something to do
}

as_user() {
	uid=64321 # a number that no account has, should there be no way to make one
	if useradd --no-create-home --home-dir "$work/home" --user-group "hulldemo$$" 2>/dev/null; then
		account=hulldemo$$
		uid=$(id -u "$account")
	else
		echo 'demo: no account could be made (useradd), so the ordinary user is a bare number without subordinate ids'
	fi
	mkdir -m 700 "$work/home"
	chown "$uid:$uid" "$work/home"
	env -i PATH="$PATH" HOME="$work/home" TERM="${TERM-}" HULL_ROOT="$work/home/root" \
		setpriv --reuid "$uid" --regid "$uid" --clear-groups sh "$work/demo.sh" session "$work/hull" "$image"
}

cp scripts/demo.sh "$work/demo.sh"
start_registry
if [ "$(id -u)" = 0 ]; then
	say 'As root'
	session "$work/hull" "$image"
	say 'As an ordinary user'
	as_user
else
	say 'As an ordinary user (root'"'"'s part is not shown: this is not root)'
	session "$work/hull" "$image"
fi
say 'Done. The registry ends and the temporary folder goes away now.'
