// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suite hmm_fault: hmm_range_fault() calls handle_mm_fault() once for each missing
 * mapping.
 *
 * Each case counts the faults while it mirrors memory whose page tables it knows. Then
 * it compares the array with the page tables, and the pages with the tags that were
 * written to them. "Rounds" are calls of hmm_range_fault() until its result is valid. A
 * fault that breaks COW invalidates the range that is being faulted. The range is still
 * faulted to its end: this costs one more round, in which nothing is missing.
 */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/slab.h>

#include "fixture.h"

#define TABLE HMM_KUNIT_TABLE
#define TAG 0x686d6d0000000000ull

/* Mirror [addr, addr + npages) and expect that many faults and rounds. */
static struct hmm_kunit_mirror *expect_faults(struct kunit *test,
					      unsigned long addr,
					      unsigned long npages,
					      unsigned long flags,
					      unsigned long nr_faults,
					      unsigned int nr_rounds)
{
	struct hmm_kunit_mirror *mirror;
	unsigned long counted;
	int ret;

	mirror = hmm_kunit_mirror(test, addr, npages, flags);
	counted = hmm_kunit_nr_faults();
	ret = hmm_kunit_fault(mirror);
	counted = hmm_kunit_nr_faults() - counted;

	KUNIT_ASSERT_EQ(test, ret, 0);
	KUNIT_EXPECT_EQ(test, counted, nr_faults);
	KUNIT_EXPECT_EQ(test, mirror->nr_rounds, nr_rounds);
	KUNIT_EXPECT_EQ(test, mirror->nr_stale, 0);
	hmm_kunit_expect_mapped(test, mirror);
	return mirror;
}

/*
 * struct pattern - which pages of a range are missing, or special otherwise
 * @nr: so many, from page @first on
 * @first: index of the first one
 * @period: and again each so many pages
 */
struct pattern {
	unsigned int nr;
	unsigned int first;
	unsigned int period;
};

static const struct pattern none = { .nr = 0, .period = 1 };
static const struct pattern all = { .nr = 1, .period = 1 };
static const struct pattern even = { .nr = 1, .period = 2 };

static bool matches(const struct pattern *pattern, unsigned long i)
{
	i %= pattern->period;
	return i >= pattern->first && i < pattern->first + pattern->nr;
}

static void pattern_desc(const struct pattern *pattern, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%u_at_%u_of_%u", pattern->nr,
		 pattern->first, pattern->period);
}

/* Write to the pages that are not @missing, each a tag of its own. */
static void fill(struct kunit *test, unsigned long addr, unsigned long npages,
		 const struct pattern *missing)
{
	for (unsigned long i = 0; i < npages; i++)
		if (!matches(missing, i))
			hmm_kunit_write(test, addr + i * PAGE_SIZE, TAG + i);
}

/* The pages that were @missing are empty, the others have their tags. */
static void expect_tags(struct kunit *test, const struct hmm_kunit_mirror *mirror,
			unsigned long npages, const struct pattern *missing)
{
	for (unsigned long i = 0; i < npages; i++)
		hmm_kunit_expect_tag(test, mirror, i,
				     matches(missing, i) ? 0 : TAG + i);
}

static void present(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, TABLE);
	struct hmm_kunit_mirror *mirror;

	fill(test, addr, TABLE, &none);
	mirror = expect_faults(test, addr, TABLE, REQ_WRITE, 0, 1);
	expect_tags(test, mirror, TABLE, &none);
}

/* A fault for each page that is missing, and none for one that is there. */
static const struct pattern holes_params[] = {
	{ 1, 0, TABLE }, { 1, 1, TABLE }, { 1, TABLE / 2, TABLE },
	{ 1, TABLE - 1, TABLE }, { 1, 0, 2 }, { 1, 1, 3 }, { 2, 0, 3 },
	{ 1, 5, 64 }, { 63, 0, 64 }, { 33, 0, 100 }, { 300, 100, 400 },
};

KUNIT_ARRAY_PARAM(holes, holes_params, pattern_desc);

static void holes(struct kunit *test)
{
	const struct pattern *missing = test->param_value;
	const unsigned long npages = 3 * TABLE;
	unsigned long addr = hmm_kunit_anon(test, npages), nr_missing = 0;
	struct hmm_kunit_mirror *mirror;

	fill(test, addr, npages, missing);
	for (unsigned long i = 0; i < npages; i++)
		nr_missing += matches(missing, i);

	mirror = expect_faults(test, addr, npages, REQ_WRITE, nr_missing, 1);
	expect_tags(test, mirror, npages, missing);
}

/* Order-0 memory costs a fault a page and no more, and no extra round. */
static void cold_write(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, 4 * TABLE);
	struct hmm_kunit_mirror *mirror;

	mirror = expect_faults(test, addr, 4 * TABLE, REQ_WRITE, 4 * TABLE, 1);
	expect_tags(test, mirror, 4 * TABLE, &all);
}

/* Neither end of the range is the end of a table. */
static void cold_unaligned(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, 3 * TABLE);

	expect_faults(test, addr + 5 * PAGE_SIZE, 2 * TABLE + 7, REQ_WRITE,
		      2 * TABLE + 7, 1);
	expect_faults(test, addr, 5, REQ_WRITE, 5, 1);
}

static void cold_read(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, 2 * TABLE);
	struct hmm_kunit_mirror *mirror;

	mirror = expect_faults(test, addr, 2 * TABLE, REQ_READ, 2 * TABLE, 1);
	expect_tags(test, mirror, 2 * TABLE, &all);
}

/* A range that asks for nothing is left as it is. */
static void snapshot(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, TABLE);
	struct hmm_kunit_mirror *mirror;
	struct hmm_kunit_leaf leaf;
	unsigned long before;

	fill(test, addr, TABLE, &even);
	mirror = hmm_kunit_mirror(test, addr, TABLE, 0);
	before = hmm_kunit_nr_faults();
	KUNIT_ASSERT_EQ(test, hmm_kunit_fault(mirror), 0);
	KUNIT_EXPECT_EQ(test, hmm_kunit_nr_faults(), before);
	for (unsigned long i = 0; i < TABLE; i++) {
		if (!matches(&even, i)) {
			hmm_kunit_expect_tag(test, mirror, i, TAG + i);
			continue;
		}
		KUNIT_EXPECT_EQ(test, mirror->range.hmm_pfns[i], 0);
		KUNIT_EXPECT_FALSE(test, hmm_kunit_leaf(addr + i * PAGE_SIZE, &leaf));
	}
}

