// SPDX-License-Identifier: GPL-2.0-only
/*
 * A device that mirrors a process (test_hmm), and memory that a KUnit test has no means
 * to get at, or not enough of: swapped out, freed by MADV_FREE, guarded, secret; and
 * memory to which everything happens at once. What the device writes is still there
 * after reclaim, what it reads is never older than what was there when it began, and
 * what nobody may read it does not get.
 *
 * Runs in the machine of scripts/vm, with two swap devices that are not in use: loop0,
 * which has a use for the swap cache, so that what is read from it is clean; and ram1,
 * which is synchronous, so that it has none, and all that is read from it is dirty.
 */
#include <pthread.h>
#include <sys/swap.h>
#include <time.h>
#include <linux/fs.h>

#include "kselftest_harness.h"
#include "common.h"
#include "dmirror.h"
#include "storm.h"

#define PAGES	64
#define SIZE	(PAGES * PAGE)

FIXTURE(memory)
{
	int device, pagemap;
	char *map;	/* anonymous, written by the CPU: generation 1 */
	char *copy;	/* what the device has read, or is to write */
};

FIXTURE_SETUP(memory)
{
	/* It is still there if the case before has crashed. */
	ASSERT_TRUE(!swapon("/dev/loop0", 0) || errno == EBUSY);
	self->device = open(DMIRROR, O_RDWR);
	ASSERT_GE(self->device, 0);
	self->pagemap = open("/proc/self/pagemap", O_RDONLY);
	ASSERT_GE(self->pagemap, 0);
	self->map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(self->map, MAP_FAILED);
	self->copy = malloc(SIZE);
	ASSERT_NE(self->copy, NULL);
	ASSERT_EQ(madvise(self->map, SIZE, MADV_NOHUGEPAGE), 0);
	fill(self->map, 0, SIZE, 1);
}

FIXTURE_TEARDOWN(memory)
{
	free(self->copy);
	munmap(self->map, SIZE);
	close(self->pagemap);
	close(self->device);
	EXPECT_EQ(swapoff("/dev/loop0"), 0);
}

/* How many pages have all of the PAGE_IS_ flags in @is. */
static int pages_that_are(int pagemap, char *map, unsigned long long is)
{
	struct page_region regions[PAGES];
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = (unsigned long)map,
		.end = (unsigned long)map + SIZE,
		.vec = (unsigned long)regions,
		.vec_len = PAGES,
		.category_mask = is,
		.return_mask = is,
	};
	int pages = 0, n = ioctl(pagemap, PAGEMAP_SCAN, &arg);

	while (n-- > 0)
		pages += (regions[n].end - regions[n].start) / PAGE;
	return pages;
}

/* Whether the swap device has done all reads and writes that were asked of it. */
static bool swap_is_idle(void)
{
	FILE *stat = fopen("/sys/block/loop0/stat", "r");
	unsigned int in_flight;
	bool idle;

	if (!stat)
		return false;
	/* The ninth number. */
	idle = fscanf(stat, "%*u %*u %*u %*u %*u %*u %*u %*u %u", &in_flight) == 1 &&
	       !in_flight;
	fclose(stat);
	return idle;
}

/*
 * Reclaims all pages, and waits until they are written: a page that is still to be
 * written has whatever the device writes to it meanwhile saved as well. Those that wait
 * on another CPU to be put on a list are not found there until they are, which dropping
 * caches sees to.
 */
static bool reclaim(int pagemap, char *map)
{
	int drop = open("/proc/sys/vm/drop_caches", O_WRONLY), i;
	bool done = false;

	for (i = 0; i < 100 && !done; i++) {
		if (write(drop, "1", 1) != 1 || madvise(map, SIZE, MADV_PAGEOUT))
			break;
		done = !pages_that_are(pagemap, map, PAGE_IS_PRESENT) && swap_is_idle();
		if (!done)
			usleep(100000);
	}
	close(drop);
	return done;
}

static int count(const unsigned char *prot, unsigned char want)
{
	int i, n = 0;

	for (i = 0; i < PAGES; i++)
		n += prot[i] == want;
	return n;
}

