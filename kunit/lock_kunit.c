// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suite hmm_lock: who waits for the mmap lock, and who need not. Another thread holds
 * it for write until somebody waits for it, or until it is told to let go.
 */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/nmi.h>
#include <linux/sched/mm.h>

#include "device.h"

#define NPAGES 8

struct writer {
	struct mm_struct *mm;
	unsigned long lock;	/* an address in a VMA that is about to be changed */
	struct task_struct *kill;	/* who is killed when it waits */
	unsigned int delay_ms;	/* before it takes the lock */
	struct hmm_kunit_file *file;
	unsigned int nr_faults;	/* of the file when it has the lock */
	struct completion locked;
	struct completion let_go;
	struct completion done;
	bool waited_for;
};

static int writer_thread(void *data)
{
	struct writer *writer = data;
	struct vm_area_struct *vma;

	msleep(writer->delay_ms);
	mmap_write_lock(writer->mm);
	vma = writer->lock ? vma_lookup(writer->mm, writer->lock) : NULL;
	if (vma)
		vma_start_write(vma);
	if (writer->file)
		writer->nr_faults = atomic_read(&writer->file->nr_faults);
	complete(&writer->locked);
	while (!writer->waited_for && !try_wait_for_completion(&writer->let_go)) {
		fsleep(100);
		writer->waited_for = mmap_lock_is_contended(writer->mm);
	}
	if (writer->waited_for && writer->kill) {
		hmm_kunit_kill_task(writer->kill);
		wait_for_completion_timeout(&writer->let_go, 10 * HZ);
	}
	mmap_write_unlock(writer->mm);
	complete(&writer->done);
	return 0;
}

/* @writer says what it does, if anything, besides holding the lock of @mm. */
static void writer_start(struct kunit *test, struct writer *writer, struct mm_struct *mm)
{
	writer->mm = mm;
	init_completion(&writer->locked);
	init_completion(&writer->let_go);
	init_completion(&writer->done);
	KUNIT_ASSERT_FALSE(test, IS_ERR(kthread_run(writer_thread, writer, "writer")));
	if (!writer->delay_ms)
		wait_for_completion(&writer->locked);
}

/* Returns whether somebody has waited. */
static bool writer_end(struct writer *writer)
{
	complete(&writer->let_go);
	wait_for_completion(&writer->done);
	return writer->waited_for;
}

static unsigned long some_pages(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, NPAGES);

	for (int i = 0; i < NPAGES; i++)
		hmm_kunit_write(test, addr + i * PAGE_SIZE, i);
	return addr;
}

static unsigned long hugetlb(struct kunit *test, unsigned long npages)
{
	return hmm_kunit_hugetlb(test, npages, PMD_SHIFT - PAGE_SHIFT);
}

static int fault(struct hmm_range *range)
{
	return hmm_range_fault_unlocked_timeout(range, 0);
}

/* What does not fault, and what does. */
static const struct call {
	const char *name;
	int (*fn)(struct hmm_range *range);
	unsigned long default_flags;
} call_params[] = {
	{ "snapshot", hmm_range_snapshot },
	{ "fault", fault, REQ_WRITE },
};

KUNIT_ARRAY_PARAM_DESC(call, call_params, name);

/* The call returns @ret, and has waited for the lock or has not. */
static void expect(struct kunit *test, const struct call *call,
		   struct hmm_kunit_mirror *mirror, struct writer *writer, int ret,
		   bool waits)
{
	writer_start(test, writer, current->mm);
	KUNIT_EXPECT_EQ(test, ret, call->fn(&mirror->range));
	KUNIT_EXPECT_EQ(test, waits, writer_end(writer));
}

#ifdef CONFIG_PER_VMA_LOCK