#ifndef CONFIG_HMM_KUNIT_HAS_FLAGS
/* In a page table, what each page asks for is what it gets. */
static void requested_pages(struct kunit *test)
{
	static const unsigned long requests[] = { 0, REQ_READ, REQ_WRITE, 0, REQ_WRITE };
	unsigned long addr = hmm_kunit_anon(test, TABLE), nr_requests = 0, before;
	struct hmm_kunit_mirror *mirror;
	unsigned long *pfns;

	hmm_kunit_write(test, addr, TAG);
	mirror = hmm_kunit_mirror(test, addr + PAGE_SIZE, TABLE - 1, 0);
	mirror->range.pfn_flags_mask = REQ_WRITE;
	pfns = mirror->range.hmm_pfns;
	for (unsigned long i = 0; i < TABLE - 1; i++) {
		pfns[i] = requests[i % ARRAY_SIZE(requests)];
		nr_requests += !!pfns[i];
	}
	before = hmm_kunit_nr_faults();
	KUNIT_ASSERT_EQ(test, hmm_kunit_fault(mirror), 0);
	KUNIT_EXPECT_EQ(test, hmm_kunit_nr_faults() - before, nr_requests);
	for (unsigned long i = 0; i < TABLE - 1; i++)
		KUNIT_EXPECT_EQ_MSG(test, pfns[i] & (HMM_PFN_VALID | HMM_PFN_WRITE),
				    requests[i % ARRAY_SIZE(requests)], "page %lu", i);
}
#endif

/* A guard page fails the call; the pages before it are there, no page behind it. */
static void guard_page(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, TABLE);
	struct hmm_kunit_mirror *mirror;
	struct hmm_kunit_leaf leaf;

	hmm_kunit_madvise(test, addr + 100 * PAGE_SIZE, 1, MADV_GUARD_INSTALL);
	mirror = hmm_kunit_mirror(test, addr, TABLE, REQ_WRITE);
	KUNIT_EXPECT_EQ(test, hmm_kunit_fault(mirror), -EFAULT);
	for (unsigned long i = 0; i < TABLE; i++)
		KUNIT_EXPECT_EQ_MSG(test, i < 100,
				    hmm_kunit_leaf(addr + i * PAGE_SIZE, &leaf),
				    "page %lu", i);
}

/* Pages that may not be accessed are refused, and none of them is faulted. */
static void no_access(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, 3 * TABLE), before;
	struct hmm_kunit_mirror *mirror;

	KUNIT_ASSERT_EQ(test, addr,
			kunit_vm_mmap(test, NULL, addr, PMD_SIZE, PROT_READ,
				      MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, 0));
	KUNIT_ASSERT_EQ(test, addr + PMD_SIZE,
			kunit_vm_mmap(test, NULL, addr + PMD_SIZE, PMD_SIZE, PROT_NONE,
				      MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, 0));
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr + 2 * PMD_SIZE, PMD_SIZE));
	before = hmm_kunit_nr_faults();
	mirror = hmm_kunit_mirror(test, addr, TABLE, REQ_WRITE);
	KUNIT_EXPECT_EQ(test, hmm_kunit_fault(mirror), -EPERM);
	mirror = hmm_kunit_mirror(test, addr + PMD_SIZE, TABLE, REQ_READ);
	KUNIT_EXPECT_EQ(test, hmm_kunit_fault(mirror), -EFAULT);
	mirror = hmm_kunit_mirror(test, addr + 2 * PMD_SIZE, TABLE, REQ_READ);
	KUNIT_EXPECT_EQ(test, hmm_kunit_fault(mirror), -EFAULT);
	KUNIT_EXPECT_EQ(test, hmm_kunit_nr_faults(), before);
}

/* Read faults map the zero page; a write fault of it breaks COW. */
static void read_pages(struct kunit *test, unsigned long addr,
		       unsigned long npages, unsigned long step)
{
	for (unsigned long i = 0; i < npages; i += step)
		KUNIT_ASSERT_EQ(test, hmm_kunit_read(test, addr + i * PAGE_SIZE), 0);
}

static void cow_one(struct kunit *test)
{
	static const struct pattern third = { 1, 3, TABLE };
	unsigned long addr = hmm_kunit_anon(test, TABLE);
	struct hmm_kunit_mirror *mirror;

	read_pages(test, addr + 3 * PAGE_SIZE, 1, 1);
	fill(test, addr, TABLE, &third);
	mirror = expect_faults(test, addr, TABLE, REQ_WRITE, 1, 2);
	expect_tags(test, mirror, TABLE, &third);
}

static void cow_all(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, 4 * TABLE);
	struct hmm_kunit_mirror *mirror;

	read_pages(test, addr, 4 * TABLE, 1);
	mirror = expect_faults(test, addr, 4 * TABLE, REQ_WRITE, 4 * TABLE, 2);
	expect_tags(test, mirror, 4 * TABLE, &all);
}

static void cow_between_present(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, 2 * TABLE);
	struct hmm_kunit_mirror *mirror;

	read_pages(test, addr, 2 * TABLE, 2);
	fill(test, addr, 2 * TABLE, &even);
	mirror = expect_faults(test, addr, 2 * TABLE, REQ_WRITE, TABLE, 2);
	expect_tags(test, mirror, 2 * TABLE, &even);
}

static void cow_between_holes(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, 2 * TABLE);

	read_pages(test, addr, 2 * TABLE, 2);
	expect_faults(test, addr, 2 * TABLE, REQ_WRITE, 2 * TABLE, 2);
}

/* The variant that takes the lock itself gets there by itself. */
static void cow_unlocked(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, 3 * TABLE);
	struct hmm_kunit_mirror *mirror;
	unsigned long before;

	read_pages(test, addr, 3 * TABLE, 1);
	mirror = hmm_kunit_mirror(test, addr, 3 * TABLE, REQ_WRITE);
	before = hmm_kunit_nr_faults();
	KUNIT_ASSERT_EQ(test, hmm_range_fault_unlocked_timeout(&mirror->range, 10 * HZ),
			0);
	KUNIT_EXPECT_EQ(test, hmm_kunit_nr_faults() - before, 3 * TABLE);
	KUNIT_EXPECT_FALSE(test, mmu_interval_check_retry(mirror->range.notifier,
							  mirror->range.notifier_seq));
	hmm_kunit_expect_mapped(test, mirror);
}

