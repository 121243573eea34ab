// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suite hmm_fault: hmm_range_fault() faults what is missing, once per mapping.
 *
 * Each case counts faults while it mirrors memory whose page tables it knows,
 * then compares the array with the page tables and the pages with what was
 * written to them. "Rounds" are calls of hmm_range_fault() until its result is
 * valid: breaking COW invalidates the range that is being faulted.
 */
#include <linux/mman.h>
#include <linux/slab.h>

#include "fixture.h"

#define TABLE HMM_KUNIT_TABLE
#define TAG 0x686d6d0000000000ull

enum {
	REQ_READ = HMM_PFN_REQ_FAULT,
	REQ_WRITE = HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE,
};

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
	hmm_kunit_expect_mapped(test, mirror);
	return mirror;
}

/* An order-0 range where page i was written, with TAG + i, if present(i). */
#define fill(test, addr, npages, i, present) do {				\
	for (unsigned long i = 0; i < (npages); i++)				\
		if (present)							\
			hmm_kunit_write(test, (addr) + i * PAGE_SIZE, TAG + i);	\
} while (0)

#define expect_tags(test, mirror, npages, i, tag) do {				\
	for (unsigned long i = 0; i < (npages); i++)				\
		hmm_kunit_expect_tag(test, mirror, i, tag);			\
} while (0)

static void present(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, TABLE);
	struct hmm_kunit_mirror *mirror;

	fill(test, addr, TABLE, i, true);
	mirror = expect_faults(test, addr, TABLE, REQ_WRITE, 0, 1);
	expect_tags(test, mirror, TABLE, i, TAG + i);
}

static const unsigned long one_hole_params[] = { 0, 1, TABLE / 2, TABLE - 1 };

static void index_desc(const unsigned long *index, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%lu", *index);
}
KUNIT_ARRAY_PARAM(one_hole, one_hole_params, index_desc);

static void one_hole(struct kunit *test)
{
	unsigned long hole = *(const unsigned long *)test->param_value;
	unsigned long addr = hmm_kunit_anon(test, TABLE);
	struct hmm_kunit_mirror *mirror;

	fill(test, addr, TABLE, i, i != hole);
	mirror = expect_faults(test, addr, TABLE, REQ_WRITE, 1, 1);
	expect_tags(test, mirror, TABLE, i, i == hole ? 0 : TAG + i);
}

/* Every @period pages the first @nr_holes are missing. */
static const struct holes {
	unsigned int nr_holes;
	unsigned int period;
} mixed_holes_params[] = {
	{ 1, 2 }, { 1, 3 }, { 2, 3 }, { 1, 64 }, { 63, 64 }, { 33, 100 }, { 300, 400 },
};

static void holes_desc(const struct holes *holes, char *desc)
{
	snprintf(desc, KUNIT_PARAM_DESC_SIZE, "%u_of_%u", holes->nr_holes,
		 holes->period);
}
KUNIT_ARRAY_PARAM(mixed_holes, mixed_holes_params, holes_desc);

static void mixed_holes(struct kunit *test)
{
	const struct holes *holes = test->param_value;
	const unsigned long npages = 3 * TABLE;
	unsigned long addr = hmm_kunit_anon(test, npages);
	struct hmm_kunit_mirror *mirror;
	unsigned long nr_holes = 0;

	fill(test, addr, npages, i, i % holes->period >= holes->nr_holes);
	for (unsigned long i = 0; i < npages; i++)
		nr_holes += i % holes->period < holes->nr_holes;

	mirror = expect_faults(test, addr, npages, REQ_WRITE, nr_holes, 1);
	expect_tags(test, mirror, npages, i,
		    i % holes->period < holes->nr_holes ? 0 : TAG + i);
}

/* Order-0 memory costs a fault a page and no more, and no extra round. */
static void cold_write(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, 4 * TABLE);
	struct hmm_kunit_mirror *mirror;

	mirror = expect_faults(test, addr, 4 * TABLE, REQ_WRITE, 4 * TABLE, 1);
	expect_tags(test, mirror, 4 * TABLE, i, 0);
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
	expect_tags(test, mirror, 2 * TABLE, i, 0);
}

