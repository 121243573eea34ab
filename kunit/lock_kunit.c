// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suite hmm_lock: who waits for the mmap lock, and who need not. Another thread holds
 * it for write, until it is told to let go or for two seconds: who returns while it is
 * held has not waited.
 */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/sched/mm.h>

#include "device.h"

#define NPAGES 8

struct writer {
	struct mm_struct *mm;
	unsigned long lock;	/* an address in a VMA that is about to be changed */
	struct completion locked;
	struct completion let_go;
	struct completion done;
	bool holds;
};

static int writer_thread(void *data)
{
	struct writer *writer = data;
	struct vm_area_struct *vma;

	mmap_write_lock(writer->mm);
	vma = writer->lock ? vma_lookup(writer->mm, writer->lock) : NULL;
	if (vma)
		vma_start_write(vma);
	WRITE_ONCE(writer->holds, true);
	complete(&writer->locked);
	wait_for_completion_timeout(&writer->let_go, 2 * HZ);
	WRITE_ONCE(writer->holds, false);
	mmap_write_unlock(writer->mm);
	complete(&writer->done);
	return 0;
}

static void writer_start(struct kunit *test, struct writer *writer, struct mm_struct *mm,
			 unsigned long lock)
{
	*writer = (struct writer) { .mm = mm, .lock = lock };
	init_completion(&writer->locked);
	init_completion(&writer->let_go);
	init_completion(&writer->done);
	KUNIT_ASSERT_FALSE(test, IS_ERR(kthread_run(writer_thread, writer, "writer")));
	wait_for_completion(&writer->locked);
}

/* Returns whether it was still held. */
static bool writer_end(struct writer *writer)
{
	bool held = READ_ONCE(writer->holds);

	complete(&writer->let_go);
	wait_for_completion(&writer->done);
	return held;
}

static unsigned long some_pages(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, NPAGES);

	for (int i = 0; i < NPAGES; i++)
		hmm_kunit_write(test, addr + i * PAGE_SIZE, i);
	return addr;
}

#ifdef CONFIG_PER_VMA_LOCK

/* What a snapshot of pages that are there says, and whether it waited to say it. */
static void expect_snapshot(struct kunit *test, struct hmm_kunit_mirror *mirror,
			    unsigned long lock, bool waits)
{
	struct writer writer;

	writer_start(test, &writer, current->mm, lock);
	KUNIT_EXPECT_EQ(test, 0, hmm_range_snapshot(&mirror->range));
	KUNIT_EXPECT_EQ(test, writer_end(&writer), !waits);
	hmm_kunit_expect_mapped(test, mirror);
}

static void snapshot_one_vma(struct kunit *test)
{
	unsigned long addr = some_pages(test);

	expect_snapshot(test, hmm_kunit_mirror(test, addr, NPAGES, 0), 0, false);
	expect_snapshot(test, hmm_kunit_mirror(test, addr + PAGE_SIZE, 1, 0), 0, false);
}

/* What may not be read is an error of the VMA, for which it need not be walked. */
static void snapshot_unreadable(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, NPAGES);
	struct hmm_kunit_mirror *mirror;
	struct writer writer;

	KUNIT_ASSERT_EQ(test, addr, vm_mmap(NULL, addr, NPAGES * PAGE_SIZE, PROT_NONE,
					    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0));
	mirror = hmm_kunit_mirror(test, addr, NPAGES, 0);
	writer_start(test, &writer, current->mm, 0);
	KUNIT_EXPECT_EQ(test, 0, hmm_range_snapshot(&mirror->range));
	KUNIT_EXPECT_TRUE(test, writer_end(&writer));
	for (int i = 0; i < NPAGES; i++)
		KUNIT_EXPECT_EQ(test, mirror->range.hmm_pfns[i], HMM_PFN_ERROR);

	hmm_kunit_kill(true);
	KUNIT_EXPECT_EQ(test, -EINTR, hmm_range_snapshot(&mirror->range));
	hmm_kunit_kill(false);
}

/* The lock of the VMA does not do: it is about to be changed. */
static void snapshot_changing_vma(struct kunit *test)
{
	unsigned long addr = some_pages(test);

	expect_snapshot(test, hmm_kunit_mirror(test, addr, NPAGES, 0), addr, true);
}

/* Nor if there is another. */
static void snapshot_two_vmas(struct kunit *test)
{
	unsigned long addr = some_pages(test), half = NPAGES / 2 * PAGE_SIZE;

	KUNIT_ASSERT_EQ(test, addr, vm_mmap(NULL, addr, half, PROT_READ,
					    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0));
	for (int i = 0; i < NPAGES / 2; i++)
		hmm_kunit_read(test, addr + i * PAGE_SIZE);
	expect_snapshot(test, hmm_kunit_mirror(test, addr, NPAGES, 0), 0, true);
	expect_snapshot(test, hmm_kunit_mirror(test, addr + half, NPAGES / 2, 0), 0, false);
}