/* After fork() every page is shared with another mm. */
static void forked(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, 2 * TABLE);
	struct hmm_kunit_mirror *mirror;

	fill(test, addr, 2 * TABLE, &none);
	hmm_kunit_fork(test);
	mirror = expect_faults(test, addr, 2 * TABLE, REQ_READ, 0, 1);
	KUNIT_EXPECT_FALSE(test, mirror->range.hmm_pfns[0] & HMM_PFN_WRITE);
	mirror = expect_faults(test, addr, 2 * TABLE, REQ_WRITE, 2 * TABLE, 2);
	expect_tags(test, mirror, 2 * TABLE, &none);
}

static void thp_cold(struct kunit *test)
{
	unsigned long addr = hmm_kunit_thp(test, 4 * TABLE);
	struct hmm_kunit_mirror *mirror;

	mirror = expect_faults(test, addr, 4 * TABLE, REQ_WRITE, 4, 1);
	KUNIT_EXPECT_EQ(test, hmm_pfn_to_map_order(mirror->range.hmm_pfns[0]),
			PMD_SHIFT - PAGE_SHIFT);
	expect_tags(test, mirror, 4 * TABLE, &all);
}

/* A range that ends and starts inside huge pages. */
static void thp_inside(struct kunit *test)
{
	unsigned long addr = hmm_kunit_thp(test, 3 * TABLE);
	struct hmm_kunit_mirror *mirror;

	mirror = expect_faults(test, addr + (TABLE - 3) * PAGE_SIZE, TABLE + 10,
			       REQ_WRITE, 3, 1);
	hmm_kunit_write(test, addr + TABLE * PAGE_SIZE, TAG);
	hmm_kunit_expect_tag(test, mirror, 3, TAG);
	expect_faults(test, addr + 7 * PAGE_SIZE, 1, REQ_WRITE, 0, 1);
}

/* Pages before a huge page do not make it cost more than one fault. */
static void thp_after_order0(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, 3 * TABLE);

	hmm_kunit_write(test, addr, TAG);
	hmm_kunit_write(test, addr + 2 * TABLE * PAGE_SIZE, TAG);
	hmm_kunit_allow_thp(test, addr, 3 * TABLE);
	expect_faults(test, addr, 3 * TABLE, REQ_WRITE, TABLE - 1 + 1 + TABLE - 1, 1);
}

/* The huge zero page is replaced as a whole. */
static void thp_zero(struct kunit *test)
{
	unsigned long addr = hmm_kunit_thp(test, TABLE);

	expect_faults(test, addr, TABLE, REQ_READ, 1, 1);
	expect_faults(test, addr, TABLE, REQ_WRITE, 1, 2);
}

/* Breaking COW of a huge page splits it, and the rest follows page by page. */
static void thp_forked(struct kunit *test)
{
	unsigned long addr = hmm_kunit_thp(test, 2 * TABLE);
	struct hmm_kunit_mirror *mirror;
	struct hmm_kunit_leaf leaf;

	fill(test, addr, 2 * TABLE, &none);
	KUNIT_ASSERT_TRUE(test, hmm_kunit_leaf(addr, &leaf));
	KUNIT_ASSERT_EQ(test, leaf.order, PMD_SHIFT - PAGE_SHIFT);
	hmm_kunit_fork(test);
	mirror = expect_faults(test, addr, 2 * TABLE, REQ_WRITE, 2 * TABLE, 2);
	KUNIT_EXPECT_EQ(test, hmm_pfn_to_map_order(mirror->range.hmm_pfns[0]), 0);
	expect_tags(test, mirror, 2 * TABLE, &none);
}

/*
 * Folios of 16K and 64K, which one fault maps by several PTEs. A folio is not used
 * where one of its pages is there already: the others come one by one.
 */
static const struct mthp {
	const char *name;
	unsigned int order;
	unsigned long request;
	/* The pages that are there before. */
	struct pattern there;
} mthp_params[] = {
	{ "16k", 2, REQ_WRITE, { 0, 0, 1 } },
	{ "64k", 4, REQ_WRITE, { 0, 0, 1 } },
	{ "64k_first_is_there", 4, REQ_WRITE, { 1, 0, 32 } },
	{ "64k_last_is_there", 4, REQ_WRITE, { 1, 31, 32 } },
	{ "64k_some_are_there", 4, REQ_WRITE, { 17, 20, 64 } },
	{ "256k", 6, REQ_WRITE, { 0, 0, 1 } },
	{ "1m", 8, REQ_WRITE, { 0, 0, 1 } },
};

KUNIT_ARRAY_PARAM_DESC(mthp, mthp_params, name);

static void mthp(struct kunit *test)
{
	const struct mthp *param = test->param_value;
	const unsigned long npages = 2 * TABLE, size = BIT(param->order);
	unsigned long addr = hmm_kunit_mthp(test, npages, param->order), nr_faults = 0;
	struct hmm_kunit_mirror *mirror;

	for (unsigned long i = 0; i < npages; i += size) {
		unsigned long nr_missing = 0;

		for (unsigned long j = i; j < i + size; j++)
			nr_missing += !matches(&param->there, j);
		nr_faults += nr_missing == size ? 1 : nr_missing;
	}
	/* They come by faults of single pages, and are no folio of that order. */
	hmm_kunit_madvise(test, addr, npages, MADV_NOHUGEPAGE);
	for (unsigned long i = 0; i < npages; i++)
		if (matches(&param->there, i))
			hmm_kunit_write(test, addr + i * PAGE_SIZE, TAG + i);
	hmm_kunit_madvise(test, addr, npages, MADV_HUGEPAGE);

	mirror = expect_faults(test, addr, npages, param->request, nr_faults, 1);
	for (unsigned long i = 0; i < npages; i++)
		hmm_kunit_expect_tag(test, mirror, i,
				     matches(&param->there, i) ? TAG + i : 0);
}

#ifdef CONFIG_DEVICE_PRIVATE
/*
 * Pages that a device has written to are writable and dirty when they come back, even
 * those that were clean before.
 */
static const struct back {
	const char *name;
	unsigned int order;
	bool clean;
} back_params[] = {
	{ "order0", 0, false },
	{ "order0_clean", 0, true },
	{ "thp", PMD_SHIFT - PAGE_SHIFT, false },
	{ "thp_clean", PMD_SHIFT - PAGE_SHIFT, true },
};