/* The same for pages that are there afterwards. */
static void expect_mapped(struct kunit *test, const struct call *call, unsigned long addr,
			  unsigned long npages, unsigned long lock, bool waits)
{
	struct hmm_kunit_mirror *mirror =
		hmm_kunit_mirror(test, addr, npages, call->default_flags);
	struct writer writer = { .lock = lock };

	expect(test, call, mirror, &writer, 0, waits);
	hmm_kunit_expect_mapped(test, mirror);
}

static void one_vma(struct kunit *test)
{
	unsigned long addr = some_pages(test);

	expect_mapped(test, test->param_value, addr, NPAGES, 0, false);
	expect_mapped(test, test->param_value, addr + PAGE_SIZE, 1, 0, false);
}

/* What may not be read is an error of the VMA, for which it need not be walked. */
static void unreadable(struct kunit *test)
{
	const struct call *call = test->param_value;
	unsigned long addr = hmm_kunit_anon(test, NPAGES);
	struct hmm_kunit_mirror *mirror;
	struct writer writer = {};

	KUNIT_ASSERT_EQ(test, addr, vm_mmap(NULL, addr, NPAGES * PAGE_SIZE, PROT_NONE,
					    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0));
	mirror = hmm_kunit_mirror(test, addr, NPAGES, call->default_flags);
	/* What may have to be faulted needs an anon_vma. */
	expect(test, call, mirror, &writer, call->default_flags ? -EFAULT : 0,
	       call->default_flags);
	for (int i = 0; i < NPAGES; i++)
		KUNIT_EXPECT_EQ(test, mirror->range.hmm_pfns[i],
				call->default_flags ? HMM_KUNIT_POISON : HMM_PFN_ERROR);

	hmm_kunit_kill(true);
	KUNIT_EXPECT_EQ(test, -EINTR, call->fn(&mirror->range));
	hmm_kunit_kill(false);
}

/* The lock of the VMA does not do: it is about to be changed. */
static void changing_vma(struct kunit *test)
{
	unsigned long addr = some_pages(test);

	expect_mapped(test, test->param_value, addr, NPAGES, addr, true);
}

/* Nor if there is another. */
static void two_vmas(struct kunit *test)
{
	unsigned long addr = some_pages(test), half = NPAGES / 2 * PAGE_SIZE;

	KUNIT_ASSERT_EQ(test, addr, vm_mmap(NULL, addr, half,
					    PROT_READ | PROT_WRITE | PROT_EXEC,
					    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0));
	for (int i = 0; i < NPAGES / 2; i++)
		hmm_kunit_write(test, addr + i * PAGE_SIZE, i);
	expect_mapped(test, test->param_value, addr, NPAGES, 0, true);
	expect_mapped(test, test->param_value, addr + half, NPAGES / 2, 0, false);
}

static void expect_fault(struct kunit *test, unsigned long addr, unsigned long npages,
			 unsigned long default_flags, bool waits)
{
	struct call call = { .fn = fault, .default_flags = default_flags };

	expect_mapped(test, &call, addr, npages, 0, waits);
}

/* Pages of all sizes are faulted without waiting. */
static void fault_anon(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, NPAGES);

	hmm_kunit_write(test, addr, 0);
	expect_fault(test, addr, NPAGES, REQ_WRITE, false);
}

static void fault_thp(struct kunit *test)
{
	unsigned long addr = hmm_kunit_thp(test, 2 * HMM_KUNIT_TABLE);
	struct hmm_kunit_leaf leaf;

	hmm_kunit_write(test, addr, 0);
	expect_fault(test, addr, 2 * HMM_KUNIT_TABLE, REQ_WRITE, false);
	KUNIT_ASSERT_TRUE(test, hmm_kunit_leaf(addr + PMD_SIZE, &leaf));
	KUNIT_EXPECT_EQ(test, leaf.order, PMD_SHIFT - PAGE_SHIFT);
}

static void fault_hugetlb(struct kunit *test)
{
	unsigned long addr = hugetlb(test, 2 * HMM_KUNIT_TABLE);

	hmm_kunit_write(test, addr, 0);
	expect_fault(test, addr, 2 * HMM_KUNIT_TABLE, REQ_WRITE, false);
}

