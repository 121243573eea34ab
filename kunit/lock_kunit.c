// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suite hmm_lock: which calls wait for the mmap lock. Another thread holds it for write
 * until somebody waits for it, or until it is told to let go.
 *
 * Pages that are there are found, and snapshots are made, under the locks of their VMAs.
 * The mmap lock is needed where there is no VMA or one that cannot be read, where the
 * VMA is about to be changed, and for faults.
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
	unsigned int hold_ms;	/* after somebody has begun to wait */
	struct completion locked;
	struct completion let_go;
	struct completion done;
	bool waited_for;
};

static int writer_thread(void *data)
{
	struct writer *writer = data;
	struct vm_area_struct *vma;

	mmap_write_lock(writer->mm);
	vma = writer->lock ? vma_lookup(writer->mm, writer->lock) : NULL;
	if (vma)
		vma_start_write(vma);
	complete(&writer->locked);
	while (!writer->waited_for && !try_wait_for_completion(&writer->let_go)) {
		fsleep(100);
		writer->waited_for = mmap_lock_is_contended(writer->mm);
	}
	if (writer->waited_for && writer->kill) {
		hmm_kunit_kill_task(writer->kill);
		wait_for_completion_timeout(&writer->let_go, 10 * HZ);
	}
	msleep(writer->hold_ms);
	mmap_write_unlock(writer->mm);
	complete(&writer->done);
	return 0;
}

/* Start a thread that holds the mmap lock of @mm, and does what @writer says. */
static void writer_start(struct kunit *test, struct writer *writer, struct mm_struct *mm)
{
	writer->mm = mm;
	init_completion(&writer->locked);
	init_completion(&writer->let_go);
	init_completion(&writer->done);
	KUNIT_ASSERT_FALSE(test, IS_ERR(kthread_run(writer_thread, writer, "writer")));
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

/* The call that never faults, and the one that faults missing pages */
static const struct call {
	const char *name;
	int (*fn)(struct hmm_range *range, unsigned long deadline);
	unsigned long default_flags;
} call_params[] = {
	{ "snapshot", hmm_range_snapshot },
	{ "fault", hmm_range_fault_unlocked, REQ_WRITE },
};

KUNIT_ARRAY_PARAM_DESC(call, call_params, name);

/* The call returns @ret, and has waited for the lock or has not. */
static void expect(struct kunit *test, const struct call *call,
		   struct hmm_kunit_mirror *mirror, struct writer *writer, int ret,
		   bool waits)
{
	writer_start(test, writer, current->mm);
	KUNIT_EXPECT_EQ(test, ret, call->fn(&mirror->range, 0));
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

/* One VMA for each of the pages, as no two neighbours have the same protection */
static unsigned long some_vmas(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, NPAGES);

	for (int i = 0; i < NPAGES; i++) {
		unsigned long prot = PROT_READ | PROT_WRITE | (i % 2 ? PROT_EXEC : 0);

		KUNIT_ASSERT_EQ(test, addr + i * PAGE_SIZE,
				vm_mmap(NULL, addr + i * PAGE_SIZE, PAGE_SIZE, prot,
					MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0));
		hmm_kunit_write(test, addr + i * PAGE_SIZE, i);
	}
	return addr;
}

static void several_vmas(struct kunit *test)
{
	unsigned long addr = some_vmas(test);

	expect_mapped(test, test->param_value, addr, NPAGES, 0, false);
	expect_mapped(test, test->param_value, addr + PAGE_SIZE, NPAGES - 2, 0, false);
}

/* A VMA that is about to be changed cannot be locked: the first, one between, the last. */
static const struct changing {
	const struct call *call;
	unsigned int vma;
} changing_params[] = {
	{ &call_params[0], 0 }, { &call_params[0], NPAGES / 2 },
	{ &call_params[0], NPAGES - 1 },
	{ &call_params[1], 0 }, { &call_params[1], NPAGES / 2 },
	{ &call_params[1], NPAGES - 1 },
};

static void changing_desc(const struct changing *changing, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%s_%u", changing->call->name,
		 changing->vma);
}

KUNIT_ARRAY_PARAM(changing, changing_params, changing_desc);

static void changing_vma(struct kunit *test)
{
	const struct changing *changing = test->param_value;
	unsigned long addr = some_vmas(test);

	expect_mapped(test, changing->call, addr, NPAGES,
		      addr + changing->vma * PAGE_SIZE, true);
}