KUNIT_ARRAY_PARAM_DESC(back, back_params, name);

static void back_from_device(struct kunit *test)
{
	const struct back *param = test->param_value;
	const unsigned long npages = 2 * TABLE;
	unsigned long addr = param->order ? hmm_kunit_thp(test, npages) :
					    hmm_kunit_anon(test, npages);
	struct hmm_kunit_mirror *mirror;

	for (unsigned long i = 0; i < npages; i++)
		hmm_kunit_write(test, addr + i * PAGE_SIZE, TAG + i);
	if (param->clean)
		hmm_kunit_madvise(test, addr, npages, MADV_FREE);
	hmm_kunit_round_trip(test, addr, npages, param->order);
	for (unsigned long i = 0; i < npages; i++) {
		struct hmm_kunit_leaf leaf;

		KUNIT_ASSERT_TRUE(test, hmm_kunit_leaf(addr + i * PAGE_SIZE, &leaf));
		KUNIT_ASSERT_EQ(test, param->order, leaf.order);
		if (!folio_test_dirty(pfn_folio(leaf.pfn))) {
			KUNIT_FAIL(test, "page %lu is clean", i);
			break;
		}
	}
	mirror = expect_faults(test, addr, npages, REQ_WRITE, 0, 1);
	for (unsigned long i = 0; i < npages; i++)
		hmm_kunit_expect_tag(test, mirror, i, 0);
}
#endif

static void hugetlb_cold(struct kunit *test)
{
	unsigned long addr = hmm_kunit_hugetlb(test, 4 * TABLE, PMD_SHIFT - PAGE_SHIFT);
	struct hmm_kunit_mirror *mirror;

	mirror = expect_faults(test, addr, 4 * TABLE, REQ_WRITE, 4, 1);
	expect_tags(test, mirror, 4 * TABLE, &all);
}

/* A file without map_pages maps one page a fault. */
static const struct pattern file_by_page_params[] = {
	{ 1, 0, 1 }, { 1, 0, 2 }, { 2, 0, 3 }, { 3, 1, 4 },
};

KUNIT_ARRAY_PARAM(file_by_page, file_by_page_params, pattern_desc);

static void file_by_page(struct kunit *test)
{
	const struct pattern *missing = test->param_value;
	struct hmm_kunit_file *hf = hmm_kunit_file(test, TABLE);
	unsigned long addr, nr_missing = 0;
	struct hmm_kunit_mirror *mirror;

	hmm_kunit_file_fill(test, hf, 0, TAG);
	addr = hmm_kunit_file_map(test, hf, MAP_SHARED);
	for (unsigned long i = 0; i < TABLE; i++) {
		if (matches(missing, i))
			nr_missing++;
		else
			hmm_kunit_read(test, addr + i * PAGE_SIZE);
	}
	atomic_set(&hf->nr_faults, 0);
	mirror = expect_faults(test, addr, TABLE, REQ_READ, nr_missing, 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&hf->nr_faults), nr_missing);
	expect_tags(test, mirror, TABLE, &none);
}

/*
 * Pages that have to be made one by one, and then pages in the page cache, in groups of
 * 16 that one fault maps. None of them is faulted in vain.
 */
static const unsigned int file_fault_around_later_params[] = { 16, 64, 128, 256 };

static void number_desc(const unsigned int *number, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%u", *number);
}

KUNIT_ARRAY_PARAM(file_fault_around_later, file_fault_around_later_params, number_desc);

static void file_fault_around_later(struct kunit *test)
{
	const unsigned int single = *(const unsigned int *)test->param_value;
	struct hmm_kunit_file *hf = hmm_kunit_file(test, TABLE);
	unsigned long addr;

	hf->map_pages = true;
	hmm_kunit_file_fill(test, hf, single, TAG);
	addr = hmm_kunit_file_map(test, hf, MAP_SHARED);
	KUNIT_ASSERT_EQ(test, hmm_kunit_read(test, addr), 0);
	expect_faults(test, addr, TABLE, REQ_READ,
		      single - 1 + (TABLE - single) / (SZ_64K / PAGE_SIZE), 1);
}

/*
 * Each page but the first needs two faults, and the first of the two invalidates
 * the range, as a NUMA hinting fault does that migrates a page which then is
 * written to. It unmaps the first page, which has to be faulted in the second round.
 */
static void file_two_faults(struct kunit *test)
{
	struct hmm_kunit_file *hf = hmm_kunit_file(test, 2 * TABLE);
	unsigned long addr;

	hmm_kunit_file_fill(test, hf, 0, TAG);
	addr = hmm_kunit_file_map(test, hf, MAP_SHARED);
	KUNIT_ASSERT_EQ(test, hmm_kunit_read(test, addr), TAG);
	hf->at = ULONG_MAX;
	hf->first = 1;
	hf->times = 2 * TABLE - 1;
	hf->ret = VM_FAULT_NOPAGE;
	hf->invalidate = true;
	expect_faults(test, addr, 2 * TABLE, REQ_READ, 2 * (2 * TABLE - 1) + 1, 2);
}

/* Fault-around maps 16 pages of the page cache, and they are not faulted again. */
static void file_fault_around(struct kunit *test)
{
	struct hmm_kunit_file *hf = hmm_kunit_file(test, 2 * TABLE);
	struct hmm_kunit_mirror *mirror;
	unsigned long addr;

	hf->map_pages = true;
	hmm_kunit_file_fill(test, hf, 0, TAG);
	addr = hmm_kunit_file_map(test, hf, MAP_SHARED);
	mirror = expect_faults(test, addr, 2 * TABLE, REQ_READ,
			       2 * TABLE / (SZ_64K / PAGE_SIZE), 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&hf->nr_faults), 0);
	expect_tags(test, mirror, 2 * TABLE, &none);

	/* The first group is there. */
	unmap_mapping_range(hf->file->f_mapping, 0, 0, 1);
	KUNIT_ASSERT_EQ(test, TAG, hmm_kunit_read(test, addr));
	expect_faults(test, addr + PAGE_SIZE, 2 * TABLE - 1, REQ_READ,
		      2 * TABLE / (SZ_64K / PAGE_SIZE) - 1, 1);
}

