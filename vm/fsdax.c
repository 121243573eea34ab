// SPDX-License-Identifier: GPL-2.0-only
/*
 * A device that mirrors a process (test_hmm) and a file on fsdax that the process
 * maps, in 4 KiB pages and in 2 MiB pages. What the device reads must be what the
 * file holds, what it writes must get there, and what a snapshot shows must be what
 * /proc/pid/pagemap shows, also after the file has been truncated or punched under
 * the mirror.
 *
 * Runs in the machine of scripts/vm, with ext4 -o dax on /mnt/dax.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <linux/fs.h>

#include "kselftest_harness.h"
#include "common.h"
#include "dmirror.h"

#define SIZE		(2 * HUGE)
#define PAGES		(SIZE / PAGE)
#define NAME		"/mnt/dax/file"

FIXTURE(file)
{
	int file, device, pagemap;
	char *map;	/* the file, shared */
	char *copy;	/* what the device has read, or is to write */
};

FIXTURE_VARIANT(file)
{
	bool huge;
};

FIXTURE_VARIANT_ADD(file, small)
{
	.huge = false,
};

FIXTURE_VARIANT_ADD(file, huge)
{
	.huge = true,
};

/* Address space for a mapping that huge pages fit or, a page further, do not. */
static char *map_file(int file, int flags, bool huge)
{
	char *p = mmap(NULL, SIZE + 2 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return p;
	p = (char *)(((unsigned long)p + HUGE - 1) & ~(HUGE - 1)) + (huge ? 0 : PAGE);
	return mmap(p, SIZE, PROT_READ | PROT_WRITE, flags | MAP_FIXED, file, 0);
}

/* The PAGE_IS_ flags of the page, of which only those that a snapshot can show. */
static unsigned long long present(int pagemap, char *addr)
{
	struct page_region region = {};
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = (unsigned long)addr,
		.end = (unsigned long)addr + PAGE,
		.vec = (unsigned long)&region,
		.vec_len = 1,
		.return_mask = PAGE_IS_PRESENT | PAGE_IS_HUGE | PAGE_IS_PFNZERO,
	};

	return ioctl(pagemap, PAGEMAP_SCAN, &arg) < 0 ? ~0ULL : region.categories;
}

/* What a snapshot must show of the page, which a write has reached or not. */
static unsigned char expected(int pagemap, char *addr, bool written)
{
	unsigned long long is = present(pagemap, addr);
	unsigned char prot = written ? HMM_DMIRROR_PROT_WRITE : HMM_DMIRROR_PROT_READ;

	if (!(is & PAGE_IS_PRESENT))
		return HMM_DMIRROR_PROT_NONE;
	if (is & PAGE_IS_HUGE)
		prot |= HMM_DMIRROR_PROT_PMD;
	else if (is & PAGE_IS_PFNZERO)
		prot |= HMM_DMIRROR_PROT_ZERO;
	return prot;
}

/* Whether a snapshot shows what is there; @written: and that it has been written. */
static bool snapshot_is_right(struct _test_data_file *self, size_t from, size_t to, bool written)
{
	unsigned char got[PAGES];
	size_t i;

	if (command(self->device, HMM_DMIRROR_SNAPSHOT, self->map + from, got, to - from))
		return false;
	for (i = 0; i < (to - from) / PAGE; i++) {
		unsigned char want = expected(self->pagemap, self->map + from + i * PAGE,
						      written);

		if (got[i] == want)
			continue;
		printf("# page %zu: snapshot %#x, expected %#x\n", from / PAGE + i, got[i], want);
		return false;
	}
	return true;
}

/* Touch each page, so that the CPU maps it. */
static void touch(char *map, bool write)
{
	size_t i;

	for (i = 0; i < PAGES; i++) {
		atomic_char *p = (atomic_char *)(map + i * PAGE);
		char c = atomic_load(p);

		if (write)
			atomic_store(p, c);
	}
}

