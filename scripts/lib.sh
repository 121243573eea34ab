# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034
#
# Sourced by every script: where things are, how a slow step runs, how a script
# ends. What must stay true: nothing is written outside $cache and $build but by
# scripts/export, a failure ends in one line that says what to do, and no process
# outlives its script.

shopt -s inherit_errexit
root=$(cd "$(dirname "$0")/.." && pwd)
me=$(basename "$0")
build=$root/build
cache=${HMM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hmm-series}
job='' child='' tmp=''

# Git by its own defaults: of what its user has set, only the identity, what is trusted,
# and how the network is reached, as if each was given with git -c.
settings=0
while IFS= read -r -d '' setting; do
	export "GIT_CONFIG_KEY_$settings=${setting%%$'\n'*}" "GIT_CONFIG_VALUE_$settings=${setting#*$'\n'}"
	settings=$((settings + 1))
done < <(git -C "$root" config -z --get-regexp '^(user|author|committer|safe|url|b4)\.|^http\..*(proxy|ssl)' 2>/dev/null)
export GIT_CONFIG_COUNT=$settings GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1

# git commit needs an identity: a dummy, if none is configured.
git var GIT_AUTHOR_IDENT >/dev/null 2>&1 ||
	export GIT_AUTHOR_NAME=nobody GIT_AUTHOR_EMAIL=nobody@localhost
git var GIT_COMMITTER_IDENT >/dev/null 2>&1 ||
	export GIT_COMMITTER_NAME=nobody GIT_COMMITTER_EMAIL=nobody@localhost

die() {
	echo "$me: $*" >&2
	exit 1
}

say() {
	echo "$*" >&2
}

# usage [STATUS]: print the comment that opens the script.
usage() {
	sed -n '/^# usage:/,/^$/{/^#/s/^# \{0,1\}//p}' "$0" >&"$((${1:-0} ? 2 : 1))"
	exit "${1:-0}"
}

# Ends process group $1, politely first.
end_group() {
	local i
	kill -TERM -- "-$1" 2>/dev/null || return 0
	for ((i = 0; i < 20; i++)); do
		kill -0 -- "-$1" 2>/dev/null || return 0
		sleep 0.1
	done
	kill -KILL -- "-$1" 2>/dev/null || :
}

