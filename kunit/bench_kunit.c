// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suite hmm_bench: what hmm_range_fault() costs.
 *
 * Each case prints lines "bench: NAME: NANOSECONDS", for each page of the range, or for
 * a call where NAME says so. They mean something where virtual time counts instructions,
 * one a nanosecond, as it does under scripts/bench; elsewhere the suite only shows that
 * it runs. Lines "bench: again, ..." have permille instead.
 */
#include <linux/delay.h>
#include <linux/hmm-dma.h>
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/mman.h>
#include <linux/pci-p2pdma.h>
#include <linux/prandom.h>
#include <linux/sizes.h>

#include "edu.h"
#ifdef CONFIG_HMM_KUNIT_HAS_RANGE
#include "device.h"
#else
#include "fixture.h"
#endif

#define NPAGES (32 * HMM_KUNIT_TABLE)

static int range_fault_unlocked(struct hmm_kunit_mirror *mirror)
{
	return hmm_range_fault_unlocked_timeout(&mirror->range, 0);
}

/* The cost of @run with @data */
static u64 measure(struct kunit *test, int (*run)(void *data), void *data)
{
	u64 ns;
	int ret;

	/* Others still write to the console, and free memory, for what went before. */
	msleep(200);

	ns = ktime_get_ns();
	ret = run(data);
	ns = ktime_get_ns() - ns;
	KUNIT_ASSERT_EQ(test, ret, 0);
	return ns;
}

/* Print @ns for each of @npages pages. */
static void print(struct kunit *test, const char *what, u64 ns, unsigned long npages)
{
	ns = div_u64(100 * ns, npages);
	kunit_info(test, "bench: %s: %llu.%02u", what, ns / 100, (u32)(ns % 100));
}

static void report_npages(struct kunit *test, const char *what, int (*run)(void *data),
			  void *data, unsigned long npages)
{
	print(test, what, measure(test, run, data), npages);
}

struct run {
	int (*run)(struct hmm_kunit_mirror *mirror);
	struct hmm_kunit_mirror *mirror;
};

static int run_mirror(void *data)
{
	struct run *run = data;

	return run->run(run->mirror);
}

/* The same for @mirror, and the pages of its range. */
static void report(struct kunit *test, const char *what,
		   int (*run)(struct hmm_kunit_mirror *mirror),
		   struct hmm_kunit_mirror *mirror)
{
	struct run data = { run, mirror };

	report_npages(test, what, run_mirror, &data,
		      (mirror->range.end - mirror->range.start) / PAGE_SIZE);
}

/* Fault memory that is as the case has left it. */
static struct hmm_kunit_mirror *fault(struct kunit *test, const char *what,
				      unsigned long addr, unsigned long npages,
				      unsigned long flags)
{
	struct hmm_kunit_mirror *mirror = hmm_kunit_mirror(test, addr, npages, flags);

	report(test, what, hmm_kunit_fault, mirror);
	hmm_kunit_expect_mapped(test, mirror);
	return mirror;
}

static void snapshot(struct kunit *test, const char *what,
		     struct hmm_kunit_mirror *mirror)
{
	mirror->range.default_flags = 0;
	report(test, what, hmm_kunit_snapshot, mirror);
	hmm_kunit_expect_mapped(test, mirror);
}

/*
 * Others do the same for this memory: MADV_POPULATE_WRITE faults it, and
 * pin_user_pages_fast() looks up its pages. These have an array of pages.
 */
#ifdef MODULE
static void peers(struct kunit *test, const char *populated, const char *pinned,
		  unsigned long addr, unsigned long npages)
{
}
#else
static int populate(struct hmm_kunit_mirror *mirror)
{
	return do_madvise(current->mm, mirror->range.start,
			  mirror->range.end - mirror->range.start,
			  MADV_POPULATE_WRITE);
}

/* The array is that of the range, of which each entry is as long as a pointer. */
static int pin(struct hmm_kunit_mirror *mirror)
{
	struct page **pages = (struct page **)mirror->range.hmm_pfns;
	unsigned long start = mirror->range.start;
	int left = (mirror->range.end - start) / PAGE_SIZE;

	while (left) {
		int ret = pin_user_pages_fast(start, left, FOLL_WRITE, pages);

		if (ret <= 0)
			return ret ? ret : -EFAULT;
		start += ret * PAGE_SIZE;
		pages += ret;
		left -= ret;
	}
	return 0;
}