/* Copies of what is shared, too. */
static void fault_cow(struct kunit *test)
{
	unsigned long addr = some_pages(test);

	hmm_kunit_fork(test);
	expect_fault(test, addr, NPAGES, REQ_WRITE, false);
}

/* An anon_vma may be one of VMAs beside: the first write waits. */
static void fault_no_anon_vma(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, NPAGES);

	expect_fault(test, addr, NPAGES, REQ_READ, false);
	expect_fault(test, addr, NPAGES / 2, REQ_WRITE, true);
	expect_fault(test, addr, NPAGES, REQ_WRITE, false);
}

static unsigned long map_file(struct kunit *test, struct hmm_kunit_file **file,
			      unsigned long npages, bool map_pages)
{
	*file = hmm_kunit_file(test, npages);
	hmm_kunit_file_fill(test, *file, 0, 1);
	(*file)->map_pages = map_pages;
	return hmm_kunit_file_map(test, *file, MAP_SHARED);
}

static void fault_file(struct kunit *test)
{
	struct hmm_kunit_file *file;
	unsigned long addr = map_file(test, &file, NPAGES, true);

	expect_fault(test, addr, NPAGES, REQ_READ, false);
	hmm_kunit_madvise(test, addr, NPAGES, MADV_DONTNEED);
	expect_fault(test, addr, NPAGES, REQ_WRITE, false);
}

/*
 * Who wants to change the VMA waits for the faults that are asked for at once, and no
 * longer: for those of BITS_PER_LONG pages at most, beside the one that goes on.
 */
static void fault_gives_way(struct kunit *test)
{
	struct hmm_kunit_file *file;
	unsigned long addr = map_file(test, &file, HMM_KUNIT_TABLE, true);
	struct hmm_kunit_mirror *mirror =
		hmm_kunit_mirror(test, addr, HMM_KUNIT_TABLE, REQ_WRITE);
	struct writer writer = { .lock = addr, .delay_ms = 50, .file = file };

	/* It comes while the second page is faulted. */
	file->at = 1;
	file->times = 1;
	file->sleep_ms = 500;
	writer_start(test, &writer, current->mm);
	KUNIT_EXPECT_EQ(test, 0, fault(&mirror->range));
	KUNIT_EXPECT_TRUE(test, writer_end(&writer));
	KUNIT_EXPECT_GE(test, writer.nr_faults, 2);
	KUNIT_EXPECT_LE(test, writer.nr_faults, 2 + BITS_PER_LONG);
	hmm_kunit_expect_mapped(test, mirror);
}

/* A handler that nobody has looked at may need the mmap lock. */
static void fault_no_map_pages(struct kunit *test)
{
	struct hmm_kunit_file *file;
	unsigned long addr = map_file(test, &file, NPAGES, false);

	expect_fault(test, addr, NPAGES, REQ_READ, true);
	KUNIT_EXPECT_EQ(test, atomic_read(&file->nr_faults), NPAGES);
}

/* Who returns VM_FAULT_RETRY may, too; whether he was waited for, the flag tells. */
static const struct drop {
	const char *name;
	vm_fault_t ret;
	bool waits;
	bool tried;
} drop_params[] = {
	{ "completed", VM_FAULT_COMPLETED | VM_FAULT_NOPAGE, false, false },
	{ "retry", VM_FAULT_RETRY, true, false },
	{ "retry_major", VM_FAULT_RETRY | VM_FAULT_MAJOR, true, true },
};

KUNIT_ARRAY_PARAM_DESC(drop, drop_params, name);

