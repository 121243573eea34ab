// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suite hmm_bench: what hmm_range_fault() costs.
 *
 * Each case prints lines "bench: WHAT NANOSECONDS", for each page of the range.
 * They mean something where virtual time counts instructions, one a nanosecond,
 * as it does under scripts/bench; elsewhere the suite only shows that it runs.
 */
#include <linux/delay.h>
#include <linux/ktime.h>
#include <linux/math64.h>

#include "fixture.h"

#define NPAGES (32 * HMM_KUNIT_TABLE)

static u64 timed(struct kunit *test, struct hmm_kunit_mirror *mirror)
{
	u64 start, end;
	int ret;

	/* What went before is written to the console, and freed, by others. */
	msleep(200);

	start = ktime_get_ns();
	ret = hmm_kunit_fault(mirror);
	end = ktime_get_ns();
	KUNIT_ASSERT_EQ(test, ret, 0);
	return end - start;
}

static void report(struct kunit *test, const char *what, u64 ns,
		   unsigned int npages)
{
	u64 hundredths = div_u64(100 * ns, npages);
	u32 rest;

	hundredths = div_u64_rem(hundredths, 100, &rest);
	kunit_info(test, "bench: %s: %llu.%02u", what, hundredths, rest);
}

/* Fault memory that is as the case has left it. */
static struct hmm_kunit_mirror *fault(struct kunit *test, const char *what,
				      unsigned long addr, unsigned long npages,
				      unsigned long flags)
{
	struct hmm_kunit_mirror *mirror = hmm_kunit_mirror(test, addr, npages, flags);

	report(test, what, timed(test, mirror), npages);
	hmm_kunit_expect_mapped(test, mirror);
	return mirror;
}

static void snapshot(struct kunit *test, const char *what,
		     struct hmm_kunit_mirror *mirror)
{
	mirror->range.default_flags = 0;
	report(test, what, timed(test, mirror), NPAGES);
	hmm_kunit_expect_mapped(test, mirror);
}

static void cold_order0(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, NPAGES);

	snapshot(test, "order-0, nothing missing",
		 fault(test, "order-0, cold write", addr, NPAGES, REQ_WRITE));
}

static void cold_order0_read(struct kunit *test)
{
	fault(test, "order-0, cold read", hmm_kunit_anon(test, NPAGES), NPAGES,
	      REQ_READ);
}

static void cold_thp(struct kunit *test)
{
	unsigned long addr = hmm_kunit_thp(test, NPAGES);

	snapshot(test, "2M THP, nothing missing",
		 fault(test, "2M THP, cold write", addr, NPAGES, REQ_WRITE));
}

static void cold_hugetlb(struct kunit *test)
{
	unsigned long addr = hmm_kunit_hugetlb(test, NPAGES);

	snapshot(test, "2M hugetlb, nothing missing",
		 fault(test, "2M hugetlb, cold write", addr, NPAGES, REQ_WRITE));
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

static struct kunit_case hmm_bench_cases[] = {
	KUNIT_CASE(cold_order0),
	KUNIT_CASE(cold_order0_read),
	KUNIT_CASE(cold_thp),
	KUNIT_CASE(cold_hugetlb),
	KUNIT_CASE(break_cow),
	KUNIT_CASE(holes_1_of_2),
	KUNIT_CASE(holes_2_of_3),
	KUNIT_CASE(one_hole),
	{}
};

static struct kunit_suite hmm_bench_suite = {
	.name = "hmm_bench",
	.test_cases = hmm_bench_cases,
};

kunit_test_suite(hmm_bench_suite);
