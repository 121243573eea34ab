// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suite hmm_contention: how often hmm_range_fault() and hmm_range_snapshot() take the
 * mmap lock, for each call, and how long they take, alone and while another thread
 * maps and unmaps memory of the same process.
 *
 * Each case prints lines "bench: WHAT: NUMBER". Times are nanoseconds for each page,
 * and mean something where time is real and nobody else needs the CPUs.
 */
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/mman.h>
#include <linux/sched/mm.h>
#include <linux/sizes.h>
#include <linux/sort.h>
#include <linux/uaccess.h>
#include <asm/tlb.h>

#ifdef CONFIG_HMM_KUNIT_HAS_RANGE
#include "device.h"
#else
#include "fixture.h"
#endif

/* Pages that a driver asks for at once */
#define NPAGES 16

static int range_fault_unlocked(struct hmm_kunit_mirror *mirror)
{
	return hmm_range_fault_unlocked_timeout(&mirror->range, 0);
}

/* The same by the CPU, to which HMM is compared */
static int cpu_fault(struct hmm_kunit_mirror *mirror)
{
	unsigned long zero = 0, addr;

	for (addr = mirror->range.start; addr < mirror->range.end; addr += PAGE_SIZE)
		if (copy_to_user((void __user *)addr, &zero, sizeof(zero)))
			return -EFAULT;
	return 0;
}

static void report_locks(struct kunit *test, const char *what,
			 int (*run)(struct hmm_kunit_mirror *mirror),
			 struct hmm_kunit_mirror *mirror)
{
	struct hmm_kunit_locks *locks = hmm_kunit_mmap_locks_begin(test);
	int ret = run(mirror);
	unsigned int nr = hmm_kunit_mmap_locks_end(test, locks);

	KUNIT_ASSERT_EQ(test, ret, 0);
	hmm_kunit_expect_mapped(test, mirror);
	kunit_info(test, "bench: %s: %u.00", what, nr);
}

static void mmap_locks(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, NPAGES);
	struct hmm_kunit_file *hf = hmm_kunit_file(test, NPAGES);
	struct hmm_kunit_mirror *mirror;

	mirror = hmm_kunit_mirror(test, addr, NPAGES, REQ_WRITE);
	report_locks(test, "mmap locks, first fault", range_fault_unlocked, mirror);
	hmm_kunit_madvise(test, addr, NPAGES, MADV_DONTNEED);
	report_locks(test, "mmap locks, fault", range_fault_unlocked, mirror);
	report_locks(test, "mmap locks, present", range_fault_unlocked, mirror);
	report_locks(test, "mmap locks, snapshot", hmm_kunit_snapshot, mirror);

	hmm_kunit_file_fill(test, hf, 0, 1);
	hf->map_pages = true;
	mirror = hmm_kunit_mirror(test, hmm_kunit_file_map(test, hf, MAP_SHARED),
				  NPAGES, REQ_WRITE);
	hf->at = 1;
	hf->times = 1;
	hf->ret = VM_FAULT_RETRY;
	report_locks(test, "mmap locks, a fault that drops it", range_fault_unlocked,
		     mirror);
}

/* Changes the address space, by @change, until it is told to stop. */
struct mapper {
	struct mm_struct *mm;
	void (*change)(struct mapper *mapper);
	struct hmm_kunit_mirror *mirror;
	unsigned long addr;	/* of the memory that @change changes, if it stays */
	struct completion done;
	bool stop;
	unsigned long nr;
};

/* Map and unmap a little: nothing that could become one VMA with that of the test. */
static void change_mapping(struct mapper *mapper)
{
	unsigned long addr = vm_mmap(NULL, 0, NPAGES * PAGE_SIZE, PROT_READ | PROT_EXEC,
				     MAP_PRIVATE | MAP_ANONYMOUS, 0);

	if (!IS_ERR_VALUE(addr))
		vm_munmap(addr, NPAGES * PAGE_SIZE);
}

