# shellcheck shell=bash
#
# Throw-away PostgreSQL servers for the demo, the tests and the benchmarks.
#
# Source this file from a bash script that runs under `set -eu`:
#
#	. "$(dirname "$0")/lib.sh"
#	vsg_build                         copy the sources aside and compile them
#	vsg_root                          relocate PostgreSQL and install into it
#	vsg_start main "work_mem = 64MB"  a cluster; PGHOST, PGPORT, … point at it
#	vsg_psql -c 'CREATE EXTENSION visage'
#
# What holds everywhere: everything lives in one mktemp directory, VSG_DIR.
# The installed PostgreSQL is copied there (it finds its share and lib
# directories relative to its own binary), so neither the system's files nor
# any existing cluster is touched.  The server runs as an ordinary user, as
# which vsg_as runs any command; clients run as whoever calls.  When the
# script ends, however it ends, every server below VSG_DIR is stopped and the
# directory removed; VSG_KEEP=1 keeps the directory, for a look at the logs.
#
# PG_CONFIG chooses the PostgreSQL to use, by default the newest one installed
# by the distribution.

umask 022
export LC_ALL=C.UTF-8
unset PGDATA PGHOST PGPORT PGUSER PGDATABASE PGOPTIONS PGSERVICE PGPASSWORD
unset PGSSLMODE PGHOSTADDR PGCLIENTENCODING MAKEFLAGS MAKELEVEL VSG_DIR

# The directory of the sources.
VSG_SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VSG_AT_EXIT=()

# Environment of the servers started, NAME=VALUE each; and the program to start
# instead of postgres.
VSG_SERVER_ENV=()
VSG_POSTGRES=

# vsg_say TEXT…: one line for the person watching.
vsg_say()
{
	printf '%s\n' "$*"
}