static void peers(struct kunit *test, const char *populated, const char *pinned,
		  unsigned long addr, unsigned long npages)
{
	struct hmm_kunit_mirror *mirror = hmm_kunit_mirror(test, addr, npages, 0);

	report(test, populated, populate, mirror);
	report(test, pinned, pin, mirror);
	unpin_user_pages((struct page **)mirror->range.hmm_pfns, npages);
}
#endif

static void cold_order0(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, NPAGES);

	snapshot(test, "order-0, snapshot",
		 fault(test, "order-0, cold write", addr, NPAGES, REQ_WRITE));
	peers(test, "order-0, populate", "order-0, pin_user_pages_fast",
	      hmm_kunit_anon(test, NPAGES), NPAGES);
}

static void cold_order0_read(struct kunit *test)
{
	fault(test, "order-0, cold read", hmm_kunit_anon(test, NPAGES), NPAGES,
	      REQ_READ);
}

/* As many as a driver asks for at once; the page table is there. The least of five. */
static void cold_16(struct kunit *test)
{
	const unsigned long npages = 16;
	unsigned long addr = hmm_kunit_anon(test, npages);
	struct hmm_kunit_mirror *mirror = hmm_kunit_mirror(test, addr, npages, REQ_WRITE);
	struct run run = { range_fault_unlocked, mirror };
	u64 least = U64_MAX;

	KUNIT_ASSERT_EQ(test, 0, range_fault_unlocked(mirror));
	for (unsigned int round = 0; round < 5; round++) {
		hmm_kunit_madvise(test, addr, npages, MADV_DONTNEED);
		least = min(least, measure(test, run_mirror, &run));
	}
	print(test, "order-0, cold write of 16 pages", least, npages);
	hmm_kunit_expect_mapped(test, mirror);
}

static void cold_thp(struct kunit *test)
{
	unsigned long addr = hmm_kunit_thp(test, NPAGES);

	snapshot(test, "2M THP, snapshot",
		 fault(test, "2M THP, cold write", addr, NPAGES, REQ_WRITE));
	peers(test, "2M THP, populate", "2M THP, pin_user_pages_fast",
	      hmm_kunit_thp(test, NPAGES), NPAGES);
}

#ifdef CONFIG_DEVICE_PRIVATE
static void back(struct kunit *test, const char *what, unsigned long addr, unsigned int order)
{
	struct hmm_kunit_mirror *mirror = hmm_kunit_mirror(test, addr, NPAGES, REQ_WRITE);

	KUNIT_ASSERT_EQ(test, 0, hmm_kunit_fault(mirror));
	hmm_kunit_round_trip(test, addr, NPAGES, order);
	report(test, what, hmm_kunit_fault, mirror);
}

static void back_from_device(struct kunit *test)
{
	back(test, "order-0, back from a device", hmm_kunit_anon(test, NPAGES), 0);
	back(test, "2M THP, back from a device", hmm_kunit_thp(test, NPAGES),
	     PMD_SHIFT - PAGE_SHIFT);
}
#endif

/* Half of it for the peers: there are 64 pages. */
static void cold_hugetlb(struct kunit *test)
{
	const unsigned long npages = NPAGES / 2;
	unsigned long addr = hmm_kunit_hugetlb(test, npages, PMD_SHIFT - PAGE_SHIFT);

	snapshot(test, "2M hugetlb, snapshot",
		 fault(test, "2M hugetlb, cold write", addr, npages, REQ_WRITE));
	peers(test, "2M hugetlb, populate", "2M hugetlb, pin_user_pages_fast",
	      hmm_kunit_hugetlb(test, npages, PMD_SHIFT - PAGE_SHIFT), npages);
}

static void cold_gigantic(struct kunit *test)
{
	const unsigned long npages = PUD_SIZE / PAGE_SIZE;
	unsigned long addr = hmm_kunit_hugetlb(test, npages, PUD_SHIFT - PAGE_SHIFT);

	snapshot(test, "1G hugetlb, snapshot",
		 fault(test, "1G hugetlb, cold write", addr, npages, REQ_WRITE));
}