#endif /* CONFIG_PER_VMA_LOCK */

/* Where there is none, there is only the mmap lock. */
static void snapshot_no_vma(struct kunit *test)
{
	unsigned long addr = some_pages(test);
	struct hmm_kunit_mirror *mirror = hmm_kunit_mirror(test, addr, NPAGES, 0);
	struct writer writer;

	KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr, PAGE_SIZE));
	writer_start(test, &writer, current->mm, 0);
	KUNIT_EXPECT_EQ(test, 0, hmm_range_snapshot(&mirror->range));
	KUNIT_EXPECT_FALSE(test, writer_end(&writer));
	KUNIT_EXPECT_EQ(test, mirror->range.hmm_pfns[0], HMM_PFN_ERROR);
	KUNIT_EXPECT_NE(test, mirror->range.hmm_pfns[1], HMM_PFN_ERROR);
}

/* The helper for drivers waits for the lock, unless it is killed. */
static void mmap_lock(struct kunit *test)
{
	struct hmm_kunit_device *device = hmm_kunit_device_of(test, some_pages(test), NPAGES);
	struct hmm_mirror *mirror = &device->mirror;
	int users = atomic_read(&current->mm->mm_users);
	struct writer writer;

	writer_start(test, &writer, current->mm, 0);
	KUNIT_ASSERT_EQ(test, 0, hmm_mirror_mmap_read_lock(mirror));
	KUNIT_EXPECT_FALSE(test, writer_end(&writer));
	KUNIT_EXPECT_TRUE(test, rwsem_is_locked(&current->mm->mmap_lock));
	hmm_mirror_mmap_read_unlock(mirror);
	KUNIT_EXPECT_FALSE(test, rwsem_is_locked(&current->mm->mmap_lock));

	writer_start(test, &writer, current->mm, 0);
	hmm_kunit_kill(true);
	KUNIT_EXPECT_EQ(test, -EINTR, hmm_mirror_mmap_read_lock(mirror));
	hmm_kunit_kill(false);
	KUNIT_EXPECT_TRUE(test, writer_end(&writer));
	KUNIT_EXPECT_EQ(test, users, atomic_read(&current->mm->mm_users));
}

/* Who holds it keeps the memory of a process that exits; who comes later has none. */
static void mmap_lock_exit(struct kunit *test)
{
	struct hmm_kunit_device *device = hmm_kunit_device(test);
	struct mm_struct *mm;

	hmm_kunit_anon(test, 1);
	mm = hmm_kunit_fork(test);
	KUNIT_ASSERT_EQ(test, 0, hmm_kunit_device_register(device, mm, 0, 1));
	/* The child that made it lets go. */
	for (int ms = 0; atomic_read(&mm->mm_users) > 1 && ms < 10000; ms++)
		fsleep(1000);
	KUNIT_ASSERT_EQ(test, 0, hmm_mirror_mmap_read_lock(&device->mirror));
	hmm_kunit_let_go(test, mm);
	KUNIT_EXPECT_EQ(test, 0, device->nr_exits);
	KUNIT_EXPECT_EQ(test, 1, atomic_read(&mm->mm_users));
	hmm_mirror_mmap_read_unlock(&device->mirror);
	for (int ms = 0; !READ_ONCE(device->nr_exits) && ms < 10000; ms++)
		fsleep(1000);
	KUNIT_EXPECT_EQ(test, 1, device->nr_exits);
	KUNIT_EXPECT_PTR_NE(test, device->exit_task, current);
	KUNIT_EXPECT_EQ(test, -EFAULT, hmm_mirror_mmap_read_lock(&device->mirror));
}

static struct kunit_case hmm_lock_cases[] = {
#ifdef CONFIG_PER_VMA_LOCK
	KUNIT_CASE(snapshot_one_vma),
	KUNIT_CASE(snapshot_unreadable),
	KUNIT_CASE(snapshot_changing_vma),
	KUNIT_CASE(snapshot_two_vmas),
#endif
	KUNIT_CASE(snapshot_no_vma),
	KUNIT_CASE(mmap_lock),
	KUNIT_CASE(mmap_lock_exit),
	{ }
};

static struct kunit_suite hmm_lock_suite = {
	.name = "hmm_lock",
	.test_cases = hmm_lock_cases,
};

kunit_test_suite(hmm_lock_suite);