/* Whether the file holds generation @generation from @from to @to: read(), no mapping. */
static bool holds(int file, size_t from, size_t to, unsigned int generation)
{
	char *p = malloc(to - from);
	bool same = p && pread(file, p, to - from, from) == (ssize_t)(to - from) &&
		filled(p, from, to - from, generation);

	free(p);
	return same;
}

static bool put(int file, size_t from, size_t to, unsigned int generation)
{
	char *p = malloc(to - from);
	bool done;

	if (!p)
		return false;
	fill(p, from, to - from, generation);
	done = pwrite(file, p, to - from, from) == (ssize_t)(to - from);
	free(p);
	return done;
}

static bool on_dax(int file)
{
	struct statx is;

	return !statx(file, "", AT_EMPTY_PATH, 0, &is) && is.stx_attributes & STATX_ATTR_DAX;
}

FIXTURE_SETUP(file)
{
	self->file = open(NAME, O_RDWR | O_CREAT | O_TRUNC, 0600);
	ASSERT_GE(self->file, 0);
	ASSERT_TRUE(on_dax(self->file));
	ASSERT_EQ(fallocate(self->file, 0, 0, SIZE), 0);
	ASSERT_TRUE(put(self->file, 0, SIZE, 1));
	ASSERT_EQ(fsync(self->file), 0);
	self->device = open(DMIRROR, O_RDWR);
	ASSERT_GE(self->device, 0);
	self->pagemap = open("/proc/self/pagemap", O_RDONLY);
	ASSERT_GE(self->pagemap, 0);
	self->copy = malloc(SIZE);
	ASSERT_NE(self->copy, NULL);
	memset(self->copy, 0x5a, SIZE);
	self->map = map_file(self->file, MAP_SHARED, variant->huge);
	ASSERT_NE(self->map, MAP_FAILED);
}

FIXTURE_TEARDOWN(file)
{
	unlink(NAME);
}

/* Whether the device reads generation @generation from @from to @to. */
static bool device_reads(struct _test_data_file *self, size_t from, size_t to,
			 unsigned int generation)
{
	int ret = command(self->device, HMM_DMIRROR_READ, self->map + from, self->copy, to - from);

	if (ret)
		printf("# the device cannot read: %d\n", ret);
	return !ret && filled(self->copy, from, to - from, generation);
}

static bool device_writes(struct _test_data_file *self, size_t from, size_t to,
			  unsigned int generation)
{
	int ret;

	fill(self->copy, from, to - from, generation);
	ret = command(self->device, HMM_DMIRROR_WRITE, self->map + from, self->copy, to - from);
	if (ret)
		printf("# the device cannot write: %d\n", ret);
	return !ret;
}

TEST_F(file, read)
{
	ASSERT_TRUE(device_reads(self, 0, SIZE, 1));
	ASSERT_EQ(!!(present(self->pagemap, self->map + PAGE) & PAGE_IS_HUGE), variant->huge);
	/* A write() to the file is seen without another fault. */
	ASSERT_TRUE(put(self->file, PAGE, 3 * PAGE, 2));
	ASSERT_TRUE(device_reads(self, PAGE, 3 * PAGE, 2));
	ASSERT_TRUE(device_reads(self, 3 * PAGE, SIZE, 1));
}

TEST_F(file, read_unlocked)
{
	ASSERT_EQ(command(self->device, HMM_DMIRROR_READ_UNLOCKED, self->map, self->copy, SIZE), 0);
	ASSERT_TRUE(filled(self->copy, 0, SIZE, 1));
}

TEST_F(file, write)
{
	ASSERT_TRUE(device_writes(self, 0, SIZE, 2));
	ASSERT_EQ(!!(present(self->pagemap, self->map + PAGE) & PAGE_IS_HUGE), variant->huge);
	ASSERT_TRUE(filled(self->map, 0, SIZE, 2));
	ASSERT_TRUE(holds(self->file, 0, SIZE, 2));
	/* It is there after the filesystem has gone and come back. */
	ASSERT_EQ(munmap(self->map, SIZE), 0);
	ASSERT_EQ(close(self->file), 0);
	ASSERT_EQ(umount("/mnt/dax"), 0);
	ASSERT_EQ(mount("/dev/pmem0", "/mnt/dax", "ext4", 0, "dax=always"), 0);
	self->file = open(NAME, O_RDWR);
	ASSERT_GE(self->file, 0);
	ASSERT_TRUE(holds(self->file, 0, SIZE, 2));
}