static void cold_gigantic_peers(struct kunit *test)
{
	const unsigned long npages = PUD_SIZE / PAGE_SIZE;

	peers(test, "1G hugetlb, populate", "1G hugetlb, pin_user_pages_fast",
	      hmm_kunit_hugetlb(test, npages, PUD_SHIFT - PAGE_SHIFT), npages);
}

/* Each fault drops the mmap lock. */
static void lock_drops(struct kunit *test, const char *what, unsigned long npages)
{
	struct hmm_kunit_file *hf = hmm_kunit_file(test, npages);
	struct hmm_kunit_mirror *mirror;

	hmm_kunit_file_fill(test, hf, 0, 1);
	mirror = hmm_kunit_mirror(test, hmm_kunit_file_map(test, hf, MAP_SHARED),
				  npages, REQ_READ);
	hf->at = ULONG_MAX;
	hf->times = npages;
	hf->ret = VM_FAULT_RETRY;
	report(test, what, range_fault_unlocked, mirror);
	hmm_kunit_expect_mapped(test, mirror);
}

static void lock_drops_512(struct kunit *test)
{
	lock_drops(test, "lock dropped for each of 512", 512);
}

static void lock_drops_2048(struct kunit *test)
{
	lock_drops(test, "lock dropped for each of 2048", 2048);
}

/* Write to pages that are mapped to the zero page. */
static void break_cow(struct kunit *test)
{
	const unsigned long npages = 2 * HMM_KUNIT_TABLE;
	unsigned long addr = hmm_kunit_anon(test, npages);

	for (unsigned long i = 0; i < npages; i++)
		KUNIT_ASSERT_EQ(test, hmm_kunit_read(test, addr + i * PAGE_SIZE), 0);
	fault(test, "order-0, COW", addr, npages, REQ_WRITE);
}

static void holes(struct kunit *test, const char *what, unsigned int nr_holes,
		  unsigned int period)
{
	const unsigned long npages = 8 * HMM_KUNIT_TABLE;
	unsigned long addr = hmm_kunit_anon(test, npages);

	for (unsigned long i = 0; i < npages; i++)
		if (i % period >= nr_holes)
			hmm_kunit_write(test, addr + i * PAGE_SIZE, i);
	fault(test, what, addr, npages, REQ_WRITE);
}

static void holes_1_of_2(struct kunit *test)
{
	holes(test, "every 2nd page missing", 1, 2);
}

static void holes_2_of_3(struct kunit *test)
{
	holes(test, "2 of 3 pages missing", 2, 3);
}

static void one_hole(struct kunit *test)
{
	holes(test, "1 of 512 pages missing", 1, HMM_KUNIT_TABLE);
}

/*
 * A driver that faults a range until it is valid, and keeps the array from one fault to
 * the next: HMM knows which pages of a registered range are stale.
 */
#ifdef CONFIG_HMM_KUNIT_HAS_RANGE
struct keeper {
	struct hmm_kunit_device *device;
	struct hmm_range range;
};

static void keeper_end(void *data)
{
	hmm_range_unregister(&((struct keeper *)data)->range);
}

static struct keeper *keeper(struct kunit *test, unsigned long addr, unsigned long npages,
			     unsigned long flags)
{
	struct keeper *keeper = kunit_kzalloc(test, sizeof(*keeper), GFP_KERNEL);
	struct hmm_kunit_mirror *mirror;

	KUNIT_ASSERT_NOT_NULL(test, keeper);
	/* Only for its array */
	mirror = hmm_kunit_mirror(test, addr, npages, flags);
	keeper->range.start = mirror->range.start;
	keeper->range.end = mirror->range.end;
	keeper->range.hmm_pfns = mirror->range.hmm_pfns;
	keeper->range.default_flags = flags;
	keeper->device = hmm_kunit_device_of(test, addr, npages);
	KUNIT_ASSERT_EQ(test, 0, hmm_range_register(&keeper->range, &keeper->device->mirror));
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, keeper_end, keeper));
	return keeper;
}

static struct hmm_range *keeper_range(struct keeper *keeper)
{
	return &keeper->range;
}

static bool keeper_valid(struct keeper *keeper)
{
	bool valid;

	mutex_lock(&keeper->device->lock);
	valid = hmm_range_valid(&keeper->range);
	mutex_unlock(&keeper->device->lock);
	return valid;
}
#else
struct keeper {
	struct hmm_kunit_mirror *mirror;
};