finish() {
	local status=$?
	trap '' EXIT INT TERM HUP PIPE
	[ -z "$job" ] || end_group "$job"
	[ -z "$child" ] || { kill -TERM "$child" 2>/dev/null && wait "$child"; } || :
	[ -z "$tmp" ] || rm -rf "$tmp"
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
trap 'exit 141' PIPE

[[ " $* " != *' '@(-h|--help)' '* ]] || usage 0

# once VARIABLE VALUE ARGUMENT: set it, as ARGUMENT of the command line wants, unless another
# has set it otherwise.
declare -A set_by=()
once() {
	[ -z "${set_by[$1]:-}" ] || [ "${!1}" = "$2" ] || die "${set_by[$1]} and $3 exclude each other"
	printf -v "$1" %s "$2"
	set_by[$1]=$3
}

# run COMMAND...: in the background, as bash looks at no signal before a command in
# the foreground ends. Returns its status.
run() {
	local status=0
	"$@" &
	child=$!
	wait "$child" || status=$?
	child=''
	return "$status"
}

# A directory in $tmp that goes when the script does.
scratch() {
	[ -n "$tmp" ] || tmp=$(mktemp -d "${TMPDIR:-/tmp}/hmm.XXXXXX")
}

# step SECONDS LOG WHAT COMMAND...: run a command or function with its output in
# LOG, print every 20 s how far it is (what the function $progress prints), end
# it after SECONDS. Returns its status. What it runs cannot count on set -e, which
# has no effect in a command whose status is looked at.
progress=:
step() {
	local limit=$1 log=$2 what=$3 start=$SECONDS next=20 status=0
	shift 3
	mkdir -p "$(dirname "$log")"
	say "$what ..."
	set -m	# a process group of its own
	{ "$@"; } </dev/null >"$log" 2>&1 &
	job=$!
	set +m
	while kill -0 "$job" 2>/dev/null; do
		sleep 0.2
		if ((SECONDS - start >= limit)); then
			say "  ended: it took longer than $limit s"
			end_group "$job"
		elif ((SECONDS - start >= next)); then
			say "  $((SECONDS - start)) s $($progress)"
			next=$((next + 20))
		fi
	done
	wait "$job" || status=$?
	end_group "$job"	# what a leader that was killed left behind
	job=''
	say "  $([ $status = 0 ] && echo 'done in' || echo 'failed after') $((SECONDS - start)) s"
	return "$status"
}

# need PACKAGE[:PROBE]...: the Debian packages that a script needs. PROBE, a
# command or an absolute path, tells whether it is there; without one a command
# of the package's name does. Root installs what is missing, others are told.
need() {
	local p probe missing=()
	for p; do
		probe=${p#*:}
		if [[ $probe == /* ]]; then
			[ -e "$probe" ] || missing+=("${p%%:*}")
		else
			command -v "$probe" >/dev/null || missing+=("${p%%:*}")
		fi
	done
	[ ${#missing[@]} != 0 ] || return 0
	[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null ||
		die "missing: ${missing[*]}; as root: apt-get install ${missing[*]}"
	step 900 "$build/log/install" "installing ${missing[*]}" install_packages "${missing[@]}" ||
		die "cannot install ${missing[*]}; see $build/log/install"
}

# The packages that scripts/kunit needs for each engine, and those of scripts/vm. A script
# that calls these asks for all of them at its start.
uml_needs=(git make gcc flex bison bc python3:/usr/bin/python3 jq ccache util-linux:flock
	libc6-dev:/usr/include/stdio.h xz-utils:xz)
x86_64_needs=(qemu-system-x86:qemu-system-x86_64 libelf-dev:/usr/include/gelf.h
	libssl-dev:/usr/include/openssl/ssl.h)
vm_needs=(rdma-core:/usr/share/doc/rdma-core ibverbs-providers:/usr/share/doc/ibverbs-providers
	ibverbs-utils:/usr/bin/ibv_rc_pingpong libibverbs-dev:/usr/include/infiniband/verbs.h
	iproute2:/sbin/ip e2fsprogs:/sbin/mkfs.ext4 util-linux:setsid perl)

install_packages() {
	export DEBIAN_FRONTEND=noninteractive
	apt-get -q update && apt-get -q install -y --no-install-recommends "$@"
}

# The lines of log $1 that no kernel should print, with their numbers.
splats() {
	grep -v '^#' "$root/configs/splats" | grep . >"$tmp/splats"
	echo 'BUG: x' | grep -qEf "$tmp/splats" && [ -s "$1" ] || { echo '0:it cannot be searched'; return; }
	without_allowed "$1" >"$tmp/searched" && [ -s "$tmp/searched" ] &&
		{ grep -anEf "$tmp/splats" "$tmp/searched" || [ $? = 1 ]; } || echo '0:it cannot be searched'
}

# Log $1 with empty lines in place of the warnings, and races, that configs/splats-allowed
# names.
without_allowed() {
	grep -v '^#' "$root/configs/splats-allowed" >"$tmp/allowed" || [ $? = 1 ] || return
	tr -d '\0' <"$1" | awk -v allowed="$tmp/allowed" '
		BEGIN { while ((getline line <allowed) > 0) if (line) pattern[line] }
		{ text[NR] = $0 }
		/BUG: KCSAN: / { for (line in pattern) if ($0 ~ line) text[NR] = "" }
		/\[ cut here \]/ { start = NR; known = 0 }
		start { for (line in pattern) if ($0 ~ line) known = 1 }
		/---\[ end trace/ && start {
			for (i = start; known && i <= NR; i++)
				text[i] = ""
			start = 0
		}
		END { for (i = 1; i <= NR; i++) print text[i] }'
}

# room DIRECTORY GB: there is so much free where DIRECTORY is or will be.
room() {
	local free
	mkdir -p "$1"
	free=$(($(df --output=avail -BM "$1" | tail -n 1 | tr -dc 0-9) / 1024))
	[ "$free" -ge "$2" ] || die "$1 has $free GB free, $2 are wanted"
}

# pin KEY: the values that configs/base gives KEY, a line each.
pin() {
	sed -n "s/^$1 //p" "$root/configs/base"
}

# unlike_pin REPOSITORY COMMIT: the files whose content is not the pinned base's.
unlike_pin() {
	local id path
	pin blob | while read -r id path; do
		[ "$(git -C "$1" rev-parse -q --verify "$2:$path" 2>/dev/null)" = "$id" ] ||
			echo "$path"
	done
}

# lock DIRECTORY: one script at a time works in it, with the scripts it calls.
lock() {
	mkdir -p "$1"
	[ "${HMM_LOCK:-}" != "$1" ] || return 0
	exec 9>>"$1/.lock"
	flock -n 9 || die "another run is at work in $1, begun by process $(tail -n 1 "$1/.lock")"
	echo $$ >"$1/.lock"
	export HMM_LOCK=$1
}

# nobody COMMAND...: with a fixed author and date, so that commits have the same hash
# everywhere.
nobody() {
	GIT_AUTHOR_NAME=nobody GIT_AUTHOR_EMAIL=nobody@localhost \
	GIT_AUTHOR_DATE='@0 +0000' GIT_COMMITTER_NAME=nobody \
	GIT_COMMITTER_EMAIL=nobody@localhost GIT_COMMITTER_DATE='@0 +0000' "$@"
}

# new_repo DIRECTORY REPOSITORY: an empty git repository that has the objects of
# REPOSITORY, which is only read.
new_repo() {
	rm -rf "$1" &&
	git init -q -b base "$1" &&
	echo "$2/objects" >"$1/.git/objects/info/alternates" &&
	{ [ ! -e "$2/shallow" ] || cp "$2/shallow" "$1/.git/shallow"; } &&
	git -C "$1" config gc.auto 0
}

# copy DIRECTORY TO: all that is in it, as hard links where that can be.
copy() {
	cp -al "$1/." "$2/" 2>/dev/null || cp -a "$1/." "$2/"
}

# snapshot OBJECTS: a tree of all files here that git does not ignore, in the git
# object directory OBJECTS; prints its hash.
snapshot() {
	local objects
	mkdir -p "$1"
	objects=$(git -C "$root" rev-parse --path-format=absolute --git-path objects)
	set -- env GIT_INDEX_FILE="$1/index" GIT_OBJECT_DIRECTORY="$1" \
		GIT_ALTERNATE_OBJECT_DIRECTORIES="$objects" git -C "$root"
	"$@" add -A && "$@" write-tree
}

# The tree of build/linux as it is, with what is not committed yet, and new files: by force,
# as the .gitignore of Debian's package has all of them ignored. The caller has called scratch.
worktree() {
	# With its time, by which git knows what may have changed since in the same second
	cp -p "$build/linux/.git/index" "$tmp/worktree"
	set -- env GIT_INDEX_FILE="$tmp/worktree" git -C "$build/linux"
	"$@" add -u && "$@" add -f -- '*.[chS]' '*.rst' '*Kconfig' '*Makefile' && "$@" write-tree
}

# on_branch BRANCH: whether that is what is checked out in build/linux.
on_branch() {
	[ "$(git -C "$build/linux" symbolic-ref -q HEAD)" = "refs/heads/$1" ]
}

# Nothing in build/linux waits to be committed.
all_committed() {
	[ "$(worktree)" = "$(git -C "$build/linux" rev-parse 'HEAD^{tree}')" ]
}

# on_top_of_hmm COMMIT: which is of branch consumers.
on_top_of_hmm() {
	git -C "$build/linux" merge-base --is-ancestor hmm "$1" ||
		die "branch consumers does not start at hmm: git -C $build/linux rebase --fork-point hmm consumers"
}

# series_patches [consumers]: the patches of the series, or those on top of it, in
# order: a path a line.
series_patches() {
	local dir=$root/patches series=$root/series
	[ $# = 0 ] || dir=$dir/$1
	[ $# = 0 ] || series=$dir/series
	sed "/^#/d; s,^,$dir/," "$series"
}

all_patches() {
	series_patches
	series_patches consumers
}

# sparse_tree DIRECTORY [DIR...]: a repository of its own with the base, of which
# the directories that the patches touch are checked out, and each DIR.
sparse_tree() {
	new_repo "$1" "$build/linux/.git" && cd "$1" && {
		series_patches |
			xargs -r -d '\n' sed -nE 's,^(---|\+\+\+) [ab]/(.*)/[^/]*$,\2,p'
		printf '%s\n' mm "${@:2}"
	} | sort -u | git sparse-checkout set --cone --stdin &&
	git reset -q --hard "$(git -C "$build/linux" rev-parse base)"
}

# exported_symbols TREE: what branch hmm of it exports and base does not, and the files
# that use it with branch consumers.
exported_symbols() {
	local new
	git -C "$1" diff base hmm -- '*.c' | grep -E '^[+-]EXPORT_SYMBOL' >"$tmp/exported" || :
	new=$(sed -nE 's/^\+.*\((.*)\);/\1/p' "$tmp/exported" | sort | while read -r symbol; do
		grep -q "^-.*($symbol)" "$tmp/exported" || echo "$symbol"
	done | xargs)
	echo '# SPDX-License-Identifier: GPL-2.0-only'
	echo '# Each new export, and who uses it on branch consumers; written by scripts/export.'
	git -C "$1" grep -owE "${new// /|}" consumers -- '*.c' 'include/linux/hmm*.h' ':!mm/hmm.c' ':!mm/tests' |
		awk -F: -v names="$new" '
			$2 ~ /\.h$/ { declared[$3] = 1; next }
			!seen[$2, $3]++ { users[$3] = users[$3] " " $2 }
			END {
				n = split(names, name, " ")
				for (i = 1; i <= n; i++) {
					if (!(name[i] in users)) users[name[i]] = " nobody yet"
					if (!(name[i] in declared)) users[name[i]] = " removed there"
					printf "%-32s%s\n", name[i], users[name[i]]
				}
			}'
}

# format_patch REPOSITORY ARGUMENT...: the form in which patches are kept here.
format_patch() {
	git -C "$1" format-patch -q --zero-commit --no-signature --full-index -N "${@:2}"
}

series_hash() {
	{ cat "$root/series" "$root/patches/consumers/series" &&
		all_patches | xargs -r -d '\n' cat --; } | git hash-object --stdin
}

# branches REPOSITORY: the commits that the two exported branches are at.
branches() {
	git -C "$1" rev-parse hmm consumers | xargs
}

# How every kernel is built: from the cache of compilations, and with nothing in it
# that changes from day to day or from host to host. If the configuration has gcov, it
# is for this file.
make_options=('CC=ccache gcc' GCOV_PROFILE_hmm.o=y)
toolchain() {
	export CCACHE_DIR=${CCACHE_DIR:-$cache/ccache} CCACHE_NOHASHDIR=1
	export CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-5G}
	export KBUILD_BUILD_TIMESTAMP=1970-01-01 KBUILD_BUILD_VERSION=1
	export KBUILD_BUILD_USER=hmm KBUILD_BUILD_HOST=hmm LOCALVERSION=
	# The distribution's python3, which has the modules that were installed.
	export PYTHONDONTWRITEBYTECODE=1 PATH=/usr/bin:$PATH
}

# A build is named ENGINE or ENGINE-FLAVOUR: uml, x86_64, uml-kasan. Its objects
# are right below the tree, so that a compiler sees relative paths only, and the
# cache of compilations serves every checkout.
objects() {
	echo "$build/test/$1"
}

# test_checkout COMMIT: what build/test, a worktree of build/linux, holds from now on. Only
# what differs is written, so that make rebuilds no more than that.
test_checkout() {
	# Without its .git, git would find the repository of the scripts; it goes
	# stale with the build/linux that it came from.
	if [ ! -e "$build/test/.git" ] || ! git -C "$build/test" rev-parse -q --verify HEAD >/dev/null 2>&1; then
		rm -rf "$build/test"
		git -C "$build/linux" worktree prune
		step 300 "$build/log/checkout" "making $build/test" \
			git -C "$build/linux" worktree add -q -f --detach "$build/test" "$1" ||
			die "cannot make $build/test; see $build/log/checkout"
	fi
	git -C "$build/test" checkout -q -f --detach "$1"
}

# Reports of a compiler or a checker, without the line numbers, so that those of two trees
# can be compared.
reports() {
	sed -E 's/:[0-9]+(:[0-9]+)?(-[0-9]+)?//' | sort -u
}

# possible BUILD FILE: the configuration has each line of FILE, and nothing that is n there.
possible() {
	local line config wrong=0
	config=$(objects "$1")/.config
	while read -r line; do
		case $line in
		*=n)	! grep -q "^${line%n}" "$config" ;;
		*)	grep -qx "$line" "$config" ;;
		esac || { echo "$line: not possible"; wrong=1; }
	done < <(grep '^CONFIG_' "$2")
	return $wrong
}

# kmake BUILD ARGUMENT...: make in build/test.
kmake() {
	local engine=${1%%-*}
	make -C "$build/test" ARCH="${engine/uml/um}" O="$(objects "$1")" "${make_options[@]}" "${@:2}"
}

# uml BUILD ARGUMENT...: boot it. It keeps its memory in a file in $TMPDIR: /dev/shm
# may be too small for it.
uml() {
	export TMPDIR=$build/tmp
	exec "$(objects "$1")/linux" uml_dir="$build/tmp/" mem=1G console=tty "${@:2}"
}

# An init that runs the commands that it is given and ends, for a kernel that has this
# host's files.
make_init() {
	{
		echo '#!/bin/sh'
		cat
		echo "exec perl -e 'syscall(169, 0xfee1dead, 672274793, 0x4321fedc)'	# power off"
	} >"$build/tmp/init"
	chmod +x "$build/tmp/init"
}

# uml_with_init BUILD ARGUMENT...: as uml, with this host's files, which it cannot
# change, and what make_init has made.
uml_with_init() {
	uml "$@" root=/dev/root rootfstype=hostfs rootflags=/ ro init="$build/tmp/init"
}

# compose TREEISH [PARENT]: add the KUnit overlay to a tree of build/linux, print
# the commit: one that is the same everywhere, or the caller's own, on PARENT. The
# caller has called scratch.
# shellcheck disable=SC2016 # make's variables
compose() {
	(
		cd "$build/linux" || exit
		export GIT_INDEX_FILE=$tmp/compose
		git read-tree "$1"
		for file in "$root"/kunit/*; do
			add_blob "$file" "mm/tests/hmm/${file##*/}"
		done
		hook mm/Kconfig '^source "mm\/damon\/Kconfig"$' i 'source "mm/tests/hmm/Kconfig"\n'
		hook mm/Makefile '^obj-$(CONFIG_LAZY_MMU_MODE_KUNIT_TEST) ' a \
			'obj-$(CONFIG_HMM_KUNIT_TEST) += tests/hmm/'
		hook MAINTAINERS '^F:	mm\/hmm\*$' a 'F:	mm/tests/hmm/'
		make_commit=(nobody git commit-tree)
		[ $# = 1 ] || make_commit=(git commit-tree -p "$2")
		"${make_commit[@]}" -m 'mm/hmm: add KUnit tests' \
			-m 'What hmm_range_fault() faults and reports is compared with the page tables.' \
			"$(git write-tree)"
	)
}

add_blob() {
	git update-index --add --cacheinfo "100644,$(git hash-object -w "$1"),$2"
}

# hook FILE PATTERN i|a LINE: insert LINE before or after the one line of FILE
# that matches the sed pattern.
hook() {
	git cat-file blob ":$1" >"$tmp/old"
	[ "$(sed -n "/$2/p" "$tmp/old" | wc -l)" = 1 ] ||
		die "$1 has not exactly one line like $2: the overlay has no place in it"
	sed "/$2/$3\\
$4" "$tmp/old" >"$tmp/new"
	add_blob "$tmp/new" "$1"
}

# mutate NUMBER FILE MUTANTS: make in FILE, which is mm/hmm.c, the change of that mutant
# of MUTANTS, which is configs/mutants.
mutate() {
	perl -e '
		local $/;
		my ($number, $file, $mutants) = @ARGV;
		open my $in, "<", $mutants or die;
		(my $text = <$in>) =~ s/^#.*\n//mg;
		my @lines = split /\n/, (grep { /\S/ } split /\n\n+/, $text)[$number - 1];
		my ($old, $new) = map { my $sign = $_;
			join "", map { substr($_, 1) . "\n" } grep { /^\Q$sign\E/ } @lines } "-", "+";
		open $in, "<", $file or die;
		my $code = <$in>;
		my $times = () = $code =~ /\Q$old\E/g;
		die "what is to be changed is there $times times\n" if $times != 1;
		$code =~ s/\Q$old\E/$new/;
		open my $out, ">", $file or die;
		print $out $code;' "$@"
}
