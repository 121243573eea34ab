// SPDX-License-Identifier: GPL-2.0-only
/*
 * A device that mirrors a process (test_hmm), and memory in states that a KUnit test
 * has no means to get at: swapped out, freed by MADV_FREE, guarded, secret. What the
 * device writes is still there after reclaim, and what nobody may read it does not
 * get.
 *
 * Runs in the machine of scripts/vm, with a swap device that has a swap cache.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/fs.h>
#include <linux/mman.h>

#include "kselftest_harness.h"
#include "common.h"
#include "dmirror.h"

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

/* Have all pages reclaimed, what ever that takes. */
static bool reclaim(int pagemap, char *map)
{
	int i;

	for (i = 0; i < 100; i++) {
		if (madvise(map, SIZE, MADV_PAGEOUT))
			return false;
		if (!pages_that_are(pagemap, map, PAGE_IS_PRESENT))
			return true;
		usleep(10000);
	}
	return false;
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

TEST_HARNESS_MAIN