/* Swapped out, it is not there for the device either; and it comes when it reads. */
TEST_F(memory, swap)
{
	unsigned char prot[PAGES];

	ASSERT_TRUE(reclaim(self->pagemap, self->map));
	ASSERT_EQ(pages_that_are(self->pagemap, self->map, PAGE_IS_SWAPPED), PAGES);
	ASSERT_EQ(command(self->device, HMM_DMIRROR_SNAPSHOT, self->map, prot, SIZE), 0);
	EXPECT_EQ(count(prot, HMM_DMIRROR_PROT_NONE), PAGES);
	EXPECT_EQ(pages_that_are(self->pagemap, self->map, PAGE_IS_SWAPPED), PAGES);

	ASSERT_EQ(command(self->device, HMM_DMIRROR_READ, self->map, self->copy, SIZE), 0);
	EXPECT_TRUE(filled(self->copy, 0, SIZE, 1));
	EXPECT_EQ(pages_that_are(self->pagemap, self->map, PAGE_IS_PRESENT), PAGES);
}

/*
 * The device reads what was swapped out, then writes: into pages that are clean as
 * long as nobody says otherwise, and that reclaim may drop.
 */
TEST_F(memory, swap_write)
{
	ASSERT_TRUE(reclaim(self->pagemap, self->map));
	ASSERT_EQ(command(self->device, HMM_DMIRROR_READ, self->map, self->copy, SIZE), 0);
	fill(self->copy, 0, SIZE, 2);
	ASSERT_EQ(command(self->device, HMM_DMIRROR_WRITE, self->map, self->copy, SIZE), 0);
	ASSERT_TRUE(reclaim(self->pagemap, self->map));
	EXPECT_TRUE(filled(self->map, 0, SIZE, 2));
}

/* The same after MADV_FREE, which lets the pages be dropped until they are written. */
TEST_F(memory, free_write)
{
	ASSERT_EQ(madvise(self->map, SIZE, MADV_FREE), 0);
	ASSERT_EQ(command(self->device, HMM_DMIRROR_READ, self->map, self->copy, SIZE), 0);
	fill(self->copy, 0, SIZE, 2);
	ASSERT_EQ(command(self->device, HMM_DMIRROR_WRITE, self->map, self->copy, SIZE), 0);
	ASSERT_TRUE(reclaim(self->pagemap, self->map));
	EXPECT_TRUE(filled(self->map, 0, SIZE, 2));
}

/* The same while the pages are in the memory of the device, which nobody else can see. */
TEST_F(memory, free_migrate_write)
{
	ASSERT_EQ(madvise(self->map, SIZE, MADV_FREE), 0);
	ASSERT_EQ(command(self->device, HMM_DMIRROR_MIGRATE_TO_DEV, self->map, self->copy, SIZE),
		  0);
	fill(self->copy, 0, SIZE, 2);
	ASSERT_EQ(command(self->device, HMM_DMIRROR_WRITE, self->map, self->copy, SIZE), 0);
	/* The CPU reads it: it comes back. */
	ASSERT_TRUE(filled(self->map, 0, SIZE, 2));
	ASSERT_TRUE(reclaim(self->pagemap, self->map));
	EXPECT_TRUE(filled(self->map, 0, SIZE, 2));
}

/* Guard pages are an error for the device, while they are there. */
TEST_F(memory, guard)
{
	unsigned char prot[PAGES];

	ASSERT_EQ(madvise(self->map, SIZE, MADV_GUARD_INSTALL), 0);
	ASSERT_EQ(command(self->device, HMM_DMIRROR_SNAPSHOT, self->map, prot, SIZE), 0);
	EXPECT_EQ(count(prot, HMM_DMIRROR_PROT_ERROR), PAGES);
	EXPECT_EQ(command(self->device, HMM_DMIRROR_READ, self->map, self->copy, SIZE), -EFAULT);

	ASSERT_EQ(madvise(self->map, SIZE, MADV_GUARD_REMOVE), 0);
	ASSERT_EQ(command(self->device, HMM_DMIRROR_SNAPSHOT, self->map, prot, SIZE), 0);
	EXPECT_EQ(count(prot, HMM_DMIRROR_PROT_NONE), PAGES);
	EXPECT_EQ(command(self->device, HMM_DMIRROR_READ, self->map, self->copy, SIZE), 0);
}