# vsg_die TEXT…: give up.
vsg_die()
{
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# vsg_at_exit COMMAND: run COMMAND when the script ends, last given first.
vsg_at_exit()
{
	VSG_AT_EXIT=("$1" "${VSG_AT_EXIT[@]}")
}

# vsg_cleanup: stop what was started, remove what was made.
vsg_cleanup()
{
	local status=$? command pidfile

	trap - EXIT
	trap '' HUP INT TERM
	set +e
	for command in "${VSG_AT_EXIT[@]}"; do
		eval "$command"
	done
	while IFS= read -r pidfile; do
		vsg_as "$VSG_BIN/pg_ctl" stop -s -w -m immediate \
			-D "${pidfile%/*}" >/dev/null 2>&1
	done < <(find "$VSG_DIR" -name postmaster.pid 2>/dev/null)
	if [ "${VSG_KEEP:-0}" = 1 ]; then
		vsg_say "kept: $VSG_DIR"
	else
		rm -rf "$VSG_DIR"
	fi
	exit "$status"
}

# vsg_find_pg_config: the newest of the distribution's, else the one on PATH.
vsg_find_pg_config()
{
	local candidate found=

	for candidate in /usr/lib/postgresql/*/bin/pg_config; do
		[ -x "$candidate" ] && [ -x "${candidate%_config}_ctl" ] &&
			[ -r "$("$candidate" --pgxs)" ] && found=$candidate
	done
	[ -n "$found" ] || found=$(command -v pg_config) ||
		vsg_die "no pg_config: run scripts/bootstrap or set PG_CONFIG"
	printf '%s\n' "$found"
}

# vsg_init: choose PostgreSQL, the user of the server, and make VSG_DIR.
# Called by the first function that needs it.
vsg_init()
{
	local user

	[ -z "${VSG_DIR:-}" ] || return 0
	PG_CONFIG=${PG_CONFIG:-$(vsg_find_pg_config)}
	# shellcheck disable=SC2034 # for the scripts that source this
	VSG_MAJOR=$("$PG_CONFIG" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')

	VSG_AS=()
	VSG_USER=$(id -un)
	if [ "$(id -u)" = 0 ]; then
		VSG_USER=
		for user in postgres nobody; do
			id "$user" >/dev/null 2>&1 && VSG_USER=$user && break
		done
		[ -n "$VSG_USER" ] || vsg_die "no ordinary user to run a server as"
		VSG_AS=(setpriv "--reuid=$VSG_USER" "--regid=$(id -g "$VSG_USER")" --clear-groups)
	fi

	# a socket's path is limited to 107 bytes
	VSG_DIR=${TMPDIR:-/tmp}
	[ "${#VSG_DIR}" -le 50 ] || VSG_DIR=/tmp
	VSG_DIR=$(mktemp -d "$VSG_DIR/visage.XXXXXX")
	trap vsg_cleanup EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	chmod 755 "$VSG_DIR"
	mkdir "$VSG_DIR/run"
	[ "${#VSG_AS[@]}" = 0 ] || chown "$VSG_USER" "$VSG_DIR/run"

	# where relocated binaries are; vsg_root fills it
	VSG_ROOT=$VSG_DIR/root
	VSG_BIN=$VSG_ROOT$("$PG_CONFIG" --bindir)
	export PG_CONFIG
}

# vsg_as COMMAND…: run a command as the server's user, from VSG_DIR/run,
# where that user may write.
vsg_as()
{
	(
		cd "$VSG_DIR/run" || exit
		HOME=$VSG_DIR/run exec "${VSG_AS[@]}" "$@"
	)
}

# vsg_copy_source DIRECTORY: a copy of the sources, without what was built.
vsg_copy_source()
{
	mkdir -p "$1"
	tar -C "$VSG_SOURCE" --exclude=./.git --exclude='*.o' --exclude='*.so' \
		--exclude='*.bc' --exclude='./visage--*.sql' --exclude=__pycache__ \
		--exclude=./results --exclude=./tmp_check -cf - . |
		tar -C "$1" --no-same-owner -xf -
}

# vsg_build [MAKE-ARGUMENT…]: compile a copy of the sources in VSG_DIR/build.
vsg_build()
{
	vsg_init
	VSG_BUILD=$VSG_DIR/build
	rm -rf "$VSG_BUILD"
	vsg_copy_source "$VSG_BUILD"
	make -s -O -j"$(nproc)" -C "$VSG_BUILD" PG_CONFIG="$PG_CONFIG" \
		with_llvm=no "$@" >"$VSG_DIR/build.log" 2>&1 || {
		head -n 60 "$VSG_DIR/build.log" >&2
		return 1
	}
}

# vsg_root: relocate PostgreSQL into VSG_ROOT and install the build into it.
# Binaries are copied, for they look at their own path; the rest is linked.
vsg_root()
{
	local dir

	vsg_init
	rm -rf "$VSG_ROOT"
	for dir in "$("$PG_CONFIG" --pkglibdir)" "$("$PG_CONFIG" --sharedir)"; do
		mkdir -p "$VSG_ROOT${dir%/*}"
		cp -rs "$dir" "$VSG_ROOT$dir"
	done
	rm -rf "$VSG_BIN"
	mkdir -p "$VSG_BIN"
	cp -L "$("$PG_CONFIG" --bindir)"/* "$VSG_BIN"
	PATH=$VSG_BIN:$PATH
	[ -z "${VSG_BUILD:-}" ] ||
		make -s -C "$VSG_BUILD" PG_CONFIG="$PG_CONFIG" with_llvm=no \
			install "DESTDIR=$VSG_ROOT" >"$VSG_DIR/install.log" 2>&1 || {
		cat "$VSG_DIR/install.log" >&2
		return 1
	}
}

# vsg_free_port: a TCP port of the loopback interface that nobody uses now.
vsg_free_port()
{
	/usr/bin/python3 -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])'
}

# vsg_start NAME [CONFIGURATION-LINE…]: make the cluster NAME unless it is
# there, start it, and point PGHOST, PGPORT, PGUSER and PGDATABASE at it.  It
# listens on a socket only, unless a line sets listen_addresses: then on a
# free port too (host connections need a password).
vsg_start()
{
	local name=$1 data=$VSG_DIR/run/$1

	shift
	if [ ! -d "$data" ]; then
		vsg_as "$VSG_BIN/initdb" -D "$data" -U postgres --no-sync \
			-E UTF8 --locale=C.UTF-8 --auth-local=trust \
			--auth-host=scram-sha-256 >"$VSG_DIR/initdb.log" 2>&1 || {
			cat "$VSG_DIR/initdb.log" >&2
			return 1
		}
		vsg_as mkdir -m 700 "$data.socket"
		cat >>"$data/postgresql.conf" <<-CONF
			listen_addresses = ''
			port = $(vsg_free_port)
			unix_socket_directories = '$data.socket'
			fsync = off
			log_line_prefix = '%m [%p] %q%a '
		CONF
	fi
	[ $# = 0 ] || printf '%s\n' "$@" >>"$data/postgresql.conf"
	vsg_as env "${VSG_SERVER_ENV[@]}" "$VSG_BIN/pg_ctl" start -s -w -t 300 -D "$data" \
		${VSG_POSTGRES:+-p "$VSG_POSTGRES"} \
		-l "$data.log" </dev/null || {
		tail -n 30 "$data.log" >&2
		return 1
	}
	vsg_use "$name"
}

# vsg_use NAME: point the environment of clients at a running cluster.
vsg_use()
{
	export PGHOST=$VSG_DIR/run/$1.socket PGUSER=postgres PGDATABASE=postgres
	PGPORT=$(sed -n 4p "$VSG_DIR/run/$1/postmaster.pid")
	export PGPORT
}

# vsg_log NAME: the path of a cluster's log.
vsg_log()
{
	printf '%s\n' "$VSG_DIR/run/$1.log"
}

# vsg_stop NAME [MODE]: stop a cluster; MODE is fast unless given.
vsg_stop()
{
	vsg_as "$VSG_BIN/pg_ctl" stop -s -w -m "${2:-fast}" -D "$VSG_DIR/run/$1"
}

# vsg_psql ARGUMENT…: psql that reads no .psqlrc and stops at the first error.
vsg_psql()
{
	"$VSG_BIN/psql" -X -q -v ON_ERROR_STOP=1 "$@"
}

# vsg_venv FILE: print the Python of an environment that has the packages FILE
# pins.  It is made once for each content of FILE and kept in the user's
# cache directory.
vsg_venv()
{
	local directory

	directory=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/visage/venv-$(sha256sum "$1" | cut -c 1-16)
	if [ ! -e "$directory/complete" ]; then
		rm -rf "$directory"
		{
			/usr/bin/python3 -m venv "$directory" &&
				"$directory/bin/python" -m pip -q install --disable-pip-version-check -r "$1"
		} >&2 || vsg_die "cannot install what $1 pins"
		touch "$directory/complete"
	fi
	printf '%s\n' "$directory/bin/python"
}