/* More than is walked under the lock of a VMA at once; most of it is not there. */
static void large_vma(struct kunit *test)
{
	const unsigned long first = 5, last = SZ_128M / PAGE_SIZE + HMM_KUNIT_TABLE + 3;
	unsigned long addr = ALIGN(hmm_kunit_anon(test, last + 1 + SZ_64M / PAGE_SIZE), SZ_64M);
	struct hmm_kunit_mirror *mirror =
		hmm_kunit_mirror(test, addr + first * PAGE_SIZE, last + 1 - first, 0);
	const unsigned long pages[] = {
		first, SZ_64M / PAGE_SIZE - 1, SZ_64M / PAGE_SIZE, SZ_128M / PAGE_SIZE - 1,
		SZ_128M / PAGE_SIZE, last,
	};
	unsigned long i, nr_valid = 0, nr_wrong = 0;
	struct writer writer = {};

	for (i = 0; i < ARRAY_SIZE(pages); i++)
		hmm_kunit_write(test, addr + pages[i] * PAGE_SIZE, i);
	expect(test, &call_params[0], mirror, &writer, 0, false);
	for (i = 0; i < ARRAY_SIZE(pages); i++)
		hmm_kunit_expect_tag(test, mirror, pages[i] - first, i);
	for (i = 0; i <= last - first; i++) {
		if (mirror->range.hmm_pfns[i] & HMM_PFN_VALID)
			nr_valid++;
		else if (mirror->range.hmm_pfns[i])
			nr_wrong++;
	}
	KUNIT_EXPECT_EQ(test, ARRAY_SIZE(pages), nr_valid);
	KUNIT_EXPECT_EQ(test, 0, nr_wrong);
}

/* Memory that may not be read is an error, which is found under the mmap lock. */
static void unreadable(struct kunit *test)
{
	const struct call *call = test->param_value;
	unsigned long addr = hmm_kunit_anon(test, NPAGES);
	struct hmm_kunit_mirror *mirror;
	struct writer writer = {};

	KUNIT_ASSERT_EQ(test, addr, vm_mmap(NULL, addr, NPAGES * PAGE_SIZE, PROT_NONE,
					    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0));
	mirror = hmm_kunit_mirror(test, addr, NPAGES, call->default_flags);
	expect(test, call, mirror, &writer, call->default_flags ? -EFAULT : 0, true);
	for (int i = 0; i < NPAGES; i++)
		KUNIT_EXPECT_EQ(test, mirror->range.hmm_pfns[i],
				call->default_flags ? HMM_KUNIT_POISON : HMM_PFN_ERROR);

	hmm_kunit_kill(true);
	KUNIT_EXPECT_EQ(test, -EINTR, call->fn(&mirror->range, 0));
	hmm_kunit_kill(false);
}

/*
 * Of a registered range only stale pages are walked: these are there, and in VMAs other
 * than the first, which is about to be changed.
 */
static void stale_pages(struct kunit *test)
{
	unsigned long addr = some_vmas(test);
	struct hmm_kunit_device *device = hmm_kunit_device_of(test, addr, NPAGES);
	struct hmm_kunit_mirror *mirror = hmm_kunit_mirror(test, addr, NPAGES, REQ_WRITE);
	struct writer writer = { .lock = addr };
	/* Only for its array */
	struct hmm_range range = {
		.start = mirror->range.start,
		.end = mirror->range.end,
		.hmm_pfns = mirror->range.hmm_pfns,
		.default_flags = REQ_WRITE,
	};

	hmm_kunit_needs_events(test);
	KUNIT_ASSERT_EQ(test, 0, hmm_range_register(&range, &device->mirror));
	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault_unlocked(&range, 0));
	hmm_kunit_event(test, current->mm, addr + 2 * PAGE_SIZE, 1);
	hmm_kunit_event(test, current->mm, addr + 5 * PAGE_SIZE, 2);
	for (int i = 0; i < NPAGES; i++)
		range.hmm_pfns[i] = HMM_KUNIT_POISON;

	writer_start(test, &writer, current->mm);
	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault_unlocked(&range, 0));
	KUNIT_EXPECT_FALSE(test, writer_end(&writer));
	mutex_lock(&device->lock);
	KUNIT_EXPECT_TRUE(test, hmm_range_valid(&range));
	mutex_unlock(&device->lock);
	for (int i = 0; i < NPAGES; i++) {
		if (i == 2 || i == 5 || i == 6)
			hmm_kunit_expect_tag(test, mirror, i, i);
		else
			KUNIT_EXPECT_EQ(test, range.hmm_pfns[i], HMM_KUNIT_POISON);
	}
	hmm_range_unregister(&range);
}

#endif /* CONFIG_PER_VMA_LOCK */