static void fault_drops_lock(struct kunit *test)
{
	const struct drop *drop = test->param_value;
	struct hmm_kunit_file *file;
	unsigned long addr = map_file(test, &file, NPAGES, true);

	file->at = NPAGES / 2;
	file->times = 1;
	file->ret = drop->ret;
	expect_fault(test, addr, NPAGES, REQ_WRITE, drop->waits);
	KUNIT_EXPECT_EQ(test, file->nr_tried, drop->tried);
	KUNIT_EXPECT_EQ(test, file->nr_tried_else, 0);
	/* It is needed once. */
	expect_fault(test, addr, NPAGES, REQ_WRITE, false);
}

#endif /* CONFIG_PER_VMA_LOCK */

/* Where there is none, there is only the mmap lock. */
static void no_vma(struct kunit *test)
{
	const struct call *call = test->param_value;
	unsigned long addr = some_pages(test);
	struct hmm_kunit_mirror *mirror =
		hmm_kunit_mirror(test, addr, NPAGES, call->default_flags);
	struct writer writer = {};

	KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr, PAGE_SIZE));
	expect(test, call, mirror, &writer, call->default_flags ? -EFAULT : 0, true);
	if (!call->default_flags) {
		KUNIT_EXPECT_EQ(test, mirror->range.hmm_pfns[0], HMM_PFN_ERROR);
		KUNIT_EXPECT_NE(test, mirror->range.hmm_pfns[1], HMM_PFN_ERROR);
	}
}

/* Under the mmap lock, huge pages are what they are: beside them is a PROT_NONE VMA. */
static const struct memory {
	const char *name;
	unsigned long (*map)(struct kunit *test, unsigned long npages);
	unsigned long npages;
} memory_params[] = {
	{ "order0", hmm_kunit_anon, NPAGES },
	{ "thp", hmm_kunit_thp, HMM_KUNIT_TABLE },
	{ "hugetlb", hugetlb, HMM_KUNIT_TABLE },
};

KUNIT_ARRAY_PARAM_DESC(memory, memory_params, name);

static void snapshot_mmap_lock(struct kunit *test)
{
	const struct memory *memory = test->param_value;
	unsigned long addr = memory->map(test, memory->npages);
	struct hmm_kunit_mirror *mirror =
		hmm_kunit_mirror(test, addr, memory->npages + 1, 0);
	struct writer writer = {};

	for (unsigned long i = 0; i < memory->npages; i++)
		hmm_kunit_write(test, addr + i * PAGE_SIZE, i);
	expect(test, &call_params[0], mirror, &writer, 0, true);
	KUNIT_EXPECT_EQ(test, mirror->range.hmm_pfns[memory->npages], HMM_PFN_ERROR);
	mirror->range.end -= PAGE_SIZE;
	hmm_kunit_expect_mapped(test, mirror);
}

/* What the OOM killer has taken is not there, whichever lock says so. */
static void oom_reaped(struct kunit *test)
{
	const struct call *call = test->param_value;
	unsigned long addr = some_pages(test);
	struct mm_struct *mm = hmm_kunit_fork(test);
	struct hmm_kunit_device *device = hmm_kunit_device(test);
	struct hmm_kunit_mirror *one_vma =
		hmm_kunit_mirror_of(test, mm, addr, NPAGES, call->default_flags);
	struct hmm_kunit_mirror *two_vmas =
		hmm_kunit_mirror_of(test, mm, addr, NPAGES + 1, call->default_flags);

	KUNIT_ASSERT_EQ(test, 0, hmm_kunit_device_register(device, mm, addr, NPAGES));
	KUNIT_EXPECT_EQ(test, 0, call->fn(&one_vma->range));
	mm_flags_set(MMF_UNSTABLE, mm);
	KUNIT_EXPECT_EQ(test, -EFAULT, call->fn(&one_vma->range));
	KUNIT_EXPECT_EQ(test, -EFAULT, call->fn(&two_vmas->range));
	KUNIT_EXPECT_EQ(test, -EFAULT, hmm_mirror_mmap_read_lock(&device->mirror));
	KUNIT_EXPECT_FALSE(test, rwsem_is_locked(&mm->mmap_lock));
}