static struct keeper *keeper(struct kunit *test, unsigned long addr, unsigned long npages,
			     unsigned long flags)
{
	struct keeper *keeper = kunit_kzalloc(test, sizeof(*keeper), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, keeper);
	keeper->mirror = hmm_kunit_mirror(test, addr, npages, flags);
	return keeper;
}

static struct hmm_range *keeper_range(struct keeper *keeper)
{
	return &keeper->mirror->range;
}

static bool keeper_valid(struct keeper *keeper)
{
	struct hmm_kunit_mirror *mirror = keeper->mirror;
	struct hmm_range *range = &mirror->range;
	bool valid;

	spin_lock(&mirror->lock);
	valid = !mmu_interval_read_retry(range->notifier, range->notifier_seq);
	spin_unlock(&mirror->lock);
	return valid;
}
#endif

static int keeper_fault(void *data)
{
	int ret;

	do {
		ret = hmm_range_fault_unlocked_timeout(keeper_range(data), 0);
		if (ret)
			return ret;
	} while (!keeper_valid(data));
	return 0;
}

/* A page in the middle has gone. */
static void refault(struct kunit *test, const char *what, unsigned long npages)
{
	unsigned long addr;
	struct keeper *k;

	hmm_kunit_needs_events(test);
	if (totalram_pages() < 2 * npages)
		kunit_skip(test, "not enough memory");
	addr = hmm_kunit_anon(test, npages);
	k = keeper(test, addr, npages, REQ_WRITE);
	KUNIT_ASSERT_EQ(test, 0, keeper_fault(k));
	hmm_kunit_madvise(test, addr + npages / 2 * PAGE_SIZE, 1, MADV_DONTNEED);
	report_npages(test, what, keeper_fault, k, 1);
}

static void refault_2m(struct kunit *test)
{
	refault(test, "1 page of 2M again, a call", SZ_2M / PAGE_SIZE);
}

static void refault_64m(struct kunit *test)
{
	refault(test, "1 page of 64M again, a call", SZ_64M / PAGE_SIZE);
}

static void refault_1g(struct kunit *test)
{
	refault(test, "1 page of 1G again, a call", SZ_1G / PAGE_SIZE);
}

/*
 * Each fault is an event for the range itself. The least of five, as the work of the
 * page allocator depends on its state.
 */
static void cow_unlocked(struct kunit *test, const char *what, unsigned long npages)
{
	u64 least = U64_MAX;

	for (unsigned int round = 0; round < 5; round++) {
		unsigned long addr = hmm_kunit_anon(test, npages);

		for (unsigned long i = 0; i < npages; i++)
			KUNIT_ASSERT_EQ(test, hmm_kunit_read(test, addr + i * PAGE_SIZE), 0);
		least = min(least, measure(test, keeper_fault,
					   keeper(test, addr, npages, REQ_WRITE)));
	}
	print(test, what, least, npages);
}

static void cow_4_tables(struct kunit *test)
{
	cow_unlocked(test, "COW in 4 page tables, unlocked", 4 * HMM_KUNIT_TABLE);
}

static void cow_32_tables(struct kunit *test)
{
	cow_unlocked(test, "COW in 32 page tables, unlocked", 32 * HMM_KUNIT_TABLE);
}

/* All is there, and nothing happens to it: a range that is not kept, and one that is. */
static void present(struct kunit *test)
{
	const unsigned long npages = HMM_KUNIT_TABLE;
	unsigned long addr = hmm_kunit_anon(test, npages);
	struct hmm_kunit_mirror *mirror = hmm_kunit_mirror(test, addr, npages, REQ_WRITE);
	struct run run = { range_fault_unlocked, mirror };
	struct keeper *k;

	KUNIT_ASSERT_EQ(test, 0, range_fault_unlocked(mirror));
	report_npages(test, "512 pages are there, a call", run_mirror, &run, 1);
	k = keeper(test, addr, npages, REQ_WRITE);
	KUNIT_ASSERT_EQ(test, 0, keeper_fault(k));
	report_npages(test, "the same, kept, a call", keeper_fault, k, 1);
}

static void free_bitmap(void *data)
{
	bitmap_free(data);
}

/*
 * Random single pages of a range have been invalidated: the share of its entries that is
 * stored again, in permille. The pages for a number of pages are those for a smaller
 * number, and others. All of them are the zero page.
 */