/* A private mapping of a file gets copies, and the file keeps its pages. */
static void file_private(struct kunit *test)
{
	struct hmm_kunit_file *hf = hmm_kunit_file(test, TABLE);
	struct hmm_kunit_mirror *mirror;
	unsigned long addr;

	hmm_kunit_file_fill(test, hf, 0, TAG);
	addr = hmm_kunit_file_map(test, hf, MAP_PRIVATE);
	mirror = expect_faults(test, addr, TABLE, REQ_WRITE, TABLE, 1);
	expect_tags(test, mirror, TABLE, &none);
	KUNIT_EXPECT_EQ(test, atomic_read(&hf->nr_faults), TABLE);
}

/* The caller gets the error that the handler returns for a page in the middle. */
static const struct failure {
	const char *name;
	vm_fault_t fault;
	int ret;
} file_fails_params[] = {
	{ "sigbus", VM_FAULT_SIGBUS, -EFAULT },
	{ "oom", VM_FAULT_OOM, -ENOMEM },
	{ "hwpoison", VM_FAULT_HWPOISON, -EFAULT },
};

KUNIT_ARRAY_PARAM_DESC(file_fails, file_fails_params, name);

static void file_fails(struct kunit *test)
{
	const struct failure *failure = test->param_value;
	struct hmm_kunit_file *hf = hmm_kunit_file(test, TABLE);
	struct hmm_kunit_mirror *mirror;
	struct hmm_kunit_leaf leaf;
	unsigned long addr;

	hmm_kunit_file_fill(test, hf, 0, TAG);
	addr = hmm_kunit_file_map(test, hf, MAP_SHARED);
	hf->at = 100;
	hf->times = 1;
	hf->ret = failure->fault;
	mirror = hmm_kunit_mirror(test, addr, TABLE, REQ_READ);
	KUNIT_EXPECT_EQ(test, hmm_kunit_fault(mirror), failure->ret);
	KUNIT_EXPECT_EQ(test, atomic_read(&hf->nr_faults), 101);
	KUNIT_EXPECT_FALSE(test, hmm_kunit_leaf(addr + 100 * PAGE_SIZE, &leaf));

	/* The next call takes up where this one failed. */
	expect_faults(test, addr, TABLE, REQ_READ, TABLE - 100, 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&hf->nr_faults), TABLE + 1);
}

/* A handler that maps nothing and reports no error is asked again. */
static void file_no_progress(struct kunit *test)
{
	struct hmm_kunit_file *hf = hmm_kunit_file(test, TABLE);
	struct hmm_kunit_mirror *mirror;
	unsigned long addr;

	hmm_kunit_file_fill(test, hf, 0, TAG);
	addr = hmm_kunit_file_map(test, hf, MAP_SHARED);
	hf->at = 100;
	hf->times = 3;
	hf->ret = VM_FAULT_NOPAGE;
	mirror = expect_faults(test, addr, TABLE, REQ_READ, TABLE + 3, 1);
	expect_tags(test, mirror, TABLE, &none);
}

/*
 * While a fault is undone as fast as it is handled, the caller gets -EBUSY and
 * can give up; hmm_range_fault() does not repeat it by itself.
 */
static void file_no_progress_invalidated(struct kunit *test)
{
	struct hmm_kunit_file *hf = hmm_kunit_file(test, TABLE);
	struct hmm_kunit_mirror *mirror;
	unsigned long addr;

	hmm_kunit_file_fill(test, hf, 0, TAG);
	addr = hmm_kunit_file_map(test, hf, MAP_SHARED);
	hf->at = 0;
	hf->times = 20 * HMM_KUNIT_MAX_ROUNDS;
	hf->ret = VM_FAULT_NOPAGE;
	hf->invalidate = true;
	fill(test, addr + PAGE_SIZE, TABLE - 1, &none);
	mirror = hmm_kunit_mirror(test, addr, TABLE, REQ_READ);
	KUNIT_EXPECT_EQ(test, hmm_kunit_fault(mirror), -EBUSY);
	KUNIT_EXPECT_EQ(test, mirror->nr_rounds, HMM_KUNIT_MAX_ROUNDS);
	/* A few faults a round, and those of the other pages before. */
	KUNIT_EXPECT_LE(test, atomic_read(&hf->nr_faults),
			20 * HMM_KUNIT_MAX_ROUNDS + TABLE - 1);
}

/*
 * An invalidation of the first page while another is faulted is not missed: neither in
 * the same page table, where no walk has seen the first page yet, nor in the next.
 */
static const unsigned int file_invalidated_params[] = { 10, TABLE - 1, TABLE + 10 };

KUNIT_ARRAY_PARAM(file_invalidated, file_invalidated_params, number_desc);

static void file_invalidated(struct kunit *test)
{
	struct hmm_kunit_file *hf = hmm_kunit_file(test, 2 * TABLE);
	struct hmm_kunit_mirror *mirror;
	unsigned long addr;

	hmm_kunit_file_fill(test, hf, 0, TAG);
	addr = hmm_kunit_file_map(test, hf, MAP_SHARED);
	hf->at = *(const unsigned int *)test->param_value;
	hf->times = 1;
	hf->invalidate = true;
	mirror = expect_faults(test, addr, 2 * TABLE, REQ_READ, 2 * TABLE + 1, 2);
	expect_tags(test, mirror, 2 * TABLE, &none);
}

/* Unmap all that the file has mapped, by a thread that may free its page table */
struct table {
	struct mm_struct *mm;
	unsigned long addr;
	unsigned long nr_freed;
	struct completion done;
};

static int free_table_thread(void *data)
{
	struct table *table = data;
	unsigned long bytes = mm_pgtables_bytes(table->mm);

	kthread_use_mm(table->mm);
	hmm_kunit_try_madvise(table->mm, table->addr, TABLE, MADV_DONTNEED);
	kthread_unuse_mm(table->mm);
	table->nr_freed = bytes - mm_pgtables_bytes(table->mm);
	complete(&table->done);
	return 0;
}

static void free_table(void *data)
{
	struct table *table = data;

	if (!IS_ERR(kthread_run(free_table_thread, table, "free_table")))
		wait_for_completion(&table->done);
}

/*
 * The page table is freed between two faults of its pages: the walk makes another, and
 * faults again the pages that were in the first.
 */