/* Secret memory is the CPU's alone. */
TEST_F(memory, secret)
{
	unsigned char prot[PAGES];
	char *secret;
	int fd;

	fd = syscall(__NR_memfd_secret, 0);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(ftruncate(fd, SIZE), 0);
	secret = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(secret, MAP_FAILED);
	fill(secret, 0, SIZE, 3);
	memset(self->copy, 0, SIZE);
	ASSERT_EQ(command(self->device, HMM_DMIRROR_SNAPSHOT, secret, prot, SIZE), 0);
	/* If not, do not read: the kernel would, and has no mapping of it. */
	ASSERT_EQ(count(prot, HMM_DMIRROR_PROT_ERROR), PAGES);
	EXPECT_EQ(command(self->device, HMM_DMIRROR_READ, secret, self->copy, SIZE), -EFAULT);
	EXPECT_TRUE(filled(self->copy, 0, SIZE, 0));
	EXPECT_TRUE(filled(secret, 0, SIZE, 3));
	munmap(secret, SIZE);
	close(fd);
}

/*
 * The storm. Slots of memory, of which each page has a generation. One thread at a time
 * changes a slot, and whoever reads meanwhile may find less than was there, but nothing
 * older; who reads while nothing changes it finds exactly what it has to hold.
 */
#define SLOTS	4
#define ACTORS	2
#define READERS	2
#define MOST	64	/* pages at once */

enum { CPU_WRITE, DEVICE_WRITE, DROP, UNMAP, REMAP, FORK, CHANGES };

static const char * const change[] = {
	"written", "written by the device", "dropped", "unmapped", "remapped", "forked"
};

struct slot {
	char *map;
	size_t offset;			/* of its first byte, for fill() */
	pthread_mutex_t mutex;		/* of who changes it */
	atomic_uint changes;		/* odd while somebody does */
	atomic_uint generation[HUGE / PAGE];	/* its pages are at least of; exactly, if even */
};

struct slots {
	int device, advice;
	struct slot slot[SLOTS];
	char *area[SLOTS];
	char *aside[ACTORS];		/* where an actor remaps what it takes out of a slot */
	atomic_uint *go[ACTORS];	/* shared with its child */
	atomic_uint generation;		/* the last one */
	atomic_uint changes[CHANGES], exact, raced, busy;
	atomic_uint actors, readers;	/* that have started */
	atomic_bool stop, wrong;
	pthread_barrier_t begin;	/* nobody gets memory, which may be in a slot, after it */
};

FIXTURE(slots)
{
	struct slots slots;
};

FIXTURE_VARIANT(slots)
{
	int advice;
};

FIXTURE_VARIANT_ADD(slots, small)
{
	.advice = MADV_NOHUGEPAGE,
};

FIXTURE_VARIANT_ADD(slots, thp)
{
	.advice = MADV_HUGEPAGE,
};