#ifdef MODULE
#define do_madvise(...) do { } while (0)	/* the cases are skipped */
#define change_prot NULL
#else
/* The protection of a lot of memory, as mprotect() does: the mmap lock is held for long. */
static void change_prot(struct mapper *mapper)
{
	struct mm_struct *mm = mapper->mm;
	struct vm_area_struct *vma, *prev = NULL;
	struct vma_iterator vmi;
	struct mmu_gather tlb;

	mmap_write_lock(mm);
	vma_iter_init(&vmi, mm, mapper->addr);
	vma = vma_next(&vmi);
	tlb_gather_mmu(&tlb, mm);
	mprotect_fixup(&vmi, &tlb, vma, &prev, vma->vm_start, vma->vm_end,
		       vma->vm_flags ^ VM_WRITE);
	tlb_finish_mmu(&tlb);
	mmap_write_unlock(mm);
}
#endif

/* Have a VMA become two, and one again. */
static void change_vma(struct mapper *mapper)
{
	do_madvise(mapper->mm, mapper->addr, PAGE_SIZE,
		   mapper->nr & 1 ? MADV_DONTFORK : MADV_DOFORK);
}

static int mapper_thread(void *data)
{
	struct mapper *mapper = data;

	kthread_use_mm(mapper->mm);
	while (!READ_ONCE(mapper->stop)) {
		mapper->nr++;
		cond_resched();
		mapper->change(mapper);
	}
	kthread_unuse_mm(mapper->mm);
	complete(&mapper->done);
	return 0;
}

static int compare(const void *a, const void *b)
{
	return cmp_int(*(const u64 *)a, *(const u64 *)b);
}

/*
 * Cold pages have never been there, for as long as possible: to take them away invalidates
 * the range, and an invalidation does not end before all others of the process that have
 * begun meanwhile.
 */
#define COLD_PAGES (SZ_256M / PAGE_SIZE)

static void next_range(struct kunit *test, struct hmm_range *range, unsigned long addr)
{
	range->start = range->end;
	if (range->start == addr + COLD_PAGES * PAGE_SIZE) {
		hmm_kunit_madvise(test, addr, COLD_PAGES, MADV_DONTNEED);
		range->start = addr;
	}
	range->end = range->start + NPAGES * PAGE_SIZE;
}

/* The median of five times of a fifth of a second; of cold memory from @cold on, if any. */
static void report_time(struct kunit *test, const char *what,
			int (*run)(struct hmm_kunit_mirror *mirror),
			struct hmm_kunit_mirror *mirror, unsigned long cold)
{
	u64 ns[5];

	for (unsigned int i = 0; i < ARRAY_SIZE(ns); i++) {
		unsigned long end = jiffies + HZ / 5;
		unsigned int calls = 0;

		ns[i] = 0;
		do {
			u64 begin;

			if (cold)
				next_range(test, &mirror->range, cold);
			begin = ktime_get_ns();
			KUNIT_ASSERT_EQ(test, 0, run(mirror));
			ns[i] += ktime_get_ns() - begin;
			calls++;
		} while (time_before(jiffies, end));
		ns[i] = div_u64(100 * ns[i], calls * NPAGES);
	}
	sort(ns, ARRAY_SIZE(ns), sizeof(ns[0]), compare, NULL);
	kunit_info(test, "bench: %s: %llu.%02u", what, ns[2] / 100, (u32)(ns[2] % 100));
}

static struct mapper *start(struct kunit *test, void (*change)(struct mapper *mapper),
			    struct hmm_kunit_mirror *mirror, unsigned long addr)
{
	struct mapper *mapper = kunit_kzalloc(test, sizeof(*mapper), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, mapper);
	mapper->mm = current->mm;
	mapper->change = change;
	mapper->mirror = mirror;
	mapper->addr = addr;
	init_completion(&mapper->done);
	KUNIT_ASSERT_FALSE(test, IS_ERR(kthread_run(mapper_thread, mapper, "mapper")));
	return mapper;
}

static void stop(struct kunit *test, struct mapper *mapper)
{
	WRITE_ONCE(mapper->stop, true);
	wait_for_completion(&mapper->done);
	KUNIT_EXPECT_GT(test, mapper->nr, 0);
}

/* Cold pages, the same when they are there, and a snapshot, @beside somebody. */
static void report_times(struct kunit *test, const char *beside,
			 struct hmm_kunit_mirror *mirror, unsigned long cold)
{
	char what[64];

	snprintf(what, sizeof(what), "ns, fault%s", beside);
	report_time(test, what, range_fault_unlocked, mirror, cold);
	snprintf(what, sizeof(what), "ns, present%s", beside);
	report_time(test, what, range_fault_unlocked, mirror, 0);
	snprintf(what, sizeof(what), "ns, snapshot%s", beside);
	report_time(test, what, hmm_kunit_snapshot, mirror, 0);
}

