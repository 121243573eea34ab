/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What happens to the memory of a process while a device uses it, by a child of that
 * process: written back to swap, moved to the other node, split, collapsed. Nothing of
 * this changes what the memory holds.
 */
#ifndef VM_STORM_H
#define VM_STORM_H

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/mempolicy.h>
#include <linux/mman.h>

#include "common.h"

enum { PAGEOUT, MOVE, SPLIT, COLLAPSE, MIGRATE, DISTURBANCES };

static const char * const disturbance[] = {
	"written back", "moved", "split", "collapsed", "migrated"
};

enum { EVENT_SWAP, EVENT_MIGRATE, EVENT_SPLIT, EVENTS };

static const char * const event[] = { "pswpout", "pgmigrate_success", "thp_split_page" };

struct storm {
	pid_t child;
	unsigned long *done;	/* by the child: how often each succeeded */
	unsigned long before[EVENTS];
};

/* How often something has happened since the boot. */
static unsigned long events_of(const char *name)
{
	FILE *file = fopen("/proc/vmstat", "r");
	char line[256];
	unsigned long n = 0;
	size_t length = strlen(name);

	while (file && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, name, length) && line[length] == ' ')
			n = strtoul(line + length, NULL, 10);
	}
	if (file)
		fclose(file);
	return n;
}

static void disturb(pid_t pid, char **area, int areas, unsigned long *done)
{
	int split = open("/sys/kernel/debug/split_huge_pages", O_WRONLY);
	int pidfd = syscall(SYS_pidfd_open, pid, 0);
	unsigned int round;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (round = 0; getppid() == pid; round++) {
		char *huge = area[rand() % areas];
		char *at = huge + rand() % (512 - 16) * PAGE;
		struct iovec part = { at, (1 + rand() % 16) * PAGE };
		unsigned long node[2] = { 1, 2 };
		int nodes[16], status[16], i;
		void *pages[16];
		char line[128];
		long ret = 0;
		int what = rand() % DISTURBANCES;

		switch (what) {
		case PAGEOUT:
			ret = syscall(SYS_process_madvise, pidfd, &part, 1, MADV_PAGEOUT, 0);
			break;
		case MOVE:
			for (i = 0; i < 16; i++) {
				pages[i] = at + i * PAGE;
				nodes[i] = round & 1;
			}
			ret = syscall(SYS_move_pages, pid, 16, pages, nodes, status, MPOL_MF_MOVE);
			break;
		case SPLIT:
			snprintf(line, sizeof(line), "%d,%#lx,%#lx,0", pid, (unsigned long)at,
				 (unsigned long)at + 16 * PAGE);
			ret = write(split, line, strlen(line));
			break;
		case COLLAPSE:
			part = (struct iovec) { huge, HUGE };
			ret = syscall(SYS_process_madvise, pidfd, &part, 1, MADV_COLLAPSE, 0);
			break;
		case MIGRATE:
			ret = syscall(SYS_migrate_pages, pid, 64, &node[round & 1],
				      &node[!(round & 1)]);
			break;
		}
		if (ret >= 0)
			done[what]++;
		usleep(1000);
	}
	_exit(0);
}

/* Begin, on @areas areas of HUGE bytes each. */
static bool begin_storm(struct storm *storm, char **area, int areas)
{
	pid_t pid = getpid();
	int i;

	storm->done = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (storm->done == MAP_FAILED)
		return false;
	for (i = 0; i < EVENTS; i++)
		storm->before[i] = events_of(event[i]);
	storm->child = fork();
	if (!storm->child)
		disturb(pid, area, areas, storm->done);
	return storm->child > 0;
}

/* Whether each disturbance had an effect; memory may have none of swap, or of THPs. */
static bool raged(const struct storm *storm, bool swaps, bool splits)
{
	if (!storm->done[MOVE] || !storm->done[MIGRATE] ||
	    events_of(event[EVENT_MIGRATE]) == storm->before[EVENT_MIGRATE])
		return false;
	if (swaps && (!storm->done[PAGEOUT] ||
		      events_of(event[EVENT_SWAP]) == storm->before[EVENT_SWAP]))
		return false;
	return !splits || (storm->done[SPLIT] && storm->done[COLLAPSE] &&
			   events_of(event[EVENT_SPLIT]) > storm->before[EVENT_SPLIT]);
}

/* End it, and tell the rest of a line what it was. */
static bool end_storm(struct storm *storm)
{
	int i;

	if (kill(storm->child, SIGKILL) || waitpid(storm->child, NULL, 0) != storm->child)
		return false;
	for (i = 0; i < DISTURBANCES; i++)
		printf(", %lu %s", storm->done[i], disturbance[i]);
	for (i = 0; i < EVENTS; i++)
		printf(", %lu %s", events_of(event[i]) - storm->before[i], event[i]);
	printf("\n");
	return true;
}

#endif