/* A range that asks for nothing is left as it is. */
static void snapshot(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, TABLE);
	struct hmm_kunit_mirror *mirror;
	struct hmm_kunit_leaf leaf;
	unsigned long before;

	fill(test, addr, TABLE, i, i % 2);
	mirror = hmm_kunit_mirror(test, addr, TABLE, 0);
	before = hmm_kunit_nr_faults();
	KUNIT_ASSERT_EQ(test, hmm_kunit_fault(mirror), 0);
	KUNIT_EXPECT_EQ(test, hmm_kunit_nr_faults(), before);
	for (unsigned long i = 0; i < TABLE; i++) {
		if (i % 2) {
			hmm_kunit_expect_tag(test, mirror, i, TAG + i);
			continue;
		}
		KUNIT_EXPECT_EQ(test, mirror->range.hmm_pfns[i], 0);
		KUNIT_EXPECT_FALSE(test, hmm_kunit_leaf(addr + i * PAGE_SIZE, &leaf));
	}
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
	unsigned long addr = hmm_kunit_anon(test, TABLE);
	struct hmm_kunit_mirror *mirror;

	read_pages(test, addr + 3 * PAGE_SIZE, 1, 1);
	fill(test, addr, TABLE, i, i != 3);
	mirror = expect_faults(test, addr, TABLE, REQ_WRITE, 1, 2);
	expect_tags(test, mirror, TABLE, i, i == 3 ? 0 : TAG + i);
}

/* However much COW is broken, the second round finds the range whole. */
static void cow_all(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, 4 * TABLE);
	struct hmm_kunit_mirror *mirror;

	read_pages(test, addr, 4 * TABLE, 1);
	mirror = expect_faults(test, addr, 4 * TABLE, REQ_WRITE, 4 * TABLE, 2);
	expect_tags(test, mirror, 4 * TABLE, i, 0);
}

static void cow_between_present(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, 2 * TABLE);
	struct hmm_kunit_mirror *mirror;

	read_pages(test, addr, 2 * TABLE, 2);
	fill(test, addr, 2 * TABLE, i, i % 2);
	mirror = expect_faults(test, addr, 2 * TABLE, REQ_WRITE, TABLE, 2);
	expect_tags(test, mirror, 2 * TABLE, i, i % 2 ? TAG + i : 0);
}

static void cow_between_holes(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, 2 * TABLE);

	read_pages(test, addr, 2 * TABLE, 2);
	expect_faults(test, addr, 2 * TABLE, REQ_WRITE, 2 * TABLE, 2);
}

/* After fork() every page is shared with another mm. */
static void forked(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, 2 * TABLE);
	struct hmm_kunit_mirror *mirror;

	fill(test, addr, 2 * TABLE, i, true);
	hmm_kunit_fork(test);
	mirror = expect_faults(test, addr, 2 * TABLE, REQ_READ, 0, 1);
	KUNIT_EXPECT_FALSE(test, mirror->range.hmm_pfns[0] & HMM_PFN_WRITE);
	mirror = expect_faults(test, addr, 2 * TABLE, REQ_WRITE, 2 * TABLE, 2);
	expect_tags(test, mirror, 2 * TABLE, i, TAG + i);
}

static void thp_cold(struct kunit *test)
{
	unsigned long addr = hmm_kunit_thp(test, 4 * TABLE);
	struct hmm_kunit_mirror *mirror;

	mirror = expect_faults(test, addr, 4 * TABLE, REQ_WRITE, 4, 1);
	KUNIT_EXPECT_EQ(test, hmm_pfn_to_map_order(mirror->range.hmm_pfns[0]),
			PMD_SHIFT - PAGE_SHIFT);
	expect_tags(test, mirror, 4 * TABLE, i, 0);
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
	if (!IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE))
		kunit_skip(test, "no transparent huge pages");
	hmm_kunit_madvise(test, addr, 3 * TABLE, MADV_HUGEPAGE);
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

	fill(test, addr, 2 * TABLE, i, true);
	KUNIT_ASSERT_TRUE(test, hmm_kunit_leaf(addr, &leaf));
	KUNIT_ASSERT_EQ(test, leaf.order, PMD_SHIFT - PAGE_SHIFT);
	hmm_kunit_fork(test);
	mirror = expect_faults(test, addr, 2 * TABLE, REQ_WRITE, 2 * TABLE, 2);
	KUNIT_EXPECT_EQ(test, hmm_pfn_to_map_order(mirror->range.hmm_pfns[0]), 0);
	expect_tags(test, mirror, 2 * TABLE, i, TAG + i);
}