static void file_table_freed(struct kunit *test)
{
	struct hmm_kunit_file *hf = hmm_kunit_file(test, TABLE);
	struct table table = {};
	struct hmm_kunit_mirror *mirror;

	hmm_kunit_needs_events(test);
	hmm_kunit_file_fill(test, hf, 0, TAG);
	table.addr = hmm_kunit_file_map(test, hf, MAP_SHARED);
	table.mm = current->mm;
	init_completion(&table.done);
	hf->at = 100;
	hf->times = 1;
	hf->ret = VM_FAULT_NOPAGE;
	hf->call = free_table;
	hf->data = &table;
	mirror = expect_faults(test, table.addr, TABLE, REQ_READ, 101 + TABLE, 2);
	expect_tags(test, mirror, TABLE, &none);
	if (!table.nr_freed)
		kunit_skip(test, "the page table was not freed");
}

/*
 * A handler that maps nothing for a long time: the caller of hmm_range_fault() gets
 * the lock back after a few faults.
 */
static void file_no_progress_locked(struct kunit *test)
{
	struct hmm_kunit_file *hf = hmm_kunit_file(test, TABLE);
	struct hmm_kunit_mirror *mirror;
	struct hmm_range *range;
	unsigned long addr;
	int ret;

	hmm_kunit_file_fill(test, hf, 0, TAG);
	addr = hmm_kunit_file_map(test, hf, MAP_SHARED);
	hf->at = 100;
	hf->times = 5000;
	hf->ret = VM_FAULT_NOPAGE;
	mirror = hmm_kunit_mirror(test, addr, TABLE, REQ_READ);
	range = &mirror->range;
	range->notifier_seq = mmu_interval_read_begin(range->notifier);
	mmap_read_lock(current->mm);
	ret = hmm_range_fault(range);
	mmap_read_unlock(current->mm);
	KUNIT_EXPECT_EQ(test, ret, -EBUSY);
	KUNIT_EXPECT_LE(test, atomic_read(&hf->nr_faults), TABLE + 20);
	KUNIT_EXPECT_FALSE(test, mmu_interval_read_retry(range->notifier,
							 range->notifier_seq));
}

/* hmm_range_fault_unlocked_timeout() goes on until the time is over. */
static void file_no_progress_timeout(struct kunit *test)
{
	struct hmm_kunit_file *hf = hmm_kunit_file(test, TABLE);
	struct hmm_kunit_mirror *mirror;
	unsigned long addr, start;

	hmm_kunit_file_fill(test, hf, 0, TAG);
	addr = hmm_kunit_file_map(test, hf, MAP_SHARED);
	hf->at = 100;
	hf->times = 2000;
	hf->ret = VM_FAULT_NOPAGE;
	hf->sleep_ms = 1;
	mirror = hmm_kunit_mirror(test, addr, TABLE, REQ_READ);
	start = jiffies;
	KUNIT_EXPECT_EQ(test, -EBUSY,
			hmm_range_fault_unlocked_timeout(&mirror->range, HZ / 10));
	KUNIT_EXPECT_TRUE(test, time_after_eq(jiffies, start + HZ / 10));
	KUNIT_EXPECT_TRUE(test, time_before(jiffies, start + HZ));
	hf->times = 0;
	KUNIT_EXPECT_EQ(test, 0,
			hmm_range_fault_unlocked_timeout(&mirror->range, HZ / 10));
	hmm_kunit_expect_mapped(test, mirror);
}

/* Killed, before the first fault or by one of them: there is no other. */
static const struct kills {
	const char *name;
	bool unlocked;
	unsigned int nr_faults;
} killed_params[] = {
	{ "locked", false, 0 }, { "locked_later", false, 101 },
	{ "unlocked", true, 0 }, { "unlocked_later", true, 101 },
};

KUNIT_ARRAY_PARAM_DESC(killed, killed_params, name);

static void killed(struct kunit *test)
{
	const struct kills *param = test->param_value;
	struct hmm_kunit_file *hf = hmm_kunit_file(test, TABLE);
	struct hmm_kunit_mirror *mirror;
	unsigned long addr;
	int ret;

	hmm_kunit_file_fill(test, hf, 0, TAG);
	addr = hmm_kunit_file_map(test, hf, MAP_SHARED);
	mirror = hmm_kunit_mirror(test, addr, TABLE, REQ_READ);
	if (param->nr_faults) {
		hf->at = 100;
		hf->times = 1;
		hf->kill = true;
	} else {
		hmm_kunit_kill(true);
	}
	ret = param->unlocked ?
		hmm_range_fault_unlocked_timeout(&mirror->range, HZ) :
		hmm_kunit_fault(mirror);
	hmm_kunit_kill(false);
	KUNIT_EXPECT_EQ(test, ret, -EINTR);
	KUNIT_EXPECT_EQ(test, atomic_read(&hf->nr_faults), param->nr_faults);
}

/* A handler that drops the mmap lock. */
static const struct drops {
	const char *name;
	vm_fault_t fault;
	/* So often the fault is told that it is repeated. */
	unsigned int nr_tried;
} file_drops_lock_params[] = {
	{ "retry", VM_FAULT_RETRY, 2 },
	{ "completed", VM_FAULT_NOPAGE | VM_FAULT_COMPLETED, 0 },
};

KUNIT_ARRAY_PARAM_DESC(file_drops_lock, file_drops_lock_params, name);

static void file_drops_lock(struct kunit *test)
{
	struct hmm_kunit_file *hf = hmm_kunit_file(test, TABLE);
	struct hmm_kunit_mirror *mirror;
	unsigned long addr;

	hmm_kunit_file_fill(test, hf, 0, TAG);
	addr = hmm_kunit_file_map(test, hf, MAP_SHARED);
	hf->at = 100;
	hf->times = 2;
	hf->ret = ((const struct drops *)test->param_value)->fault;
	hf->sleep_ms = 1;
	mirror = hmm_kunit_mirror(test, addr, TABLE, REQ_READ);
	KUNIT_ASSERT_EQ(test, hmm_range_fault_unlocked_timeout(&mirror->range, HZ), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&hf->nr_faults), TABLE + 2);
	KUNIT_EXPECT_EQ(test, hf->nr_tried,
			((const struct drops *)test->param_value)->nr_tried);
	KUNIT_EXPECT_EQ(test, hf->nr_tried_else, 0);
	hmm_kunit_expect_mapped(test, mirror);
	expect_tags(test, mirror, TABLE, &none);
}

/* An entry of the array that nobody stores again if the walk goes on behind it */
static void poison_entry(void *data)
{
	*(unsigned long *)data = HMM_KUNIT_POISON;
}