static void walked_again(struct kunit *test, const char *size, bool aligned, unsigned long npages)
{
	static const unsigned int numbers[] = { 1, 8, 9, 16, 64, 512 };
	unsigned long addr, *pfns, *chosen;
	struct keeper *k;

	hmm_kunit_needs_events(test);
	if (totalram_pages() < npages)
		kunit_skip(test, "not enough memory");
	addr = hmm_kunit_anon(test, npages + 1) + (aligned ? 0 : PAGE_SIZE);
	k = keeper(test, addr, npages, REQ_READ);
	pfns = keeper_range(k)->hmm_pfns;
	chosen = bitmap_zalloc(npages, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, chosen);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, free_bitmap, chosen));
	KUNIT_ASSERT_EQ(test, 0, keeper_fault(k));
	for (unsigned int n = 0; n < ARRAY_SIZE(numbers); n++) {
		struct rnd_state state;
		u64 nr_stored = 0;
		unsigned long i;

		prandom_seed_state(&state, 1);
		bitmap_zero(chosen, npages);
		for (unsigned int nr = 0; nr < numbers[n]; ) {
			i = prandom_u32_state(&state) % npages;
			if (__test_and_set_bit(i, chosen))
				continue;
			hmm_kunit_event(test, current->mm, addr + i * PAGE_SIZE, 1);
			nr++;
		}
		for (i = 0; i < npages; i++)
			pfns[i] = HMM_KUNIT_POISON;
		KUNIT_ASSERT_EQ(test, 0, keeper_fault(k));
		for (i = 0; i < npages; i++) {
			if (pfns[i] != HMM_KUNIT_POISON)
				nr_stored++;
			else if (test_bit(i, chosen))
				KUNIT_FAIL(test, "page %lu is not stored again", i);
		}
		nr_stored = div_u64(100 * 1000 * nr_stored, npages);
		kunit_info(test, "bench: again, %u of %s%s: %llu.%02u", numbers[n], size,
			   aligned ? "" : " unaligned", nr_stored / 100,
			   (u32)(nr_stored % 100));
	}
}

static void again_2m(struct kunit *test)
{
	walked_again(test, "2M", true, SZ_2M / PAGE_SIZE);
	walked_again(test, "2M", false, SZ_2M / PAGE_SIZE);
}

static void again_64m(struct kunit *test)
{
	walked_again(test, "64M", true, SZ_64M / PAGE_SIZE);
	walked_again(test, "64M", false, SZ_64M / PAGE_SIZE);
}

static void again_1g(struct kunit *test)
{
	walked_again(test, "1G", true, SZ_1G / PAGE_SIZE);
	walked_again(test, "1G", false, SZ_1G / PAGE_SIZE);
}

/* A page goes away. The least of five */
struct event {
	struct mm_struct *mm;
	unsigned long addr;
};

static int run_event(void *data)
{
	struct event *event = data;

	return hmm_kunit_try_madvise(event->mm, event->addr, 1, MADV_DONTNEED);
}

static void report_event(struct kunit *test, const char *what, unsigned long addr)
{
	struct event event = { .mm = current->mm, .addr = addr };
	u64 least = U64_MAX;

	for (unsigned int round = 0; round < 5; round++) {
		hmm_kunit_write(test, addr, round);
		least = min(least, measure(test, run_event, &event));
	}
	print(test, what, least, 1);
}

/* It is in the mirror of a notifier whose callback does no more than it has to. */
static void event_plain(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, 1);

	hmm_kunit_needs_events(test);
	hmm_kunit_mirror(test, addr, 1, 0);
	report_event(test, "event, plain notifier", addr);
}

#ifdef CONFIG_HMM_KUNIT_HAS_RANGE
static bool event_invalidate(struct hmm_mirror *mirror,
			     const struct mmu_notifier_range *event)
{
	return true;
}

static void free_ranges(void *data)
{
	struct hmm_range *range = data;

	for (; range->mirror; range++)
		hmm_range_unregister(range);
	kvfree(data);
}