static void hugetlb_cold(struct kunit *test)
{
	unsigned long addr = hmm_kunit_hugetlb(test, 4 * TABLE);
	struct hmm_kunit_mirror *mirror;

	mirror = expect_faults(test, addr, 4 * TABLE, REQ_WRITE, 4, 1);
	expect_tags(test, mirror, 4 * TABLE, i, 0);
}

/* A file without map_pages maps one page a fault. */
static void file_by_page(struct kunit *test)
{
	struct hmm_kunit_file *hf = hmm_kunit_file(test, TABLE);
	struct hmm_kunit_mirror *mirror;
	unsigned long addr;

	hmm_kunit_file_fill(test, hf, TAG);
	addr = hmm_kunit_file_map(test, hf, MAP_SHARED);
	mirror = expect_faults(test, addr, TABLE, REQ_READ, TABLE, 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&hf->nr_faults), TABLE);
	expect_tags(test, mirror, TABLE, i, TAG + i);
}

/* Fault-around maps 16 pages of the page cache, and the walk finds them. */
static void file_fault_around(struct kunit *test)
{
	struct hmm_kunit_file *hf = hmm_kunit_file(test, 2 * TABLE);
	struct hmm_kunit_mirror *mirror;
	unsigned long addr;

	hf->map_pages = true;
	hmm_kunit_file_fill(test, hf, TAG);
	addr = hmm_kunit_file_map(test, hf, MAP_SHARED);
	mirror = expect_faults(test, addr, 2 * TABLE, REQ_READ,
			       2 * TABLE / (SZ_64K / PAGE_SIZE), 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&hf->nr_faults), 0);
	expect_tags(test, mirror, 2 * TABLE, i, TAG + i);
}

/* A private mapping of a file gets copies, and the file keeps its pages. */
static void file_private(struct kunit *test)
{
	struct hmm_kunit_file *hf = hmm_kunit_file(test, TABLE);
	struct hmm_kunit_mirror *mirror;
	unsigned long addr;

	hmm_kunit_file_fill(test, hf, TAG);
	addr = hmm_kunit_file_map(test, hf, MAP_PRIVATE);
	mirror = expect_faults(test, addr, TABLE, REQ_WRITE, TABLE, 1);
	expect_tags(test, mirror, TABLE, i, TAG + i);
	KUNIT_EXPECT_EQ(test, atomic_read(&hf->nr_faults), TABLE);
}

/* What the handler says of a page in the middle is what the caller gets. */
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

	hmm_kunit_file_fill(test, hf, TAG);
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

	hmm_kunit_file_fill(test, hf, TAG);
	addr = hmm_kunit_file_map(test, hf, MAP_SHARED);
	hf->at = 100;
	hf->times = 3;
	hf->ret = VM_FAULT_NOPAGE;
	mirror = expect_faults(test, addr, TABLE, REQ_READ, TABLE + 3, 1);
	expect_tags(test, mirror, TABLE, i, TAG + i);
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

	hmm_kunit_file_fill(test, hf, TAG);
	addr = hmm_kunit_file_map(test, hf, MAP_SHARED);
	hf->at = 0;
	hf->times = HMM_KUNIT_MAX_ROUNDS;
	hf->ret = VM_FAULT_NOPAGE;
	hf->invalidate = true;
	fill(test, addr, TABLE, i, i != hf->at);
	mirror = hmm_kunit_mirror(test, addr, TABLE, REQ_READ);
	KUNIT_EXPECT_EQ(test, hmm_kunit_fault(mirror), -EBUSY);
	KUNIT_EXPECT_EQ(test, mirror->nr_rounds, HMM_KUNIT_MAX_ROUNDS);
}