/* In a hole, only the mmap lock tells that there is no VMA: first, between, and last. */
static void no_vma(struct kunit *test)
{
	static const unsigned int holes[] = { 0, NPAGES / 2, NPAGES - 1 };
	const struct call *call = test->param_value;
	unsigned long addr = some_pages(test);
	struct hmm_kunit_mirror *mirror =
		hmm_kunit_mirror(test, addr, NPAGES, call->default_flags);

	for (unsigned int i = 0; i < ARRAY_SIZE(holes); i++) {
		unsigned long hole = addr + holes[i] * PAGE_SIZE;
		struct writer writer = {};

		KUNIT_ASSERT_EQ(test, 0, vm_munmap(hole, PAGE_SIZE));
		expect(test, call, mirror, &writer, call->default_flags ? -EFAULT : 0, true);
		for (int j = 0; !call->default_flags && j < NPAGES; j++) {
			if (j == holes[i])
				KUNIT_EXPECT_EQ(test, mirror->range.hmm_pfns[j],
						HMM_PFN_ERROR);
			else
				hmm_kunit_expect_tag(test, mirror, j, j);
		}
		KUNIT_ASSERT_EQ(test, hole, vm_mmap(NULL, hole, PAGE_SIZE,
						    PROT_READ | PROT_WRITE,
						    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0));
		hmm_kunit_write(test, hole, holes[i]);
	}
}

#ifdef CONFIG_TRACEPOINTS
/* The mmap lock is released where the range crosses 64M, even if nobody waits for it. */
static void released(struct kunit *test)
{
	const struct call *call = test->param_value;
	unsigned long addr = ALIGN_DOWN(hmm_kunit_anon(test, SZ_128M / PAGE_SIZE) + SZ_128M -
					NPAGES * PAGE_SIZE, SZ_64M) - NPAGES / 2 * PAGE_SIZE;
	struct hmm_kunit_locks *locks;
	struct hmm_kunit_mirror *mirror;

	mirror = hmm_kunit_mirror(test, addr, NPAGES, call->default_flags);
	/* Faults and holes need the mmap lock */
	if (!call->default_flags)
		KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr, NPAGES * PAGE_SIZE));
	locks = hmm_kunit_mmap_locks_begin(test);
	KUNIT_EXPECT_EQ(test, 0, call->fn(&mirror->range, 0));
	KUNIT_EXPECT_EQ(test, 2, hmm_kunit_mmap_locks_end(test, locks));
	if (call->default_flags)
		hmm_kunit_expect_mapped(test, mirror);
	else
		for (int i = 0; i < NPAGES; i++)
			KUNIT_EXPECT_EQ(test, mirror->range.hmm_pfns[i], HMM_PFN_ERROR);
}
#endif

static unsigned long map_file(struct kunit *test, unsigned long npages)
{
	struct hmm_kunit_file *file = hmm_kunit_file(test, npages);

	hmm_kunit_file_fill(test, file, 0, 1);
	file->map_pages = true;
	return hmm_kunit_file_map(test, file, MAP_SHARED);
}

/* Pages of all kinds */
static const struct memory {
	const char *name;
	unsigned long (*map)(struct kunit *test, unsigned long npages);
	unsigned long npages;
	unsigned int order;
} memory_params[] = {
	{ "order0", hmm_kunit_anon, NPAGES, 0 },
	{ "thp", hmm_kunit_thp, HMM_KUNIT_TABLE, PMD_SHIFT - PAGE_SHIFT },
	{ "hugetlb", hugetlb, HMM_KUNIT_TABLE, PMD_SHIFT - PAGE_SHIFT },
	{ "file", map_file, NPAGES, 0 },
};

KUNIT_ARRAY_PARAM_DESC(memory, memory_params, name);

/* Under the mmap lock pages have the same order: behind them is a PROT_NONE VMA. */
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
	KUNIT_EXPECT_EQ(test, hmm_pfn_to_map_order(mirror->range.hmm_pfns[0]),
			memory->order);
	mirror->range.end -= PAGE_SIZE;
	hmm_kunit_expect_mapped(test, mirror);
}

#ifdef CONFIG_PER_VMA_LOCK
/* Faults wait for the mmap lock, and once the pages are there nobody does. */
static void cold(struct kunit *test)
{
	const struct memory *memory = test->param_value;
	unsigned long addr = memory->map(test, 2 * memory->npages);
	struct hmm_kunit_leaf leaf;

	expect_mapped(test, &call_params[1], addr, 2 * memory->npages, 0, true);
	for (unsigned int i = 0; i < ARRAY_SIZE(call_params); i++)
		expect_mapped(test, &call_params[i], addr, 2 * memory->npages, 0, false);
	KUNIT_ASSERT_TRUE(test, hmm_kunit_leaf(addr, &leaf));
	KUNIT_EXPECT_EQ(test, leaf.order, memory->order);
}

/* One page in the third of eight VMAs is missing: it is faulted, and the others stay. */
static void cold_page(struct kunit *test)
{
	unsigned long addr = some_vmas(test), nr_faults;

	hmm_kunit_madvise(test, addr + 2 * PAGE_SIZE, 1, MADV_DONTNEED);
	nr_faults = hmm_kunit_nr_faults();
	expect_mapped(test, &call_params[1], addr, NPAGES, 0, true);
	KUNIT_EXPECT_EQ(test, hmm_kunit_nr_faults() - nr_faults, 1);
	for (int i = 0; i < NPAGES; i++)
		KUNIT_EXPECT_EQ(test, hmm_kunit_read(test, addr + i * PAGE_SIZE),
				i == 2 ? 0 : i);
	expect_mapped(test, &call_params[1], addr, NPAGES, 0, false);
}