/* It is in a struct hmm_mirror with ranges of a page each, of one of which it is. */
static void event_mirror(struct kunit *test)
{
	static const unsigned int numbers[] = { 0, 1, 16, 1024 };

	hmm_kunit_needs_events(test);
	for (unsigned int n = 0; n < ARRAY_SIZE(numbers); n++) {
		const unsigned int nr = numbers[n];
		unsigned long addr = hmm_kunit_anon(test, nr + 1);
		struct hmm_kunit_device *device = hmm_kunit_device(test);
		struct hmm_range *ranges;
		char what[32];

		device->ops.invalidate = event_invalidate;
		device->ops.finish = NULL;
		KUNIT_ASSERT_EQ(test, 0, hmm_kunit_device_register(device, current->mm, addr,
								   nr + 1));
		ranges = kvcalloc(nr + 1, sizeof(*ranges), GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, ranges);
		KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, free_ranges, ranges));
		for (unsigned int i = 0; i < nr; i++) {
			ranges[i].start = addr + i * PAGE_SIZE;
			ranges[i].end = ranges[i].start + PAGE_SIZE;
			KUNIT_ASSERT_EQ(test, 0, hmm_range_register(&ranges[i],
								    &device->mirror));
		}
		snprintf(what, sizeof(what), "event, %u ranges", nr);
		report_event(test, what, addr + nr / 2 * PAGE_SIZE);
		kunit_release_action(test, free_ranges, ranges);
	}
}
#endif

#ifdef CONFIG_HMM_KUNIT_HAS_EDU
/*
 * Memory that is there is mapped for a device behind an IOMMU, and unmapped: as a range,
 * if HMM can, and page by page. How often the IOMMU is told to map something, and to
 * flush its caches, is counted apart, for counting takes its time too.
 */
struct dma {
	struct device *dev;
	struct hmm_dma_map map;
	struct keeper *keeper;
	struct hmm_range *range;
	unsigned long npages;
};

#ifdef CONFIG_HMM_KUNIT_HAS_DMA_PFN
static int dma_map_pages(void *data)
{
	struct pci_p2pdma_map_state p2pdma_state = {};
	struct dma *dma = data;

	for (unsigned long i = 0; i < dma->npages; i++)
		if (hmm_dma_map_pfn(dma->dev, &dma->map, i, &p2pdma_state) ==
		    DMA_MAPPING_ERROR)
			return -EIO;
	return 0;
}

static int dma_unmap_pages(void *data)
{
	struct dma *dma = data;

	for (unsigned long i = 0; i < dma->npages; i++)
		hmm_dma_unmap_pfn(dma->dev, &dma->map, i);
	return 0;
}
#endif

#ifdef CONFIG_HMM_KUNIT_HAS_DMA
static int dma_map_range(void *data)
{
	struct dma *dma = data;

	int ret = hmm_range_dma_map(dma->dev, &dma->map, dma->range, 0);

	if (!ret)
		mutex_unlock(&dma->keeper->device->lock);
	return ret;
}

static int dma_unmap_range(void *data)
{
	struct dma *dma = data;

	hmm_range_dma_unmap(dma->dev, &dma->map, dma->range->start, dma->range->end);
	return 0;
}

static int dma_alloc(struct dma *dma)
{
	return hmm_dma_map_alloc_range(dma->dev, &dma->map, dma->range->start,
				       dma->range->end, PAGE_SIZE);
}
#else
#define dma_map_range	dma_map_pages
#define dma_unmap_range	dma_unmap_pages

static int dma_alloc(struct dma *dma)
{
	return hmm_dma_map_alloc(dma->dev, &dma->map, dma->npages, PAGE_SIZE);
}
#endif

static void __printf(5, 6)
report_dma(struct kunit *test, struct dma *dma, int (*run)(void *data),
	   unsigned long npages, const char *fmt, ...)
{
	char what[64];
	va_list args;

	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	report_npages(test, what, run, dma, npages);
}

