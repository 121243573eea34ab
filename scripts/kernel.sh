# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034
#
# Sourced by the scripts that build a kernel, boot it and judge what it prints:
# scripts/kunit and scripts/vm. A run is of one build ($variant, whose first word is
# $engine) and one kernel ($kernel: series, consumers, part or base), and leaves what it has
# printed in $out. What must stay true: every line that is not as it should be is printed
# with "FAILED:" and counted in $failed, and nothing passes that was not run.

# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

# What the script that sources this may set before it calls prepare: also the packages
# that it needs, which suites it runs (a glob), and where below build its results go.
kernels=(series) engines=(uml x86_64) flavour='' tree=()
needs=() filter='hmm_*' results=results patches=0 flavours='kasan kcsan'
variant='' engine='' kernel='' out='' runs=() failed=0

fault() {
	say "FAILED: $*"
	failed=$((failed + 1))
}

# common_option ARGUMENT...: an option that both scripts have. $taken is the number of
# arguments used, 0 if it is another.
common_option() {
	taken=1
	case $1 in
	--base)		kernels[1]=base ;;
	--consumers)	once 'kernels[0]' consumers "$1" ;;
	--debug)	[[ " $flavours " == *" ${2:-none} "* ]] || die "--debug is one of: $flavours"
			once flavour "$2" "$1 $2"
			[ "$2" != kcsan ] || once engine x86_64 "$1 $2"
			taken=2 ;;
	--tree)		[ $# -ge 2 ] || usage 2
			tree=(--tree "$2") taken=2 ;;
	*)		taken=0 ;;
	esac
}

# The series applied to the base or to --tree, and what it takes to build $builds, one
# for each engine.
prepare() {
	local wants=2
	[ "${kernels[0]}${#tree[@]}" != consumers2 ] || die "--consumers and --tree exclude each other"
	[ -z "$engine" ] || engines=("$engine")
	builds=("${engines[@]/%/${flavour:+-$flavour}}")
	for variant in "${builds[@]}"; do
		[ -e "$root/configs/$variant.config" ] || die "there is no $variant kernel"
	done
	case ${engines[*]} in
	uml)	need "${uml_needs[@]}" "${needs[@]}" ;;
	*)	need "${uml_needs[@]}" "${x86_64_needs[@]}" "${needs[@]}" ;;
	esac

	# State what it takes before anything starts.
	for variant in "${builds[@]}"; do
		[ -e "$(objects "$variant")/vmlinux" ] || wants=20
	done
	say "host: $(nproc) cores, $(awk '/^MemTotal/ { print int($2 / 1048576) }' /proc/meminfo) GiB; wants $wants GB of disk"
	room "$build" "$wants"

	run "$root/scripts/apply" "${tree[@]}"
	[ ${#tree[@]} = 0 ] || build=$build/tree
	lock "$build"
	linux=$build/linux results=$build/$results
	unlike=$(unlike_pin "$linux" base)
	[ -z "$unlike" ] || say "not the pinned base: ${unlike//$'\n'/ } differ"
	toolchain
	scratch
	mkdir -p "$build/tmp"
}

# Put what $kernel is built from into build/test: the work tree of build/linux if its branch
# is checked out, or a rebase of it has stopped, else the branch. A HEAD without one is hmm's.
checkout() {
	local commit head branch=${kernel/series/hmm}
	head=$(git -C "$linux" symbolic-ref -q HEAD || cat "$linux"/.git/rebase-*/head-name 2>/dev/null) ||
		head=refs/heads/hmm
	[ "$head" != "refs/heads/$branch" ] || branch=HEAD
	[ "$kernel" != consumers ] || on_top_of_hmm "$branch"
	case $kernel,$branch in
	part,*)	commit=$({ echo base; git -C "$linux" rev-list --reverse base..hmm; } | sed -n "$((patches + 1))p")
		[ -n "$commit" ] || die "there are not $patches patches" ;;
	*,HEAD)	commit=$(worktree) ;;
	*)	commit=$branch
		[ "$kernel" = base ] || say "branch $branch is built, which is not what is checked out in $linux" ;;
	esac
	commit=$(compose "$commit")
	test_checkout "$commit"
}

compiled() {
	echo "$(find "$(objects "$variant")" -name '*.o' 2>/dev/null | wc -l) objects"
}

compile() {
	local config
	cd "$build/test" || return
	for config in common "$engine" ${flavour:+"$variant"}; do
		set -- "$@" --kunitconfig="$root/configs/$config.config"
	done
	tools/testing/kunit/kunit.py build --arch="${engine/uml/um}" --jobs="$(nproc)" \
		--build_dir="$(objects "$variant")" "$@" "${make_options[@]/#/--make_options=}"
}