/* So do writes to pages that are shared. */
static void cold_cow(struct kunit *test)
{
	unsigned long addr = some_pages(test);

	hmm_kunit_fork(test);
	expect_mapped(test, &call_params[0], addr, NPAGES, 0, false);
	expect_mapped(test, &call_params[1], addr, NPAGES, 0, true);
	expect_mapped(test, &call_params[1], addr, NPAGES, 0, false);
}
#endif

/* Memory that the OOM killer has taken is not there, under either lock. */
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
	KUNIT_EXPECT_EQ(test, 0, call->fn(&one_vma->range, 0));
	mm_flags_set(MMF_UNSTABLE, mm);
	KUNIT_EXPECT_EQ(test, -EFAULT, call->fn(&one_vma->range, 0));
	KUNIT_EXPECT_EQ(test, -EFAULT, call->fn(&two_vmas->range, 0));
	KUNIT_EXPECT_EQ(test, -EFAULT, hmm_mirror_mmap_read_lock(&device->mirror));
	KUNIT_EXPECT_FALSE(test, rwsem_is_locked(&mm->mmap_lock));
}

/* A thread that is killed does not wait for the mmap lock any longer. */
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

/* The time is over when it gets the lock: nothing is faulted any more. */
static void deadline(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, NPAGES), nr_faults = hmm_kunit_nr_faults();
	struct hmm_kunit_mirror *mirror = hmm_kunit_mirror(test, addr, NPAGES, REQ_WRITE);
	struct writer writer = { .hold_ms = 500 };

	writer_start(test, &writer, current->mm);
	KUNIT_EXPECT_EQ(test, -EBUSY,
			hmm_range_fault_unlocked(&mirror->range, hmm_deadline(HZ / 5)));
	KUNIT_EXPECT_TRUE(test, writer_end(&writer));
	KUNIT_EXPECT_EQ(test, hmm_kunit_nr_faults(), nr_faults);
	KUNIT_EXPECT_FALSE(test, rwsem_is_locked(&current->mm->mmap_lock));
	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault_unlocked(&mirror->range, 0));
	hmm_kunit_expect_mapped(test, mirror);
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

/* The lock keeps the memory of a process that exits; it cannot be taken later. */
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
 * driver also takes when it is told of the exit. So the thread must not tear the memory
 * down itself, even if it has the last reference to it.
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
		exit->ret = hmm_range_fault_unlocked(&exit->range, 0);
		mutex_lock(&exit->device->lock);
		if (!exit->ret && hmm_range_valid(&exit->range))
			exit->nr_valid++;
		mutex_unlock(&exit->device->lock);
		mutex_unlock(&exit->lock);
		/* For a while only, so that the process gets to exit. */
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
	struct exit *exit = kunit_kzalloc(test, sizeof(*exit), GFP_KERNEL);
	unsigned int round, by_worker = 0;

	KUNIT_ASSERT_NOT_NULL(test, exit);
	exit->notifier.ops = &exit_notifier_ops;
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
		struct hmm_kunit_device *device = hmm_kunit_device(test);
		struct mm_struct *mm = hmm_kunit_fork(test);

		/* The thread that waits for the case to end may wait for long. */
		reset_hung_task_detector();
		exit->device = device;
		if (mmu_notifier_register(&exit->notifier, mm) ||
		    hmm_kunit_device_register(device, mm, addr, NPAGES) ||
		    hmm_range_register(&exit->range, &device->mirror))
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
		hmm_kunit_synchronize(device);
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
	KUNIT_CASE_PARAM(several_vmas, call_gen_params),
	KUNIT_CASE_PARAM(changing_vma, changing_gen_params),
	KUNIT_CASE(large_vma),
	KUNIT_CASE_PARAM(unreadable, call_gen_params),
	KUNIT_CASE(stale_pages),
	KUNIT_CASE_PARAM(cold, memory_gen_params),
	KUNIT_CASE(cold_page),
	KUNIT_CASE(cold_cow),
#endif
	KUNIT_CASE_PARAM(no_vma, call_gen_params),
#ifdef CONFIG_TRACEPOINTS
	KUNIT_CASE_PARAM(released, call_gen_params),
#endif
	KUNIT_CASE_PARAM(snapshot_mmap_lock, memory_gen_params),
	KUNIT_CASE_PARAM(oom_reaped, call_gen_params),
	KUNIT_CASE_PARAM(killed, call_gen_params),
	KUNIT_CASE(deadline),
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