/* An invalidation elsewhere in the range while it is faulted is not missed. */
static void file_invalidated(struct kunit *test)
{
	struct hmm_kunit_file *hf = hmm_kunit_file(test, 2 * TABLE);
	struct hmm_kunit_mirror *mirror;
	unsigned long addr;

	hmm_kunit_file_fill(test, hf, TAG);
	addr = hmm_kunit_file_map(test, hf, MAP_SHARED);
	hf->at = TABLE + 10;
	hf->times = 1;
	hf->invalidate = true;
	mirror = expect_faults(test, addr, 2 * TABLE, REQ_READ, 2 * TABLE + 1, 2);
	expect_tags(test, mirror, 2 * TABLE, i, TAG + i);
}

/* A handler that drops the mmap lock. */
static const struct drops {
	const char *name;
	vm_fault_t fault;
} file_drops_lock_params[] = {
	{ "retry", VM_FAULT_RETRY },
	{ "completed", VM_FAULT_NOPAGE | VM_FAULT_COMPLETED },
};
KUNIT_ARRAY_PARAM_DESC(file_drops_lock, file_drops_lock_params, name);

static void file_drops_lock(struct kunit *test)
{
	struct hmm_kunit_file *hf = hmm_kunit_file(test, TABLE);
	struct hmm_kunit_mirror *mirror;
	unsigned long addr;

	hmm_kunit_file_fill(test, hf, TAG);
	addr = hmm_kunit_file_map(test, hf, MAP_SHARED);
	hf->at = 100;
	hf->times = 2;
	hf->ret = ((const struct drops *)test->param_value)->fault;
	hf->sleep_ms = 1;
	mirror = hmm_kunit_mirror(test, addr, TABLE, REQ_READ);
	KUNIT_ASSERT_EQ(test, hmm_range_fault_unlocked_timeout(&mirror->range, HZ), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&hf->nr_faults), TABLE + 2);
	hmm_kunit_expect_mapped(test, mirror);
	expect_tags(test, mirror, TABLE, i, TAG + i);
}

/* One call over VMAs of several kinds. */
static void several_vmas(struct kunit *test)
{
	struct hmm_kunit_file *hf = hmm_kunit_file(test, TABLE);
	unsigned long addr = hmm_kunit_anon(test, 3 * TABLE);
	struct hmm_kunit_mirror *mirror;

	hmm_kunit_file_fill(test, hf, TAG);
	KUNIT_ASSERT_EQ(test, addr + PMD_SIZE,
			kunit_vm_mmap(test, hf->file, addr + PMD_SIZE, PMD_SIZE,
				      PROT_READ | PROT_WRITE,
				      MAP_FIXED | MAP_SHARED, 0));
	mirror = expect_faults(test, addr, 3 * TABLE, REQ_WRITE, 3 * TABLE, 1);
	expect_tags(test, mirror, 3 * TABLE, i,
		    i / TABLE == 1 ? TAG + i - TABLE : 0);
}

static struct kunit_case hmm_fault_cases[] = {
	KUNIT_CASE(present),
	KUNIT_CASE_PARAM(one_hole, one_hole_gen_params),
	KUNIT_CASE_PARAM(mixed_holes, mixed_holes_gen_params),
	KUNIT_CASE(cold_write),
	KUNIT_CASE(cold_unaligned),
	KUNIT_CASE(cold_read),
	KUNIT_CASE(snapshot),
	KUNIT_CASE(cow_one),
	KUNIT_CASE(cow_all),
	KUNIT_CASE(cow_between_present),
	KUNIT_CASE(cow_between_holes),
	KUNIT_CASE(forked),
	KUNIT_CASE(thp_cold),
	KUNIT_CASE(thp_inside),
	KUNIT_CASE(thp_after_order0),
	KUNIT_CASE(thp_zero),
	KUNIT_CASE(thp_forked),
	KUNIT_CASE(hugetlb_cold),
	KUNIT_CASE(file_by_page),
	KUNIT_CASE(file_fault_around),
	KUNIT_CASE(file_private),
	KUNIT_CASE_PARAM(file_fails, file_fails_gen_params),
	KUNIT_CASE(file_no_progress),
	KUNIT_CASE(file_no_progress_invalidated),
	KUNIT_CASE(file_invalidated),
	KUNIT_CASE_PARAM(file_drops_lock, file_drops_lock_gen_params),
	KUNIT_CASE(several_vmas),
	{}
};

static struct kunit_suite hmm_fault_suite = {
	.name = "hmm_fault",
	.test_cases = hmm_fault_cases,
};
kunit_test_suite(hmm_fault_suite);
