# until.sh CONDITION waits until a condition, a command line, is true, and fails with it on stderr if it never is. A session that has
# functions of its own for it sources this, and calls until_true.
until_true() {
	tries=0
	until eval "$1"; do
		tries=$((tries + 1))
		[ $tries -lt 600 ] || { echo "never: $1" >&2; exit 1; } # half a minute, and longer where commands take long
		sleep 0.05
	done
}
case $0 in *until.sh) until_true "$1" ;; esac