TEST_F(file, snapshot)
{
	ASSERT_TRUE(snapshot_is_right(self, 0, SIZE, false));
	ASSERT_EQ(present(self->pagemap, self->map), 0);
	touch(self->map, false);
	ASSERT_EQ(!!(present(self->pagemap, self->map) & PAGE_IS_HUGE), variant->huge);
	ASSERT_TRUE(snapshot_is_right(self, 0, SIZE, false));
	touch(self->map, true);
	ASSERT_EQ(!!(present(self->pagemap, self->map) & PAGE_IS_HUGE), variant->huge);
	ASSERT_TRUE(snapshot_is_right(self, 0, SIZE, true));
	/* No snapshot has faulted what was not there. */
	ASSERT_EQ(madvise(self->map, SIZE, MADV_DONTNEED), 0);
	ASSERT_TRUE(snapshot_is_right(self, 0, SIZE, false));
	ASSERT_EQ(present(self->pagemap, self->map), 0);
}

/* Holes: the zero page, small or huge, until they are written. */
TEST_F(file, snapshot_hole)
{
	ASSERT_EQ(ftruncate(self->file, 0), 0);
	ASSERT_EQ(ftruncate(self->file, SIZE), 0);
	ASSERT_TRUE(snapshot_is_right(self, 0, SIZE, false));
	touch(self->map, false);
	ASSERT_EQ(!!(present(self->pagemap, self->map) & PAGE_IS_HUGE), variant->huge);
	ASSERT_TRUE(snapshot_is_right(self, 0, SIZE, false));
	ASSERT_TRUE(device_reads(self, 0, SIZE, 0));
	ASSERT_TRUE(device_writes(self, PAGE, 3 * PAGE, 2));
	ASSERT_TRUE(holds(self->file, 0, PAGE, 0));
	ASSERT_TRUE(holds(self->file, PAGE, 3 * PAGE, 2));
	ASSERT_TRUE(holds(self->file, 3 * PAGE, SIZE, 0));
	ASSERT_TRUE(device_reads(self, PAGE, 3 * PAGE, 2));
}

TEST_F(file, truncate)
{
	ASSERT_TRUE(device_writes(self, 0, SIZE, 2));
	ASSERT_EQ(ftruncate(self->file, HUGE + PAGE), 0);
	ASSERT_TRUE(device_reads(self, 0, HUGE + PAGE, 2));
	ASSERT_EQ(command(self->device, HMM_DMIRROR_READ, self->map + HUGE + PAGE, self->copy,
			  PAGE), -EFAULT);
	ASSERT_EQ(command(self->device, HMM_DMIRROR_WRITE, self->map + SIZE - PAGE, self->copy,
			  PAGE), -EFAULT);
	ASSERT_EQ(present(self->pagemap, self->map + SIZE - PAGE), 0);
	/* What comes back is zero, not what the device has seen there. */
	ASSERT_EQ(ftruncate(self->file, SIZE), 0);
	ASSERT_TRUE(device_reads(self, HUGE + PAGE, SIZE, 0));
	ASSERT_TRUE(device_reads(self, 0, HUGE + PAGE, 2));
	ASSERT_TRUE(device_writes(self, HUGE, SIZE, 3));
	ASSERT_TRUE(holds(self->file, 0, HUGE, 2));
	ASSERT_TRUE(holds(self->file, HUGE, SIZE, 3));
}