static void dma(struct kunit *test, const char *what, unsigned long addr,
		unsigned long npages)
{
	struct keeper *k = keeper(test, addr, npages, REQ_WRITE);
	struct dma dma = {
		.dev = hmm_kunit_edu(test),
		.keeper = k,
		.range = keeper_range(k),
		.npages = npages,
	};
	struct hmm_kunit_edu_counts counts;
	const char *size = npages == HMM_KUNIT_TABLE ? "2M" : "64M";

	KUNIT_ASSERT_EQ(test, 0, keeper_fault(k));
	KUNIT_ASSERT_EQ(test, 0, dma_alloc(&dma));
	memcpy(dma.map.pfn_list, dma.range->hmm_pfns, npages * sizeof(*dma.map.pfn_list));
	/* Once before, for the page tables that stay, and those that go. */
	dma_map_range(&dma);
	dma_unmap_range(&dma);

	report_dma(test, &dma, dma_map_range, npages, "DMA map of %s, %s", size, what);
	report_dma(test, &dma, dma_unmap_range, npages, "DMA unmap of %s, %s", size, what);
	if (npages > HMM_KUNIT_TABLE) {
		hmm_kunit_edu_count_begin(test, &counts);
		dma_map_range(&dma);
		hmm_kunit_edu_count_end(&counts);
		kunit_info(test, "bench: links, 64M, %s: %lu.00", what, counts.maps);
		kunit_info(test, "bench: flushes, map of 64M, %s: %lu.00", what, counts.flushes);
		hmm_kunit_edu_count_begin(test, &counts);
		dma_unmap_range(&dma);
		hmm_kunit_edu_count_end(&counts);
		kunit_info(test, "bench: flushes, unmap of 64M, %s: %lu.00", what,
			   counts.flushes);

#ifdef CONFIG_HMM_KUNIT_HAS_DMA_PFN
		memcpy(dma.map.pfn_list, dma.range->hmm_pfns,
		       npages * sizeof(*dma.map.pfn_list));
		report_dma(test, &dma, dma_map_pages, npages, "DMA map of 64M, %s, by pages", what);
		report_dma(test, &dma, dma_unmap_pages, npages, "DMA unmap of 64M, %s, by pages",
			   what);
#endif
	}
	hmm_dma_map_free(dma.dev, &dma.map);
}

static void dma_order0(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, NPAGES);

	dma(test, "order-0", addr, HMM_KUNIT_TABLE);
	dma(test, "order-0", addr, NPAGES);
}

static void dma_thp(struct kunit *test)
{
	unsigned long addr = hmm_kunit_thp(test, NPAGES);

	dma(test, "THP", addr, HMM_KUNIT_TABLE);
	dma(test, "THP", addr, NPAGES);
}

static void dma_hugetlb(struct kunit *test)
{
	unsigned long addr = hmm_kunit_hugetlb(test, NPAGES, PMD_SHIFT - PAGE_SHIFT);

	dma(test, "hugetlb", addr, HMM_KUNIT_TABLE);
	dma(test, "hugetlb", addr, NPAGES);
}
#endif

static struct kunit_case hmm_bench_cases[] = {
	KUNIT_CASE(cold_order0),
	KUNIT_CASE(cold_order0_read),
	KUNIT_CASE(cold_16),
	KUNIT_CASE(cold_thp),
#ifdef CONFIG_DEVICE_PRIVATE
	KUNIT_CASE(back_from_device),
#endif
	KUNIT_CASE(cold_hugetlb),
	KUNIT_CASE(cold_gigantic),
	KUNIT_CASE(cold_gigantic_peers),
	KUNIT_CASE(break_cow),
	KUNIT_CASE(holes_1_of_2),
	KUNIT_CASE(holes_2_of_3),
	KUNIT_CASE(one_hole),
	KUNIT_CASE(lock_drops_512),
	KUNIT_CASE(lock_drops_2048),
	KUNIT_CASE(present),
	KUNIT_CASE(refault_2m),
	KUNIT_CASE(refault_64m),
	KUNIT_CASE(refault_1g),
	KUNIT_CASE(cow_4_tables),
	KUNIT_CASE(cow_32_tables),
	KUNIT_CASE(again_2m),
	KUNIT_CASE(again_64m),
	KUNIT_CASE_SLOW(again_1g),
	KUNIT_CASE(event_plain),
#ifdef CONFIG_HMM_KUNIT_HAS_RANGE
	KUNIT_CASE(event_mirror),
#endif
#ifdef CONFIG_HMM_KUNIT_HAS_EDU
	KUNIT_CASE(dma_order0),
	KUNIT_CASE(dma_thp),
	KUNIT_CASE(dma_hugetlb),
#endif
	{}
};

static struct kunit_suite hmm_bench_suite = {
	.name = "hmm_bench",
#ifdef CONFIG_HMM_KUNIT_HAS_EDU
	.suite_init = hmm_kunit_edu_init,
	.suite_exit = hmm_kunit_edu_exit,
#endif
	.test_cases = hmm_bench_cases,
};

kunit_test_suite(hmm_bench_suite);