/*
 * Each fault drops the lock. The entries before it stay, and the walk does not look at
 * these pages again, unless the range is invalidated meanwhile.
 */
static void file_drops_lock_always(struct kunit *test)
{
	struct hmm_kunit_file *hf = hmm_kunit_file(test, 2 * TABLE);
	struct hmm_kunit_mirror *mirror;
	unsigned long addr;

	hmm_kunit_file_fill(test, hf, 0, TAG);
	addr = hmm_kunit_file_map(test, hf, MAP_SHARED);
	KUNIT_ASSERT_EQ(test, hmm_kunit_read(test, addr), TAG);
	mirror = hmm_kunit_mirror(test, addr, 2 * TABLE, REQ_READ);
	hf->call = poison_entry;
	hf->data = &mirror->range.hmm_pfns[0];
	hf->at = ULONG_MAX;
	hf->first = 1;
	hf->times = 2 * TABLE - 1;
	hf->ret = ((const struct drops *)test->param_value)->fault;
	KUNIT_ASSERT_EQ(test, 0,
			hmm_range_fault_unlocked_timeout(&mirror->range, 10 * HZ));
	KUNIT_EXPECT_EQ(test, mirror->range.hmm_pfns[0], HMM_KUNIT_POISON);
	KUNIT_EXPECT_EQ(test, atomic_read(&hf->nr_faults), 1 + 2 * (2 * TABLE - 1));

	/* Once more, with the page that was reported first unmapped. */
	unmap_mapping_range(hf->file->f_mapping, PAGE_SIZE, 0, 1);
	hf->first = 1;
	hf->times = 1;
	hf->invalidate = true;
	KUNIT_ASSERT_EQ(test, 0,
			hmm_range_fault_unlocked_timeout(&mirror->range, 10 * HZ));
	KUNIT_EXPECT_FALSE(test, mmu_interval_check_retry(mirror->range.notifier,
							  mirror->range.notifier_seq));
	hmm_kunit_expect_mapped(test, mirror);
	expect_tags(test, mirror, 2 * TABLE, &none);
}

/* That is progress, however long it takes; but not again and again for one page. */
static void file_drops_lock_timeout(struct kunit *test)
{
	struct hmm_kunit_file *hf = hmm_kunit_file(test, 10);
	unsigned long addr;
	struct hmm_kunit_mirror *mirror;

	hmm_kunit_file_fill(test, hf, 0, TAG);
	addr = hmm_kunit_file_map(test, hf, MAP_SHARED);
	mirror = hmm_kunit_mirror(test, addr, 10, REQ_READ);
	hf->ret = VM_FAULT_RETRY;
	hf->at = 1;
	hf->times = 50;
	hf->sleep_ms = 40;
	KUNIT_EXPECT_EQ(test, -EBUSY,
			hmm_range_fault_unlocked_timeout(&mirror->range, HZ / 5));
	KUNIT_EXPECT_GT(test, hf->times, 0);

	unmap_mapping_range(hf->file->f_mapping, 0, 0, 1);
	hf->at = ULONG_MAX;
	hf->first = 0;
	hf->times = 10;
	hf->sleep_ms = 300;
	KUNIT_EXPECT_EQ(test, 0,
			hmm_range_fault_unlocked_timeout(&mirror->range, HZ / 5));
	KUNIT_EXPECT_EQ(test, hf->times, 0);
	hmm_kunit_expect_mapped(test, mirror);
	expect_tags(test, mirror, 10, &none);
}

#ifdef CONFIG_HMM_KUNIT_HAS_WAIT
/* A deadline that passes does not end faults that bring one page after the other. */
static void file_drops_lock_deadline(struct kunit *test)
{
	struct hmm_kunit_file *hf = hmm_kunit_file(test, 10);
	unsigned long addr, begun = jiffies;
	struct hmm_kunit_mirror *mirror;

	hmm_kunit_file_fill(test, hf, 0, TAG);
	addr = hmm_kunit_file_map(test, hf, MAP_SHARED);
	mirror = hmm_kunit_mirror(test, addr, 10, REQ_READ);
	hf->ret = VM_FAULT_RETRY;
	hf->at = ULONG_MAX;
	hf->times = 10;
	hf->sleep_ms = 50;
	KUNIT_EXPECT_EQ(test, 0,
			hmm_range_fault_unlocked(&mirror->range, hmm_deadline(HZ / 5)));
	KUNIT_EXPECT_GT(test, jiffies - begun, HZ / 5);
	KUNIT_EXPECT_EQ(test, 0, hf->times);
	KUNIT_EXPECT_EQ(test, 20, atomic_read(&hf->nr_faults));
	hmm_kunit_expect_mapped(test, mirror);
	expect_tags(test, mirror, 10, &none);
}

/* An event is not waited for any longer. Without a deadline it is. */
static void event_deadline(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, 1), begun = jiffies;
	struct hmm_kunit_mirror *mirror = hmm_kunit_mirror(test, addr, 1, REQ_READ);
	struct mmu_notifier_range event;

	hmm_kunit_event_begin(test, &event, current->mm, addr, 1);
	KUNIT_EXPECT_EQ(test, -EBUSY,
			hmm_range_fault_unlocked(&mirror->range, hmm_deadline(HZ / 10)));
	KUNIT_EXPECT_GE(test, jiffies - begun, HZ / 10);
	/* It is over. */
	KUNIT_EXPECT_EQ(test, -EBUSY,
			hmm_range_fault_unlocked(&mirror->range, hmm_deadline(1) - 2));
	hmm_kunit_event_end(&event);
	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault_unlocked(&mirror->range, 0));
	hmm_kunit_expect_mapped(test, mirror);
}
#endif

struct late_end {
	struct mmu_notifier_range event;
	struct completion done;
};

static int end_event(void *data)
{
	struct late_end *end = data;

	msleep(2000);
	hmm_kunit_event_end(&end->event);
	complete(&end->done);
	return 0;
}