# Objects that have been compiled with a warning are compiled again next time.
forget_warned() {
	local object
	sed -nE 's,^(\.\./)?([^: ]*)\.[cho]:.*warning:.*,\2.o,p' "$1" |
		sort -u | while read -r object; do
		rm -f "$(objects "$variant")/$object"
	done
	! grep -q 'warning:' "$1" || rm -f "$(objects "$variant")"/mm/hmm.o "$(objects "$variant")"/mm/tests/hmm/*.o
}

build_kernel() {
	local line log=$out/build
	checkout
	progress=compiled
	step 3600 "$log" "building $kernel for $variant" compile || {
		grep -E 'error:|Error |ERROR|^Missing' "$log" | head -n 20 >&2 || :
		die "$kernel does not build for $variant; see $log"
	}
	progress=:
	forget_warned "$log"
	while read -r line; do
		fault "$kernel for $variant: $line"
	done < <(grep 'warning:' "$log")
}

# What gives the x86_64 machine this host's files as root, which it cannot change: of qemu,
# and on the kernel's command line.
host_files=(-virtfs 'local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap')
host_root='root=host rootfstype=9p rootflags=trans=virtio,version=9p2000.L,cache=loose ro'

# machine ARGUMENT...: the x86_64 machine, with the parts that the tests are about.
# With KASAN without la57: identify_cpu() has it cleared for a moment, and what an
# interrupt accesses just then looks wild.
machine() {
	qemu-system-x86_64 -nodefaults -no-reboot -nographic \
		-machine q35,nvdimm=on,accel=tcg -cpu "max,-erms,-fsrm${flavour:+,la57=off}" \
		-m 4096,slots=2,maxmem=16G \
		-device intel-iommu,caching-mode=on \
		-device pcie-root-port,id=root,chassis=1 -device x3130-upstream,id=switch,bus=root \
		-device xio3130-downstream,id=port0,bus=switch,chassis=2 \
		-device xio3130-downstream,id=port1,bus=switch,chassis=3 \
		-device edu,dma_mask=0xffffffffffffffff,bus=port0 \
		-object memory-backend-ram,id=peer0,size=16M,share=on \
		-device ivshmem-plain,memdev=peer0,bus=port1 \
		-object memory-backend-ram,id=peer1,size=16M,share=on \
		-device ivshmem-plain,memdev=peer1 \
		-object memory-backend-ram,id=nv0,size=1G -device nvdimm,id=nvd0,memdev=nv0 \
		-kernel "$(objects "$variant")/arch/x86/boot/bzImage" "$@"
}

# A line a case: suite.case status
cases() {
	jq -r 'def walk($path): (.test_cases[]? | "\($path)\(.name) \(.status)"),
		(.sub_groups[]? | walk("\($path)\(.name).")); walk("")' "$1"
}

# selected CASE: whether $filter matches it.
selected() {
	local suite=${1%%.*} case=${1#*.}
	# shellcheck disable=SC2053 # a glob on purpose
	case $filter in
	*.*)	[[ $suite.${case%%.*} == $filter ]] ;;
	*)	[[ $suite == $filter ]] ;;
	esac
}

# A line for each case that did not end as configs/expected says.
unexpected() {
	local name status want
	local -A got=()
	while read -r name status; do
		[ -z "${got[$name]:-}" ] || echo "$name: more than one case of that name"
		got[$name]=${status,,}
	done <"$out/cases"
	while read -r name want; do
		selected "$name" || continue
		status=${got[$name]:-missing}
		unset "got[$name]"
		[ "$status" = "$want" ] || echo "$name: $status, expected $want$(reason "$name")"
	done < <(expected)
	for name in "${!got[@]}"; do
		echo "$name: ${got[$name]}, not in configs/expected"
	done
}

# Why the case was skipped, as it was given.
reason() {
	[ "$status" != skip ] || sed -n "s/.* ok [0-9]* \(.*[.]\)\{0,1\}${1##*.} # SKIP *\(.*\)/: \2/p" "$out/ktap"
}

# A line a case: suite.case and how it ends on $engine with $kernel.
expected() {
	local column=2 inject=skip single=pass
	! grep -q '^CONFIG_FAILSLAB=y' "$(objects "$variant")/.config" || inject=pass
	[ "$engine" = uml ] || column=4
	[ "$kernel" != base ] || column=$((column + 1))
	[ "$kernel" != consumers ] || single=-
	awk -v c=$column -v inject=$inject -v single=$single '
		/^#/ || !NF { next }
		$c == "inject" { $c = inject }
		$c == "single" { $c = single }
		$c != "-" { print $1, $c }' "$root/configs/expected"
}

# What goes wrong above the cases: none ran, a suite failed, a crash.
above_cases() {
	[ -s "$out/cases" ] || { echo 'no case was run'; return; }
	jq -r --argjson passed "$(grep -c ' PASS$' "$out/cases")" \
		--argjson failed "$(grep -c ' FAIL$' "$out/cases")" \
		'.misc | select(.errors + .crashed > 0 or .passed != $passed or .failed != $failed) |
		"kunit.py counts \(.passed) passed, \(.failed) failed, \(.crashed) crashed, \(.errors) errors; its cases differ"' \
		"$out/results.json"
}

# judge STATUS: what a run has left in $out, as it ended with STATUS: ktap, where its
# cases are, and log, where the kernel speaks, which may be the same file. Leaves
# results.json, results.xml (JUnit), cases.
judge() {
	local line lines=0
	(cd "$build/test" && tools/testing/kunit/kunit.py parse --json="$out/results.json" \
		--junit="$out/results.xml" "$out/ktap") >"$out/parsed" 2>&1 || :
	: >"$out/cases"
	[ ! -s "$out/results.json" ] || cases "$out/results.json" | sort >"$out/cases"

	while read -r line; do
		fault "$kernel on $variant: $line"
	done < <(above_cases)
	[ "$1" = 0 ] ||
		fault "$kernel on $variant did not end as it should, status $1; see $out/log"
	if [ "$kernel" = part ]; then
		say "  $patches patches: its results are not judged"
	elif [ -n "$unlike" ] && [ "$kernel" = base ]; then
		say "  not the pinned base: its results are not judged"
	else
		while read -r line; do
			fault "$kernel on $variant: $line"
		done < <(unexpected)
	fi
	while read -r line; do
		[ $((++lines)) -le 20 ] || { fault "$kernel on $variant: more of this in $out/log"; break; }
		fault "$kernel on $variant, log line ${line/:/: }"
	done < <(splats "$out/log")
	! grep -q '^CONFIG_DEBUG_KMEMLEAK=y' "$(objects "$variant")/.config" ||
		grep -q '^kmemleak: scanned' "$out/log" ||
		fault "$kernel on $variant: kmemleak was not asked"
}

# All runs in the form of kunit.py --json, with what it leaves out.
summary() {
	local id arch branch base
	base="$(git -C "$linux" log -1 --format=%s base)"
	for id in "${runs[@]}"; do
		[ -s "$results/$id/results.json" ] || continue
		arch=${id%%-*} branch=${id##*-} branch=${branch%/*}
		jq --arg name "$id" --arg arch "${arch/uml/um}" --arg config "configs/${id%-*}.config" \
			--arg kernel "$base" --arg branch "${branch/series/hmm}" \
			'.name = $name | . += { arch: $arch, defconfig: $config,
				build_environment: "gcc", kernel: $kernel,
				job: "hmm", git_branch: $branch }' "$results/$id/results.json"
	done | jq -s --argjson faults "$failed" '{ name: "hmm", sub_groups: ., test_cases: [],
		misc: (map(.misc) | { tests: (map(.tests) | add), passed: (map(.passed) | add),
			failed: (map(.failed) | add), crashed: (map(.crashed) | add),
			skipped: (map(.skipped) | add), errors: ((map(.errors) | add) + $faults) }) }' \
		>"$results/summary.json"
}

# count SUITE STATUS: its cases that ended so with $variant and $kernel.
count() {
	grep -c "^$1[.].* $2\$" "$results/$variant-$kernel/cases" || :
}

table() {
	local suite
	printf '\n%-14s %-13s' suite kernel
	printf ' %-30s' "${kernels[@]}"
	echo
	for variant in "${builds[@]}"; do
		while read -r suite; do
			printf '%-14s %-13s' "$suite" "$variant"
			for kernel in "${kernels[@]}"; do
				printf ' %-30s' "$(count "$suite" PASS) passed, $(
					count "$suite" FAIL) failed, $(count "$suite" SKIP) skipped"
			done
			echo
		done < <(cut -d. -f1 "$results/$variant-${kernels[0]}/cases" | sort -u)
	done
}

# run_all COMMAND: COMMAND for each build and kernel, and what is to be said of all.
run_all() {
	rm -f "$results/summary.json"
	for variant in "${builds[@]}"; do
		engine=${variant%%-*}
		for kernel in "${kernels[@]}"; do
			out=$results/$variant-$kernel
			rm -rf "$out"
			mkdir -p "$out"
			runs+=("$variant-$kernel")
			build_kernel
			"$1"
		done
	done
	table
	summary
	echo
	[ $failed = 0 ] || die "the run has failed, see above; logs are in $results"
	echo "all as configs/expected says, in $((SECONDS / 60)) min $((SECONDS % 60)) s; logs are in $results"
}