TEST_F(file, punch_hole)
{
	ASSERT_TRUE(device_writes(self, 0, SIZE, 2));
	ASSERT_EQ(fallocate(self->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			    HUGE - 2 * PAGE, 4 * PAGE), 0);
	ASSERT_TRUE(device_reads(self, 0, HUGE - 2 * PAGE, 2));
	ASSERT_TRUE(device_reads(self, HUGE - 2 * PAGE, HUGE + 2 * PAGE, 0));
	ASSERT_TRUE(device_reads(self, HUGE + 2 * PAGE, SIZE, 2));
	ASSERT_TRUE(device_writes(self, HUGE - PAGE, HUGE + PAGE, 3));
	ASSERT_TRUE(holds(self->file, HUGE - 2 * PAGE, HUGE - PAGE, 0));
	ASSERT_TRUE(holds(self->file, HUGE - PAGE, HUGE + PAGE, 3));
	ASSERT_EQ(fallocate(self->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, HUGE, HUGE), 0);
	ASSERT_TRUE(device_reads(self, HUGE, SIZE, 0));
}

TEST_F(file, dontneed)
{
	ASSERT_TRUE(device_writes(self, 0, SIZE, 2));
	ASSERT_EQ(madvise(self->map + PAGE, SIZE - 2 * PAGE, MADV_DONTNEED), 0);
	ASSERT_TRUE(snapshot_is_right(self, PAGE, SIZE - PAGE, false));
	ASSERT_TRUE(device_reads(self, 0, SIZE, 2));
	ASSERT_EQ(munmap(self->map, SIZE), 0);
	ASSERT_EQ(command(self->device, HMM_DMIRROR_READ, self->map, self->copy, PAGE), -EFAULT);
	ASSERT_TRUE(holds(self->file, 0, SIZE, 2));
}

TEST_F(file, fork_shared)
{
	int status;
	pid_t child;

	ASSERT_TRUE(device_writes(self, 0, SIZE, 2));
	child = fork();
	ASSERT_GE(child, 0);
	if (!child) {
		fill(self->map + PAGE, PAGE, HUGE, 3);
		_exit(filled(self->map, 0, PAGE, 2) ? 0 : 1);
	}
	ASSERT_EQ(waitpid(child, &status, 0), child);
	ASSERT_EQ(status, 0);
	ASSERT_TRUE(device_reads(self, 0, PAGE, 2));
	ASSERT_TRUE(device_reads(self, PAGE, PAGE + HUGE, 3));
	ASSERT_TRUE(device_reads(self, PAGE + HUGE, SIZE, 2));
}

/*
 * A private mapping that has been written: after fork() the device of the parent and
 * the child each keep their own, and the file keeps what it had.
 */
TEST_F(file, fork_private)
{
	int to_child[2], from_child[2], status;
	pid_t child;
	char c;

	ASSERT_EQ(munmap(self->map, SIZE), 0);
	self->map = map_file(self->file, MAP_PRIVATE, variant->huge);
	ASSERT_NE(self->map, MAP_FAILED);
	fill(self->map, 0, HUGE, 2);
	ASSERT_TRUE(device_reads(self, 0, HUGE, 2));
	ASSERT_TRUE(device_reads(self, HUGE, SIZE, 1));

	ASSERT_EQ(pipe(to_child), 0);
	ASSERT_EQ(pipe(from_child), 0);
	child = fork();
	ASSERT_GE(child, 0);
	if (!child) {
		bool kept;

		/* Only when the device of the parent has written. */
		kept = read(to_child[0], &c, 1) == 1 && filled(self->map, 0, HUGE, 2) &&
			filled(self->map + HUGE, HUGE, HUGE, 1);
		fill(self->map, 0, SIZE, 4);
		kept = write(from_child[1], "", 1) == 1 && kept;
		_exit(kept ? 0 : 1);
	}
	ASSERT_TRUE(device_writes(self, PAGE, SIZE, 3));
	ASSERT_EQ(write(to_child[1], "", 1), 1);
	ASSERT_EQ(read(from_child[0], &c, 1), 1);
	ASSERT_EQ(waitpid(child, &status, 0), child);
	ASSERT_EQ(status, 0);
	ASSERT_TRUE(device_reads(self, 0, PAGE, 2));
	ASSERT_TRUE(device_reads(self, PAGE, SIZE, 3));
	ASSERT_TRUE(filled(self->map + PAGE, PAGE, SIZE - PAGE, 3));
	ASSERT_TRUE(holds(self->file, 0, SIZE, 1));
}