/* Who is killed does not wait for it any longer. */
static void killed(struct kunit *test)
{
	const struct call *call = test->param_value;
	unsigned long addr = some_pages(test);
	struct hmm_kunit_mirror *mirror =
		hmm_kunit_mirror(test, addr, NPAGES, call->default_flags);
	struct writer writer = { .lock = addr, .kill = current };

	expect(test, call, mirror, &writer, -EINTR, true);
	hmm_kunit_kill(false);
}

/* The helper for drivers waits for the lock, unless it is killed. */
static void mmap_lock(struct kunit *test)
{
	struct hmm_kunit_device *device = hmm_kunit_device_of(test, some_pages(test), NPAGES);
	struct hmm_mirror *mirror = &device->mirror;
	int users = atomic_read(&current->mm->mm_users);
	struct writer writer = {}, killer = { .kill = current };

	writer_start(test, &writer, current->mm);
	KUNIT_ASSERT_EQ(test, 0, hmm_mirror_mmap_read_lock(mirror));
	KUNIT_EXPECT_TRUE(test, writer_end(&writer));
	KUNIT_EXPECT_TRUE(test, rwsem_is_locked(&current->mm->mmap_lock));
	hmm_mirror_mmap_read_unlock(mirror);
	KUNIT_EXPECT_FALSE(test, rwsem_is_locked(&current->mm->mmap_lock));

	writer_start(test, &killer, current->mm);
	KUNIT_EXPECT_EQ(test, -EINTR, hmm_mirror_mmap_read_lock(mirror));
	KUNIT_EXPECT_TRUE(test, writer_end(&killer));
	hmm_kunit_kill(false);
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
	hmm_kunit_wait_for_exit(device);
	KUNIT_EXPECT_TRUE(test, device->exit_by_worker);
	KUNIT_EXPECT_EQ(test, -EFAULT, hmm_mirror_mmap_read_lock(&device->mirror));
}

/*
 * A thread faults memory of a process that exits meanwhile, under a lock that the
 * driver also takes when it is told of the exit. So it must not be who brings the
 * exit about, even if it has the last reference to the memory.
 */
struct exit {
	struct mmu_notifier notifier;
	struct hmm_kunit_device *device;
	struct hmm_range range;
	unsigned long hmm_pfns[NPAGES];
	struct mutex lock;	/* see above */
	unsigned int nr_valid;
	struct completion begin;
	struct completion done;
	int ret;
	bool stop;
};

static void exit_release(struct mmu_notifier *notifier, struct mm_struct *mm)
{
	struct exit *exit = container_of(notifier, struct exit, notifier);

	mutex_lock(&exit->lock);
	mutex_unlock(&exit->lock);
}

static const struct mmu_notifier_ops exit_notifier_ops = {
	.release = exit_release,
};

static void exit_fault(struct exit *exit)
{
	unsigned int nr = 0;

	do {
		mutex_lock(&exit->lock);
		exit->ret = fault(&exit->range);
		mutex_lock(&exit->device->lock);
		if (!exit->ret && hmm_range_valid(&exit->range))
			exit->nr_valid++;
		mutex_unlock(&exit->device->lock);
		mutex_unlock(&exit->lock);
		/* For a while only, so that who exits gets to run. */
		if (++nr % 8 == 0)
			usleep_range(1, 20);
	} while (!exit->ret);
}

static int exit_faults(void *data)
{
	struct exit *exit = data;

	do {
		wait_for_completion(&exit->begin);
		if (!exit->stop)
			exit_fault(exit);
		complete(&exit->done);
	} while (!exit->stop);
	return 0;
}

static void exit_stop(void *data)
{
	struct exit *exit = data;

	exit->stop = true;
	complete(&exit->begin);
	wait_for_completion(&exit->done);
}