/* An address, aligned to HUGE, of which [0, @size) is reserved. */
static char *reserve(size_t size)
{
	char *p = mmap(NULL, size + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : (char *)(((unsigned long)p + HUGE - 1) & ~(HUGE - 1));
}

static bool map_fixed(char *at, size_t size, int prot)
{
	return mmap(at, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at;
}

FIXTURE_SETUP(slots)
{
	struct slots *slots = &self->slots;
	char *map = reserve(SLOTS * HUGE);
	int i;

	/* It is still there if the case before has crashed. */
	ASSERT_TRUE(!swapon("/dev/ram1", 0) || errno == EBUSY);
	slots->device = open(DMIRROR, O_RDWR);
	ASSERT_GE(slots->device, 0);
	slots->advice = variant->advice;
	ASSERT_NE(map, NULL);
	ASSERT_TRUE(map_fixed(map, SLOTS * HUGE, PROT_READ | PROT_WRITE));
	ASSERT_EQ(madvise(map, SLOTS * HUGE, slots->advice), 0);
	for (i = 0; i < SLOTS; i++) {
		slots->area[i] = map + i * HUGE;
		slots->slot[i].map = slots->area[i];
		slots->slot[i].offset = i * HUGE;
		ASSERT_EQ(pthread_mutex_init(&slots->slot[i].mutex, NULL), 0);
	}
	for (i = 0; i < ACTORS; i++) {
		slots->aside[i] = reserve(HUGE);
		ASSERT_NE(slots->aside[i], NULL);
		slots->go[i] = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
				    -1, 0);
		ASSERT_NE(slots->go[i], MAP_FAILED);
	}
}

FIXTURE_TEARDOWN(slots)
{
	munmap(self->slots.slot[0].map, SLOTS * HUGE);
	close(self->slots.device);
	EXPECT_EQ(swapoff("/dev/ram1"), 0);
}

/* Whether pages [@from, @from + @pages) of @slot, which are at @at, hold what they have to. */
static bool pages_are(const struct slot *slot, const char *at, int from, int pages,
		      const unsigned int *generation)
{
	int i;

	for (i = 0; i < pages; i++) {
		if (!filled(at + i * PAGE, slot->offset + (from + i) * PAGE, PAGE, generation[i]))
			return false;
	}
	return true;
}

/* It says that it is busy when others were faster for a second: once more. */
static int persist(struct slots *slots, unsigned long request, void *addr, void *ptr, size_t size)
{
	int ret;

	while ((ret = command(slots->device, request, addr, ptr, size)) == -EBUSY)
		slots->busy++;
	return ret;
}

/* A child that has these pages as they are now, while the parent's are written to. */
static pid_t fork_witness(const struct slot *slot, int from, int pages,
			  const unsigned int *generation, atomic_uint *go)
{
	pid_t child;

	*go = 0;
	child = fork();
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (!*go)
			usleep(1000);
		_exit(!pages_are(slot, slot->map + from * PAGE, from, pages, generation));
	}
	return child;
}

/* Change some pages of @slot, which nobody else does, in the way @what; false: wrong. */
static bool change_pages(struct slots *slots, struct slot *slot, int actor, int what, int from,
			 int pages, char *copy)
{
	size_t size = pages * PAGE, offset = slot->offset + from * PAGE;
	char *at = slot->map + from * PAGE, *aside = slots->aside[actor] + from * PAGE;
	unsigned int generation = ++slots->generation, before[MOST];
	char *to = at;
	pid_t child = 0;
	int i, status, flags = MREMAP_MAYMOVE | MREMAP_FIXED;

	for (i = 0; i < pages; i++)
		before[i] = slot->generation[from + i];
	if (!pages_are(slot, at, from, pages, before))
		return false;
	switch (what) {
	case DROP:
		if (madvise(at, size, MADV_DONTNEED))
			return false;
		break;
	case UNMAP:
		if (munmap(at, size) || !map_fixed(at, size, PROT_READ | PROT_WRITE) ||
		    madvise(at, size, slots->advice))
			return false;
		break;
	case REMAP:
		/* Leaves a hole, or empty memory. */
		if (generation & 1)
			flags |= MREMAP_DONTUNMAP;
		if (mremap(at, size, size, flags, aside) != aside ||
		    !pages_are(slot, aside, from, pages, before))
			return false;
		to = aside;
		break;
	case FORK:
		child = fork_witness(slot, from, pages, before, slots->go[actor]);
		if (child < 0)
			return false;
		break;
	}
	fill(what == CPU_WRITE ? to : copy, offset, size, generation);
	if (what != CPU_WRITE && persist(slots, HMM_DMIRROR_WRITE, to, copy, size))
		return false;
	if (what == REMAP && (mremap(aside, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, at) != at ||
			      !map_fixed(aside, size, PROT_NONE)))
		return false;
	if (child) {
		*slots->go[actor] = 1;
		if (waitpid(child, &status, 0) != child || status)
			return false;
	}
	if (!filled(at, offset, size, generation))
		return false;
	for (i = 0; i < pages; i++)
		slot->generation[from + i] = generation;
	return true;
}

