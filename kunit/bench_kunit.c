// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suite hmm_bench: what hmm_range_fault() costs.
 *
 * Each case prints one line, "bench: WHAT NANOSECONDS". They mean something
 * where virtual time counts instructions, one a nanosecond, as it does under
 * scripts/bench; elsewhere the suite only shows that it runs.
 */
#include <linux/ktime.h>
#include <linux/mman.h>

#include "fixture.h"

#define NPAGES (32 * HMM_KUNIT_TABLE)

static u64 timed(struct kunit *test, struct hmm_kunit_mirror *mirror)
{
	u64 start = ktime_get_ns();
	int ret = hmm_kunit_fault(mirror);
	u64 end = ktime_get_ns();

	KUNIT_ASSERT_EQ(test, ret, 0);
	return end - start;
}

/* A cold write fault of every page, then a snapshot, in nanoseconds a page. */
static void cold_and_snapshot(struct kunit *test, const char *what,
			      unsigned long addr)
{
	struct hmm_kunit_mirror *mirror;
	u64 cold, snapshot;

	mirror = hmm_kunit_mirror(test, addr, NPAGES,
				  HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE);
	cold = timed(test, mirror);
	hmm_kunit_expect_mapped(test, mirror);
	mirror->range.default_flags = 0;
	snapshot = timed(test, mirror);
	hmm_kunit_expect_mapped(test, mirror);

	kunit_info(test, "bench: %s-cold-page %llu.%02llu", what,
		   cold / NPAGES, cold % NPAGES * 100 / NPAGES);
	kunit_info(test, "bench: %s-snapshot-page %llu.%02llu", what,
		   snapshot / NPAGES, snapshot % NPAGES * 100 / NPAGES);
}

static void order0(struct kunit *test)
{
	cold_and_snapshot(test, "order0", hmm_kunit_anon(test, NPAGES));
}

static void thp(struct kunit *test)
{
	cold_and_snapshot(test, "thp", hmm_kunit_thp(test, NPAGES));
}

static void hugetlb(struct kunit *test)
{
	cold_and_snapshot(test, "hugetlb", hmm_kunit_hugetlb(test, NPAGES));
}

/* All of a page table but one page is mapped. */
static void hole(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, HMM_KUNIT_TABLE);
	struct hmm_kunit_mirror *mirror;

	for (unsigned long i = 1; i < HMM_KUNIT_TABLE; i++)
		hmm_kunit_write(test, addr + i * PAGE_SIZE, i);
	mirror = hmm_kunit_mirror(test, addr, HMM_KUNIT_TABLE,
				  HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE);
	kunit_info(test, "bench: hole-call %llu", timed(test, mirror));
	hmm_kunit_expect_mapped(test, mirror);
}

static struct kunit_case hmm_bench_cases[] = {
	KUNIT_CASE(order0),
	KUNIT_CASE(thp),
	KUNIT_CASE(hugetlb),
	KUNIT_CASE(hole),
	{}
};

static struct kunit_suite hmm_bench_suite = {
	.name = "hmm_bench",
	.test_cases = hmm_bench_cases,
};
kunit_test_suite(hmm_bench_suite);