static void fault_while_exiting(struct kunit *test)
{
	unsigned long addr = some_pages(test);
	struct hmm_kunit_device *device = hmm_kunit_device(test);
	struct exit *exit = kunit_kzalloc(test, sizeof(*exit), GFP_KERNEL);
	unsigned int round, by_worker = 0;

	KUNIT_ASSERT_NOT_NULL(test, exit);
	exit->notifier.ops = &exit_notifier_ops;
	exit->device = device;
	exit->range.start = addr;
	exit->range.end = addr + NPAGES * PAGE_SIZE;
	exit->range.hmm_pfns = exit->hmm_pfns;
	exit->range.default_flags = REQ_WRITE;
	mutex_init(&exit->lock);
	init_completion(&exit->begin);
	init_completion(&exit->done);
	KUNIT_ASSERT_FALSE(test, IS_ERR(kthread_run(exit_faults, exit, "fault")));
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, exit_stop, exit));

	for (round = 0; round < hmm_kunit_rounds; round++) {
		struct mm_struct *mm = hmm_kunit_fork(test);

		/* Who waits for the case to end may do so for long. */
		reset_hung_task_detector();
		device->nr_exits = 0;
		atomic_set(&device->nr_released, 0);
		if (mmu_notifier_register(&exit->notifier, mm) ||
		    hmm_kunit_device_register(device, mm, addr, NPAGES) ||
		    hmm_range_register(&exit->range, &device->mirror, NULL))
			break;
		complete(&exit->begin);
		fsleep(round % 100);
		hmm_kunit_let_go(test, mm);
		wait_for_completion(&exit->done);
		if (exit->ret != -EFAULT)
			break;
		hmm_kunit_wait_for_exit(device);
		by_worker += device->exit_by_worker;
		hmm_range_unregister(&exit->range);
		hmm_mirror_put(&device->mirror);
		hmm_mirror_synchronize();
		hmm_kunit_expect_released(device, 1);
		mmu_notifier_unregister(&exit->notifier, mm);
	}
	kunit_release_action(test, exit_stop, exit);

	KUNIT_EXPECT_EQ(test, round, hmm_kunit_rounds);
	KUNIT_EXPECT_GT(test, exit->nr_valid, 0);
	if (num_online_cpus() > 1)
		KUNIT_EXPECT_GT(test, by_worker, 0);
	kunit_info(test, "%u of %u exits were left to a worker, %u faults were valid",
		   by_worker, round, exit->nr_valid);
}

static struct kunit_case hmm_lock_cases[] = {
#ifdef CONFIG_PER_VMA_LOCK
	KUNIT_CASE_PARAM(one_vma, call_gen_params),
	KUNIT_CASE_PARAM(unreadable, call_gen_params),
	KUNIT_CASE_PARAM(changing_vma, call_gen_params),
	KUNIT_CASE_PARAM(two_vmas, call_gen_params),
	KUNIT_CASE(fault_anon),
	KUNIT_CASE(fault_thp),
	KUNIT_CASE(fault_hugetlb),
	KUNIT_CASE(fault_cow),
	KUNIT_CASE(fault_no_anon_vma),
	KUNIT_CASE(fault_file),
	KUNIT_CASE(fault_gives_way),
	KUNIT_CASE(fault_no_map_pages),
	KUNIT_CASE_PARAM(fault_drops_lock, drop_gen_params),
#endif
	KUNIT_CASE_PARAM(no_vma, call_gen_params),
	KUNIT_CASE_PARAM(snapshot_mmap_lock, memory_gen_params),
	KUNIT_CASE_PARAM(oom_reaped, call_gen_params),
	KUNIT_CASE_PARAM(killed, call_gen_params),
	KUNIT_CASE(mmap_lock),
	KUNIT_CASE(mmap_lock_exit),
	KUNIT_CASE_SLOW(fault_while_exiting),
	{ }
};

static struct kunit_suite hmm_lock_suite = {
	.name = "hmm_lock",
	.test_cases = hmm_lock_cases,
};

kunit_test_suite(hmm_lock_suite);