/* An event that takes long is not waited for longer than that. */
static void event_timeout(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, 1);
	struct hmm_kunit_mirror *mirror = hmm_kunit_mirror(test, addr, 1, REQ_READ);
	struct late_end end;
	unsigned long begun = jiffies;

	init_completion(&end.done);
	hmm_kunit_event_begin(test, &end.event, current->mm, addr, 1);
	KUNIT_ASSERT_FALSE(test, IS_ERR(kthread_run(end_event, &end, "end_event")));
	KUNIT_EXPECT_EQ(test, -EBUSY,
			hmm_range_fault_unlocked_timeout(&mirror->range, HZ / 5));
	KUNIT_EXPECT_GE(test, jiffies - begun, HZ / 5);
	KUNIT_EXPECT_FALSE(test, completion_done(&end.done));
	wait_for_completion(&end.done);
	KUNIT_EXPECT_EQ(test, 0,
			hmm_range_fault_unlocked_timeout(&mirror->range, HZ / 5));
}

/* One call over VMAs of several kinds, which end inside page tables. */
static void several_vmas(struct kunit *test)
{
	struct hmm_kunit_file *hf = hmm_kunit_file(test, TABLE);
	unsigned long addr = hmm_kunit_anon(test, 3 * TABLE);
	struct hmm_kunit_mirror *mirror;

	hmm_kunit_file_fill(test, hf, 0, TAG);
	KUNIT_ASSERT_EQ(test, addr + 7 * PAGE_SIZE,
			kunit_vm_mmap(test, hf->file, addr + 7 * PAGE_SIZE, PMD_SIZE,
				      PROT_READ | PROT_WRITE,
				      MAP_FIXED | MAP_SHARED, 0));
	mirror = expect_faults(test, addr, 3 * TABLE, REQ_WRITE, 3 * TABLE, 1);
	for (unsigned long i = 0; i < 3 * TABLE; i++)
		hmm_kunit_expect_tag(test, mirror, i,
				     i >= 7 && i < 7 + TABLE ? TAG + i - 7 : 0);
}

/*
 * Each allocation of a fault fails once: that is reported, nothing is lost, and
 * the next call gets the page.
 */
static const struct injected {
	const char *name;
	bool shared;
	/* At least: a page for each fault, and a table unless the pages are shared */
	unsigned int nr_allocations;
} out_of_memory_params[] = {
	{ "cold", false, 1 + 3 },
	{ "cow", true, 3 },
};

KUNIT_ARRAY_PARAM_DESC(out_of_memory, out_of_memory_params, name);

static void out_of_memory(struct kunit *test)
{
	const struct injected *param = test->param_value;
	struct hmm_kunit_mirror *mirror;
	unsigned int nth, failed = 0;
	bool injected;
	int ret;

	hmm_kunit_inject(test);
	for (nth = 1; ; nth++) {
		unsigned long addr = hmm_kunit_anon(test, 3);

		if (param->shared) {
			fill(test, addr, 3, &none);
			hmm_kunit_fork(test);
		}
		mirror = hmm_kunit_mirror(test, addr, 3, REQ_WRITE);
		hmm_kunit_fail_nth(nth);
		ret = hmm_kunit_fault(mirror);
		injected = hmm_kunit_has_failed();
		if (ret) {
			KUNIT_EXPECT_TRUE(test, injected);
			KUNIT_EXPECT_EQ(test, ret, -ENOMEM);
			failed++;
			ret = hmm_kunit_fault(mirror);
		}
		KUNIT_ASSERT_EQ(test, ret, 0);
		hmm_kunit_expect_mapped(test, mirror);
		expect_tags(test, mirror, 3, param->shared ? &none : &all);
		if (!injected)
			break;
	}
	KUNIT_EXPECT_GE(test, failed, param->nr_allocations);
}

static struct kunit_case hmm_fault_cases[] = {
	KUNIT_CASE(present),
	KUNIT_CASE_PARAM(holes, holes_gen_params),
	KUNIT_CASE(cold_write),
	KUNIT_CASE(cold_unaligned),
	KUNIT_CASE(cold_read),
	KUNIT_CASE(snapshot),
#ifndef CONFIG_HMM_KUNIT_HAS_FLAGS
	KUNIT_CASE(requested_pages),
#endif
	KUNIT_CASE(guard_page),
	KUNIT_CASE(no_access),
	KUNIT_CASE(cow_one),
	KUNIT_CASE(cow_all),
	KUNIT_CASE(cow_between_present),
	KUNIT_CASE(cow_between_holes),
	KUNIT_CASE(cow_unlocked),
	KUNIT_CASE(forked),
	KUNIT_CASE(thp_cold),
	KUNIT_CASE(thp_inside),
	KUNIT_CASE(thp_after_order0),
	KUNIT_CASE(thp_zero),
	KUNIT_CASE(thp_forked),
	KUNIT_CASE_PARAM(mthp, mthp_gen_params),
#ifdef CONFIG_DEVICE_PRIVATE
	KUNIT_CASE_PARAM(back_from_device, back_gen_params),
#endif
	KUNIT_CASE(hugetlb_cold),
	KUNIT_CASE_PARAM(file_by_page, file_by_page_gen_params),
	KUNIT_CASE(file_fault_around),
	KUNIT_CASE_PARAM(file_fault_around_later, file_fault_around_later_gen_params),
	KUNIT_CASE(file_two_faults),
	KUNIT_CASE(file_private),
	KUNIT_CASE_PARAM(file_fails, file_fails_gen_params),
	KUNIT_CASE(file_no_progress),
	KUNIT_CASE(file_no_progress_invalidated),
	KUNIT_CASE(file_no_progress_locked),
	KUNIT_CASE(file_no_progress_timeout),
	KUNIT_CASE(file_drops_lock_timeout),
	KUNIT_CASE(event_timeout),
#ifdef CONFIG_HMM_KUNIT_HAS_WAIT
	KUNIT_CASE(file_drops_lock_deadline),
	KUNIT_CASE(event_deadline),
#endif
	KUNIT_CASE_PARAM(killed, killed_gen_params),
	KUNIT_CASE_PARAM(file_invalidated, file_invalidated_gen_params),
	KUNIT_CASE(file_table_freed),
	KUNIT_CASE_PARAM(file_drops_lock, file_drops_lock_gen_params),
	KUNIT_CASE_PARAM(file_drops_lock_always, file_drops_lock_gen_params),
	KUNIT_CASE(several_vmas),
	KUNIT_CASE_PARAM(out_of_memory, out_of_memory_gen_params),
	{}
};

static struct kunit_suite hmm_fault_suite = {
	.name = "hmm_fault",
	.test_cases = hmm_fault_cases,
};

kunit_test_suite(hmm_fault_suite);