static void *actor(void *arg)
{
	struct slots *slots = arg;
	unsigned int number = slots->actors++, seed = number;
	char *copy = malloc(MOST * PAGE);

	pthread_barrier_wait(&slots->begin);
	while (!slots->stop) {
		struct slot *slot = &slots->slot[rand_r(&seed) % SLOTS];
		int what = rand_r(&seed) % CHANGES, pages = 1 + rand_r(&seed) % MOST;
		int from = rand_r(&seed) % (HUGE / PAGE - pages + 1);

		pthread_mutex_lock(&slot->mutex);
		slot->changes++;
		if (!change_pages(slots, slot, number, what, from, pages, copy)) {
			printf("# page %d, %d pages: %s: %s\n", from, pages, change[what],
			       strerror(errno));
			slots->wrong = true;
			slots->stop = true;
		}
		slot->changes++;
		pthread_mutex_unlock(&slot->mutex);
		slots->changes[what]++;
	}
	return NULL;
}

/* Read through the device, with and without the mmap lock held by the driver. */
static void *reader(void *arg)
{
	struct slots *slots = arg;
	unsigned int seed = 100 + slots->readers++, round;
	char *copy = malloc(MOST * PAGE);

	pthread_barrier_wait(&slots->begin);
	for (round = 0; !slots->stop; round++) {
		struct slot *slot = &slots->slot[rand_r(&seed) % SLOTS];
		int i, ret, pages = 1 + rand_r(&seed) % MOST;
		int from = rand_r(&seed) % (HUGE / PAGE - pages + 1);
		unsigned int changes = slot->changes, generation[MOST];
		bool right = true;

		for (i = 0; i < pages; i++)
			generation[i] = slot->generation[from + i];
		ret = persist(slots, round & 1 ? HMM_DMIRROR_READ : HMM_DMIRROR_READ_UNLOCKED,
			      slot->map + from * PAGE, copy, pages * PAGE);
		if (!(changes & 1) && slot->changes == changes) {
			right = !ret && pages_are(slot, copy, from, pages, generation);
			slots->exact++;
		} else if (!ret) {
			for (i = 0; i < pages && right; i++)
				right = in_place(copy + i * PAGE, slot->offset + (from + i) * PAGE,
						 PAGE, generation[i]);
			slots->raced++;
		} else {
			right = ret == -EFAULT;	/* it is not mapped for the moment */
		}
		if (!right) {
			printf("# page %d, %d pages: read: %s\n", from, pages, strerror(-ret));
			slots->wrong = true;
			slots->stop = true;
		}
	}
	return NULL;
}

static bool all_happened(const struct slots *slots)
{
	int i;

	for (i = 0; i < CHANGES; i++) {
		if (slots->changes[i] < 4)
			return false;
	}
	return slots->exact >= 16 && slots->raced >= 16;
}

/* As long as --seconds says, and until all has happened that can; else it times out. */
TEST_F_TIMEOUT(slots, storm, 600)
{
	struct slots *slots = &self->slots;
	bool splits = variant->advice == MADV_HUGEPAGE;
	pthread_t thread[ACTORS + READERS];
	time_t end = time(NULL) + seconds();
	unsigned int generation[HUGE / PAGE];
	struct storm storm;
	int i, j;

	srand(1);
	ASSERT_TRUE(begin_storm(&storm, slots->area, SLOTS));
	ASSERT_EQ(pthread_barrier_init(&slots->begin, NULL, ACTORS + READERS + 1), 0);
	for (i = 0; i < ACTORS + READERS; i++)
		ASSERT_EQ(pthread_create(&thread[i], NULL, i < ACTORS ? actor : reader, slots), 0);
	pthread_barrier_wait(&slots->begin);
	while (!slots->stop &&
	       (time(NULL) < end || !all_happened(slots) || !raged(&storm, true, splits)))
		usleep(100000);
	slots->stop = true;
	for (i = 0; i < ACTORS + READERS; i++)
		ASSERT_EQ(pthread_join(thread[i], NULL), 0);
	EXPECT_FALSE(slots->wrong);
	for (i = 0; i < SLOTS; i++) {
		for (j = 0; j < HUGE / PAGE; j++)
			generation[j] = slots->slot[i].generation[j];
		EXPECT_TRUE(pages_are(&slots->slot[i], slots->slot[i].map, 0, HUGE / PAGE,
				      generation));
	}
	printf("# %u reads, %u more beside a change, %u times busy", slots->exact, slots->raced,
	       slots->busy);
	for (i = 0; i < CHANGES; i++)
		printf(", %u %s", slots->changes[i], change[i]);
	ASSERT_TRUE(end_storm(&storm));
}

TEST_HARNESS_MAIN