static void beside_writer(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, COLD_PAGES + 1), other;
	struct hmm_kunit_mirror *mirror;
	struct mapper *mapper;

	mirror = hmm_kunit_mirror(test, addr, COLD_PAGES, REQ_WRITE);
	hmm_kunit_write(test, addr + COLD_PAGES * PAGE_SIZE, 0);
	/* Memory that the guest has never touched costs the host a fault, too. */
	KUNIT_ASSERT_EQ(test, 0, range_fault_unlocked(mirror));
	report_times(test, "", mirror, addr);
	report_time(test, "ns, CPU fault", cpu_fault, mirror, addr);

	mapper = start(test, change_mapping, mirror, 0);
	report_times(test, " beside mmap()", mirror, addr);
	stop(test, mapper);

	other = vm_mmap(NULL, 0, SZ_64M, PROT_READ | PROT_WRITE | PROT_EXEC,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(other));
	mapper = start(test, change_prot, mirror, other);
	report_times(test, " beside mprotect()", mirror, addr);
	stop(test, mapper);

	mapper = start(test, change_vma, mirror, addr + COLD_PAGES * PAGE_SIZE);
	report_times(test, ", the VMA changes", mirror, addr);
	report_time(test, "ns, CPU fault, the VMA changes", cpu_fault, mirror, addr);
	stop(test, mapper);
}

static void walk(struct mapper *mapper)
{
	hmm_kunit_snapshot(mapper->mirror);
}

/* How long a thread waits, at most, that changes a VMA of 256M while that is walked. */
static void writer_waits(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, COLD_PAGES), nr;
	struct hmm_kunit_mirror *mirror = hmm_kunit_mirror(test, addr, COLD_PAGES, REQ_WRITE);
	u64 begin, walk_64m = U64_MAX, longest = 0;
	struct mapper *mapper;

	KUNIT_ASSERT_EQ(test, 0, range_fault_unlocked(mirror));
	mirror->range.end = addr + SZ_64M;
	for (int i = 0; i < 5; i++) {
		begin = ktime_get_ns();
		KUNIT_ASSERT_EQ(test, 0, hmm_kunit_snapshot(mirror));
		walk_64m = min(walk_64m, ktime_get_ns() - begin);
	}
	mirror->range.end = addr + SZ_256M;

	mapper = start(test, walk, mirror, 0);
	for (int i = 0; i < 20; i++) {
		nr = READ_ONCE(mapper->nr);
		while (READ_ONCE(mapper->nr) == nr)
			cond_resched();
		begin = ktime_get_ns();
		do_madvise(current->mm, addr, SZ_256M, i & 1 ? MADV_DOFORK : MADV_DONTFORK);
		longest = max(longest, ktime_get_ns() - begin);
	}
	stop(test, mapper);
	kunit_info(test, "bench: us, a walk of 64M: %llu.00", div_u64(walk_64m, NSEC_PER_USEC));
	kunit_info(test, "bench: us, a writer waits for a walk of 256M: %llu.00",
		   div_u64(longest, NSEC_PER_USEC));
}

/*
 * Beside the range, but under the same notifier, pages come and go all the time. The
 * driver faults the range until it is valid, or gives up: how often, and how many entries
 * of the array were stored all in all, told by sentinels.
 */
#define STREAM_PAGES (SZ_1G / PAGE_SIZE)
#define STREAM_ROUNDS 200

struct stream {
	struct mm_struct *mm;
	unsigned long addr;
	bool stop;
	unsigned long nr;
	struct completion done;
};

static int stream_thread(void *data)
{
	struct stream *stream = data;

	kthread_use_mm(stream->mm);
	while (!READ_ONCE(stream->stop)) {
		unsigned long zero = 0;

		if (copy_to_user((void __user *)stream->addr, &zero, sizeof(zero)))
			break;
		do_madvise(stream->mm, stream->addr, PAGE_SIZE, MADV_DONTNEED);
		stream->nr++;
		cond_resched();
	}
	kthread_unuse_mm(stream->mm);
	complete(&stream->done);
	return 0;
}