/*
 * Storms: memory that changes under a device that reads and writes all the time. What
 * the device reads belongs where it is read; what it writes stays; and once a change
 * is done, it is what the device reads, all of it.
 */
#define OWN	(16 * PAGE)	/* at the start, for the device alone to write */

static atomic_size_t changing = OWN;	/* where the process works */

struct device {
	int device, file;
	char *map;
	bool truncated;		/* the file behind OWN may be too short at times */
	atomic_bool stop;
	bool ok;
	unsigned long reads, writes;
};

static void *read_always(void *arg)
{
	struct device *dev = arg;
	const size_t size = 16 * PAGE;
	char *copy = malloc(size);
	size_t at, next = OWN;

	dev->ok = copy;
	while (dev->ok && !dev->stop) {
		bool unlocked = rand() % 2;
		int ret;

		if (rand() % 2) {
			at = changing;
		} else {
			at = next;
			next = next + size == SIZE ? OWN : next + size;
		}
		ret = command(dev->device, unlocked ? HMM_DMIRROR_READ_UNLOCKED : HMM_DMIRROR_READ,
			      dev->map + at, copy, size);
		if (!ret) {
			dev->ok = in_place(copy, at, size, 0);
			dev->reads++;
		} else if (ret == -EBUSY && !unlocked) {
			/* It gives up after a second of invalidations. */
		} else if (dev->truncated && (ret == -EFAULT || ret == -ENOMEM)) {
			/*
			 * The file was too short, or MADV_DONTNEED freed the page table
			 * under the fault, which mm/memory.c takes for a lack of memory.
			 */
		} else {
			printf("# the device cannot read: %d\n", ret);
			dev->ok = false;
		}
	}
	free(copy);
	return NULL;
}

static void *write_always(void *arg)
{
	struct device *dev = arg;
	unsigned int generation;
	char *copy = malloc(OWN);

	dev->ok = copy;
	for (generation = 1; dev->ok && !dev->stop; generation++) {
		int ret;

		fill(copy, 0, OWN, generation);
		ret = command(dev->device, HMM_DMIRROR_WRITE, dev->map, copy, OWN);
		if (ret == -EBUSY || (dev->truncated && ret == -ENOMEM))
			continue;
		if (ret) {
			printf("# the device cannot write: %d\n", ret);
			dev->ok = false;
			break;
		}
		dev->ok = filled(dev->map, 0, OWN, generation) &&
			(!dev->truncated || holds(dev->file, 0, OWN, generation));
		dev->writes++;
	}
	free(copy);
	return NULL;
}

struct storm {
	struct device reader, writer;
	pthread_t thread[2];
	time_t end;
	char *want;	/* what the file or the mapping has to be, but for OWN */
};

static bool begin(struct storm *storm, struct _test_data_file *self, bool truncated)
{
	storm->reader = (struct device) {
		.device = self->device, .file = self->file, .map = self->map,
		.truncated = truncated,
	};
	storm->writer = storm->reader;
	storm->want = malloc(SIZE);
	storm->end = time(NULL) + seconds();
	if (!storm->want)
		return false;
	fill(storm->want, 0, SIZE, 1);
	srand(1);
	return !pthread_create(&storm->thread[0], NULL, read_always, &storm->reader) &&
		!pthread_create(&storm->thread[1], NULL, write_always, &storm->writer);
}

/* Whether all that the device has read and written meanwhile was right. */
static bool end(struct storm *storm)
{
	int i;

	storm->reader.stop = true;
	storm->writer.stop = true;
	for (i = 0; i < 2; i++) {
		if (pthread_join(storm->thread[i], NULL))
			return false;
	}
	printf("# %lu reads, %lu writes\n", storm->reader.reads, storm->writer.writes);
	return storm->reader.ok && storm->reader.reads && storm->writer.ok && storm->writer.writes;
}