/* How many entries were stored since they were sentinels, which they are again. */
static unsigned long stored(struct hmm_range *range)
{
	unsigned long nr = 0;

	for (unsigned long i = 0; i < STREAM_PAGES; i++) {
		if (range->hmm_pfns[i] & HMM_PFN_ERROR)
			continue;
		nr++;
		range->hmm_pfns[i] |= HMM_PFN_ERROR;
	}
	return nr;
}

#ifdef CONFIG_HMM_KUNIT_HAS_RANGE
static bool stream_valid(struct hmm_range *range, void *keeper)
{
	struct hmm_kunit_device *device = keeper;
	bool valid;

	mutex_lock(&device->lock);
	valid = hmm_range_valid(range);
	mutex_unlock(&device->lock);
	return valid;
}
#else
static bool stream_valid(struct hmm_range *range, void *keeper)
{
	struct hmm_kunit_mirror *mirror = keeper;
	bool valid;

	spin_lock(&mirror->lock);
	valid = !mmu_interval_read_retry(range->notifier, range->notifier_seq);
	spin_unlock(&mirror->lock);
	return valid;
}
#endif

static void beside_stream(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, STREAM_PAGES + HMM_KUNIT_TABLE), entries = 0;
	unsigned int rounds = 0;
	struct stream stream = {
		.mm = current->mm,
		.addr = addr + STREAM_PAGES * PAGE_SIZE,
	};
	struct hmm_range range;
	struct hmm_kunit_mirror *mirror;
	void *keeper;
	bool valid = false;
	u64 ns;
	int ret;
#ifdef CONFIG_HMM_KUNIT_HAS_RANGE
	struct hmm_kunit_device *device;
#endif

	if (totalram_pages() < 2 * STREAM_PAGES)
		kunit_skip(test, "not enough memory");
	mirror = hmm_kunit_mirror(test, addr, STREAM_PAGES + HMM_KUNIT_TABLE, REQ_WRITE);
	KUNIT_ASSERT_EQ(test, 0, hmm_kunit_fault(mirror));
	range = mirror->range;
	range.end = addr + STREAM_PAGES * PAGE_SIZE;
	stored(&range);
	keeper = mirror;
#ifdef CONFIG_HMM_KUNIT_HAS_RANGE
	device = hmm_kunit_device_of(test, addr, STREAM_PAGES + HMM_KUNIT_TABLE);
	keeper = device;
	KUNIT_ASSERT_EQ(test, 0, hmm_range_register(&range, &device->mirror));
#endif
	init_completion(&stream.done);
	KUNIT_ASSERT_FALSE(test, IS_ERR(kthread_run(stream_thread, &stream, "stream")));
	while (READ_ONCE(stream.nr) < 100)
		cond_resched();

	ns = ktime_get_ns();
	do {
		ret = hmm_range_fault_unlocked_timeout(&range, HZ);
		rounds++;
		if (!ret)
			valid = stream_valid(&range, keeper);
		entries += stored(&range);
	} while (!valid && rounds < STREAM_ROUNDS && (!ret || ret == -EBUSY));
	ns = ktime_get_ns() - ns;
	WRITE_ONCE(stream.stop, true);
	wait_for_completion(&stream.done);
#ifdef CONFIG_HMM_KUNIT_HAS_RANGE
	hmm_range_unregister(&range);
#endif

	kunit_info(test, "bench: 1G beside a stream, rounds: %u.00", rounds);
	kunit_info(test, "bench: 1G beside a stream, M entries: %lu.%02lu",
		   entries / SZ_1M, entries % SZ_1M * 100 / SZ_1M);
	kunit_info(test, "%s after %llu ms, and %lu events", valid ? "valid" : "given up",
		   div_u64(ns, NSEC_PER_MSEC), stream.nr);
	if (IS_ENABLED(CONFIG_HMM_KUNIT_HAS_RANGE))
		KUNIT_EXPECT_TRUE(test, valid);
}

static struct kunit_case hmm_contention_cases[] = {
	KUNIT_CASE(mmap_locks),
	KUNIT_CASE_SLOW(beside_writer),
	KUNIT_CASE_SLOW(writer_waits),
	KUNIT_CASE_SLOW(beside_stream),
	{}
};

static struct kunit_suite hmm_contention_suite = {
	.name = "hmm_contention",
	.test_cases = hmm_contention_cases,
};

kunit_test_suite(hmm_contention_suite);