/* Whether all that is not the device's own is @want: mapped, by read() and by the device. */
static bool all_is(struct _test_data_file *self, const char *want, int file)
{
	size_t size = SIZE - OWN;
	bool same = !memcmp(self->map + OWN, want + OWN, size);

	same &= !command(self->device, HMM_DMIRROR_READ, self->map + OWN, self->copy, size) &&
		!memcmp(self->copy, want + OWN, size);
	if (file >= 0)
		same &= pread(file, self->copy, size, OWN) == (ssize_t)size &&
			!memcmp(self->copy, want + OWN, size);
	return same;
}

/* The part of the file that the next change is about. */
static void choose(size_t *from, size_t *to)
{
	*from = OWN + rand() % ((SIZE - OWN) / PAGE - 16) * PAGE;
	*to = *from + (1 + rand() % 16) * PAGE;
	changing = *from;
}

TEST_F_TIMEOUT(file, storm_shared, 600)
{
	unsigned int generation = 1, huge = 0;
	struct storm storm;

	ASSERT_TRUE(device_reads(self, 0, SIZE, 1));
	ASSERT_EQ(!!(present(self->pagemap, self->map + HUGE) & PAGE_IS_HUGE), variant->huge);
	ASSERT_TRUE(begin(&storm, self, true));
	while (time(NULL) < storm.end || generation <= 16) {
		size_t from, to;

		choose(&from, &to);
		generation++;
		switch (rand() % 4) {
		case 0:
			ASSERT_EQ(fallocate(self->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					    from, to - from), 0);
			ASSERT_TRUE(device_reads(self, from, to, 0));
			fill(self->map + from, from, to - from, generation);
			break;
		case 1:
			/* Not by write(): fs/dax.c warns when that fills a hole under a fault. */
			ASSERT_EQ(madvise(self->map, SIZE, MADV_DONTNEED), 0);
			fill(self->map + from, from, to - from, generation);
			break;
		case 2:
			ASSERT_EQ(ftruncate(self->file, from), 0);
			ASSERT_EQ(ftruncate(self->file, SIZE), 0);
			memset(storm.want + from, 0, SIZE - from);
			ASSERT_TRUE(device_reads(self, from, SIZE, 0));
			ASSERT_TRUE(device_writes(self, from, to, generation));
			break;
		default:
			ASSERT_TRUE(device_writes(self, from, to, generation));
		}
		fill(storm.want + from, from, to - from, generation);
		ASSERT_TRUE(device_reads(self, from, to, generation));
		huge += !!(present(self->pagemap, self->map + from) & PAGE_IS_HUGE);
		if (generation % 16 == 0)
			ASSERT_TRUE(all_is(self, storm.want, self->file));
	}
	ASSERT_TRUE(end(&storm));
	ASSERT_TRUE(all_is(self, storm.want, self->file));
	printf("# %u changes, %u seen in huge pages\n", generation - 1, huge);
}

/* The same with pages that are the process's own: each change brings another page. */
TEST_F_TIMEOUT(file, storm_private, 600)
{
	unsigned int generation = 1;
	struct storm storm;

	ASSERT_EQ(munmap(self->map, SIZE), 0);
	self->map = map_file(self->file, MAP_PRIVATE, variant->huge);
	ASSERT_NE(self->map, MAP_FAILED);
	ASSERT_TRUE(begin(&storm, self, false));
	while (time(NULL) < storm.end || generation <= 16) {
		size_t from, to;

		choose(&from, &to);
		generation++;
		ASSERT_EQ(madvise(self->map + from, to - from, MADV_DONTNEED), 0);
		if (rand() % 2)
			ASSERT_TRUE(device_reads(self, from, to, 1));
		if (rand() % 2)
			fill(self->map + from, from, to - from, generation);
		else
			ASSERT_TRUE(device_writes(self, from, to, generation));
		fill(storm.want + from, from, to - from, generation);
		ASSERT_TRUE(device_reads(self, from, to, generation));
		if (generation % 16 == 0)
			ASSERT_TRUE(all_is(self, storm.want, -1));
	}
	ASSERT_TRUE(end(&storm));
	ASSERT_TRUE(all_is(self, storm.want, -1));
	ASSERT_TRUE(holds(self->file, 0, SIZE, 1));
	printf("# %u changes\n", generation - 1);
}

TEST_HARNESS_MAIN
