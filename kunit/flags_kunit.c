// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suite hmm_flags: a range requests faults by its flags. Its array is output.
 */
#include <linux/hmm-dma.h>
#include <linux/mman.h>

#include "fixture.h"

#define NPAGES 8

/*
 * The array may hold anything before the call. Every second page is there, and one half
 * of these is read-only: bits in the array do not have them faulted.
 */
static const struct fill {
	const char *name;
	unsigned long entry;
	unsigned long flags;
} fills[] = {
	{ "ones_look", ~0ul, 0 },
	{ "ones_read", ~0ul, REQ_READ },
	{ "ones_write", ~0ul, REQ_WRITE },
	{ "zeros_look", 0, 0 },
	{ "zeros_read", 0, REQ_READ },
	{ "zeros_write", 0, REQ_WRITE },
};

KUNIT_ARRAY_PARAM_DESC(fill, fills, name);

static void output_only(struct kunit *test)
{
	const struct fill *fill = test->param_value;
	unsigned long addr = hmm_kunit_anon(test, NPAGES), before;
	struct hmm_kunit_mirror *mirror;
	struct hmm_kunit_leaf leaf;
	unsigned int nr_faults = 0;

	for (unsigned long i = 0; i < NPAGES; i += 2)
		if (i % 4)
			hmm_kunit_read(test, addr + i * PAGE_SIZE);
		else
			hmm_kunit_write(test, addr + i * PAGE_SIZE, i);
	mirror = hmm_kunit_mirror(test, addr, NPAGES, fill->flags);
	for (unsigned long i = 0; i < NPAGES; i++) {
		mirror->range.hmm_pfns[i] = fill->entry;
		if (fill->flags == REQ_WRITE ? i % 4 : fill->flags && i % 2)
			nr_faults++;
	}
	before = hmm_kunit_nr_faults();
	KUNIT_EXPECT_EQ(test, 0, hmm_kunit_fault(mirror));
	KUNIT_EXPECT_EQ(test, hmm_kunit_nr_faults() - before, nr_faults);
	for (unsigned long i = 0; i < NPAGES; i++) {
		bool there = hmm_kunit_leaf(addr + i * PAGE_SIZE, &leaf);

		KUNIT_EXPECT_EQ_MSG(test, mirror->range.hmm_pfns[i],
				    there ? hmm_kunit_leaf_entry(&leaf) : 0, "page %lu", i);
	}
}

#ifdef CONFIG_HMM_KUNIT_HAS_FLAGS

enum { REQ_TRY_WRITE = HMM_PFN_REQ_FAULT | HMM_PFN_REQ_TRY_WRITE };

static int fault_unlocked(struct hmm_kunit_mirror *mirror)
{
	return hmm_range_fault_unlocked_timeout(&mirror->range, 0);
}

static const struct call {
	const char *name;
	int (*fault)(struct hmm_kunit_mirror *mirror);
} calls[] = {
	{ "locked", hmm_kunit_fault },
	{ "unlocked", fault_unlocked },
};

KUNIT_ARRAY_PARAM_DESC(call, calls, name);

/* Memory of NPAGES pages that may be written to, or not, at @addr. */
static void map_at(struct kunit *test, unsigned long addr, struct hmm_kunit_file *hf,
		   unsigned long prot)
{
	unsigned long flags = MAP_FIXED | (hf ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);

	KUNIT_ASSERT_EQ(test, addr, kunit_vm_mmap(test, hf ? hf->file : NULL, addr,
						  NPAGES * PAGE_SIZE, prot, flags, 0));
}

/* Pages of each VMA become writable if it allows that, also if there is but one VMA. */
static void try_write(struct kunit *test)
{
	const struct call *call = test->param_value;
	unsigned long addr = hmm_kunit_anon(test, 5 * NPAGES);
	struct hmm_kunit_file *hf = hmm_kunit_file(test, NPAGES);
	static const bool write[] = { true, false, true, false, true };
	struct hmm_kunit_mirror *mirror;

	hmm_kunit_file_fill(test, hf, 0, 1);
	map_at(test, addr + 1 * NPAGES * PAGE_SIZE, NULL, PROT_READ);
	map_at(test, addr + 2 * NPAGES * PAGE_SIZE, hf, PROT_READ | PROT_WRITE);
	map_at(test, addr + 3 * NPAGES * PAGE_SIZE, hf, PROT_READ);
	for (unsigned int round = 0; round < 2; round++) {
		mirror = hmm_kunit_mirror(test, addr, 5 * NPAGES, REQ_TRY_WRITE);
		KUNIT_ASSERT_EQ(test, 0, call->fault(mirror));
		hmm_kunit_expect_mapped(test, mirror);
		for (unsigned long i = 0; i < 5 * NPAGES; i++)
			KUNIT_EXPECT_EQ_MSG(test, write[i / NPAGES],
					    !!(mirror->range.hmm_pfns[i] & HMM_PFN_WRITE),
					    "page %lu", i);
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(write); i++) {
		mirror = hmm_kunit_mirror(test, addr + i * NPAGES * PAGE_SIZE, NPAGES,
					  REQ_TRY_WRITE);
		KUNIT_ASSERT_EQ(test, 0, call->fault(mirror));
		KUNIT_EXPECT_EQ(test, write[i],
				!!(mirror->range.hmm_pfns[0] & HMM_PFN_WRITE));
	}
	/* REQ_WRITE is not satisfied with that. */
	mirror = hmm_kunit_mirror(test, addr, 2 * NPAGES, REQ_WRITE | REQ_TRY_WRITE);
	KUNIT_EXPECT_EQ(test, -EPERM, call->fault(mirror));
	/* Memory that cannot be read is refused. */
	map_at(test, addr + NPAGES * PAGE_SIZE, NULL, PROT_NONE);
	mirror = hmm_kunit_mirror(test, addr, 2 * NPAGES, REQ_TRY_WRITE);
	KUNIT_EXPECT_EQ(test, -EFAULT, call->fault(mirror));
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr + NPAGES * PAGE_SIZE, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, -EFAULT, call->fault(mirror));
}

#ifdef CONFIG_X86_USER_SHADOW_STACK
/* A shadow stack is one that a device may read. */
static void try_write_shadow_stack(struct kunit *test)
{
	const struct call *call = test->param_value;
	unsigned long addr = hmm_kunit_anon(test, NPAGES);
	struct hmm_kunit_mirror *mirror;
	struct vm_area_struct *vma;

	for (unsigned long i = 0; i < NPAGES; i++)
		hmm_kunit_write(test, addr + i * PAGE_SIZE, i);
	mmap_write_lock(current->mm);
	vma = vma_lookup(current->mm, addr);
	vm_flags_set(vma, VM_SHADOW_STACK);
	mmap_write_unlock(current->mm);
	mirror = hmm_kunit_mirror(test, addr, NPAGES, REQ_TRY_WRITE);
	KUNIT_EXPECT_EQ(test, 0, call->fault(mirror));
	for (unsigned long i = 0; i < NPAGES; i++)
		KUNIT_EXPECT_EQ(test, mirror->range.hmm_pfns[i] &
				(HMM_PFN_VALID | HMM_PFN_WRITE), HMM_PFN_VALID);
	mmap_write_lock(current->mm);
	vm_flags_clear(vma, VM_SHADOW_STACK);
	mmap_write_unlock(current->mm);
}
#endif

/* Without an array pages are faulted; a valid range means that they are there. */
static void no_array(struct kunit *test)
{
	const struct call *call = test->param_value;
	const unsigned long npages = HMM_KUNIT_TABLE + NPAGES;
	unsigned long addr = hmm_kunit_anon(test, npages), before;
	struct hmm_kunit_mirror *mirror = hmm_kunit_mirror(test, addr, npages, REQ_WRITE);
	struct hmm_range *range = &mirror->range;
	unsigned long *pfns = range->hmm_pfns;
	struct hmm_kunit_leaf leaf;

	hmm_kunit_needs_events(test);
	hmm_kunit_write(test, addr + 3 * PAGE_SIZE, 3);
	range->hmm_pfns = NULL;
	before = hmm_kunit_nr_faults();
	KUNIT_EXPECT_EQ(test, 0, call->fault(mirror));
	KUNIT_EXPECT_EQ(test, hmm_kunit_nr_faults() - before, npages - 1);
	for (unsigned long i = 0; i < npages; i++) {
		KUNIT_EXPECT_TRUE(test, hmm_kunit_leaf(addr + i * PAGE_SIZE, &leaf) &&
				  leaf.write);
		KUNIT_EXPECT_EQ(test, pfns[i], HMM_KUNIT_POISON);
	}
	KUNIT_EXPECT_FALSE(test, mmu_interval_read_retry(range->notifier, range->notifier_seq));
	hmm_kunit_event(test, current->mm, addr, 1);
	KUNIT_EXPECT_TRUE(test, mmu_interval_read_retry(range->notifier, range->notifier_seq));
	KUNIT_EXPECT_EQ(test, 0, call->fault(mirror));
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr + NPAGES * PAGE_SIZE, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, -EFAULT, call->fault(mirror));
}

/* The same for a huge page, with a request and without one. */
static void no_array_thp(struct kunit *test)
{
	const struct call *call = test->param_value;
	unsigned long addr = hmm_kunit_thp(test, HMM_KUNIT_TABLE);
	struct hmm_kunit_mirror *mirror = hmm_kunit_mirror(test, addr, HMM_KUNIT_TABLE, 0);
	struct hmm_range *range = &mirror->range;
	unsigned long *pfns = range->hmm_pfns;
	struct hmm_kunit_leaf leaf;

	range->hmm_pfns = NULL;
	KUNIT_EXPECT_EQ(test, 0, call->fault(mirror));
	KUNIT_EXPECT_FALSE(test, hmm_kunit_leaf(addr, &leaf));
	range->default_flags = REQ_WRITE;
	KUNIT_EXPECT_EQ(test, 0, call->fault(mirror));
	KUNIT_EXPECT_TRUE(test, hmm_kunit_leaf(addr, &leaf) && leaf.write);
	for (unsigned long i = 0; i < HMM_KUNIT_TABLE; i++)
		KUNIT_EXPECT_EQ(test, pfns[i], HMM_KUNIT_POISON);
}

/* A request that nobody may make is refused, and changes nothing. */
static void refused(struct kunit *test)
{
	static const unsigned long flags[] = {
		HMM_PFN_REQ_WRITE, HMM_PFN_REQ_TRY_WRITE, HMM_PFN_VALID, HMM_PFN_WRITE,
		REQ_READ | HMM_PFN_VALID, REQ_WRITE | HMM_PFN_REQ_TRY_WRITE << 1, ~0ul,
	};
	const struct call *call = test->param_value;
	unsigned long addr = hmm_kunit_anon(test, NPAGES), before;
	struct hmm_kunit_mirror *mirror = hmm_kunit_mirror(test, addr, NPAGES, 0);

	before = hmm_kunit_nr_faults();
	for (unsigned int i = 0; i < ARRAY_SIZE(flags); i++) {
		mirror->range.default_flags = flags[i];
		KUNIT_EXPECT_EQ_MSG(test, -EINVAL, call->fault(mirror), "flags %lx", flags[i]);
	}
	KUNIT_EXPECT_EQ(test, hmm_kunit_nr_faults(), before);
	for (unsigned long i = 0; i < NPAGES; i++)
		KUNIT_EXPECT_EQ(test, mirror->range.hmm_pfns[i], HMM_KUNIT_POISON);
}

#ifdef CONFIG_HMM_KUNIT_HAS_DMA_PFN
static void map_free(void *map)
{
	hmm_dma_map_free(NULL, map);
}

/* A map that is not mapped for any device. */
static struct hmm_dma_map *map_of(struct kunit *test, unsigned long npages, size_t size)
{
	struct hmm_dma_map *map = kunit_kzalloc(test, sizeof(*map), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, map);
	KUNIT_ASSERT_EQ(test, 0, hmm_dma_map_alloc(NULL, map, npages, size));
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, map_free, map));
	for (unsigned long i = 0; i < npages * PAGE_SIZE / size; i++)
		KUNIT_EXPECT_EQ(test, map->pfn_list[i], 0);
	return map;
}

/* A map takes the entries of a range, and keeps the bits that say how it is mapped. */
static void map_store(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, NPAGES);
	struct hmm_dma_map *map = map_of(test, NPAGES, PAGE_SIZE);
	struct hmm_kunit_mirror *mirror;
	unsigned long *found, old[NPAGES];

	hmm_kunit_read(test, addr);
	hmm_kunit_write(test, addr + PAGE_SIZE, 1);
	mirror = hmm_kunit_mirror(test, addr, NPAGES, REQ_READ);
	found = mirror->range.hmm_pfns;
	KUNIT_ASSERT_EQ(test, 0, hmm_kunit_fault(mirror));
	/* Two pages from the second entry on. */
	mirror->range.end = addr + 2 * PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, 0, hmm_dma_map_store(map, 1, &mirror->range));
	for (unsigned long i = 0; i < NPAGES; i++)
		KUNIT_EXPECT_EQ(test, map->pfn_list[i], i == 1 || i == 2 ? found[i - 1] : 0);

	mirror->range.end = addr + NPAGES * PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, 0, hmm_dma_map_store(map, 0, &mirror->range));
	for (unsigned long i = 0; i < NPAGES; i++)
		KUNIT_EXPECT_EQ(test, map->pfn_list[i], found[i]);

	/* Found to be less by another thread; writable now; not mapped. */
	for (unsigned long i = 0; i < NPAGES; i++) {
		map->pfn_list[i] |= i % 2 ? HMM_PFN_DMA_MAPPED : HMM_KUNIT_STICKY;
		old[i] = map->pfn_list[i];
	}
	found[1] &= ~HMM_PFN_WRITE;
	found[2] |= HMM_PFN_WRITE;
	found[3] = 0;
	found[4] = HMM_PFN_ERROR;
	map->pfn_list[5] = found[5] | HMM_PFN_WRITE;
	map->pfn_list[6] = 0;
	map->pfn_list[7] = found[6];
	KUNIT_EXPECT_EQ(test, 0, hmm_dma_map_store(map, 0, &mirror->range));
	KUNIT_EXPECT_EQ(test, map->pfn_list[0], old[0]);
	KUNIT_EXPECT_EQ(test, map->pfn_list[1], old[1]);
	KUNIT_EXPECT_EQ(test, map->pfn_list[2], old[2] | HMM_PFN_WRITE);
	KUNIT_EXPECT_EQ(test, map->pfn_list[3], old[3]);
	KUNIT_EXPECT_EQ(test, map->pfn_list[4], old[4]);
	KUNIT_EXPECT_EQ(test, map->pfn_list[5], found[5] | HMM_PFN_WRITE);
	KUNIT_EXPECT_EQ(test, map->pfn_list[6], found[6]);
	KUNIT_EXPECT_EQ(test, map->pfn_list[7], found[7]);

	/* A driver that has not unmapped a page that has gone is warned. */
	found[0]++;
	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test, 0, hmm_dma_map_store(map, 0, &mirror->range));
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	KUNIT_EXPECT_EQ(test, map->pfn_list[0], old[0]);
}

#ifdef CONFIG_HUGETLB_PAGE
/* Entries of a map that are about huge pages have the pfn of the first page of each. */
static void map_store_huge(struct kunit *test)
{
	const unsigned long npages = 2 * HMM_KUNIT_TABLE;
	unsigned long addr = hmm_kunit_hugetlb(test, npages, PMD_SHIFT - PAGE_SHIFT);
	struct hmm_dma_map *map = map_of(test, npages + HMM_KUNIT_TABLE, PMD_SIZE);
	struct hmm_kunit_mirror *mirror;
	struct hmm_kunit_leaf leaf;

	mirror = hmm_kunit_mirror(test, addr, npages, REQ_WRITE);
	KUNIT_ASSERT_EQ(test, 0, hmm_kunit_fault(mirror));
	KUNIT_EXPECT_EQ(test, 0, hmm_dma_map_store(map, 0, &mirror->range));
	for (unsigned long i = 0; i < 2; i++) {
		KUNIT_ASSERT_TRUE(test, hmm_kunit_leaf(addr + i * PMD_SIZE, &leaf));
		KUNIT_EXPECT_EQ(test, map->pfn_list[i], hmm_kunit_leaf_entry(&leaf));
	}
	KUNIT_EXPECT_EQ(test, map->pfn_list[2], 0);
}
#endif

/* Where smaller pages are mapped, nothing changes. */
static void map_store_small(struct kunit *test)
{
	const unsigned long npages = 2 * HMM_KUNIT_TABLE;
	unsigned long addr = hmm_kunit_anon(test, npages);
	struct hmm_dma_map *map = map_of(test, npages, PMD_SIZE);
	struct hmm_kunit_mirror *mirror = hmm_kunit_mirror(test, addr, npages, REQ_WRITE);

	KUNIT_ASSERT_EQ(test, 0, hmm_kunit_fault(mirror));
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_dma_map_store(map, 0, &mirror->range));
	for (unsigned long i = 0; i < npages / HMM_KUNIT_TABLE; i++)
		KUNIT_EXPECT_EQ(test, map->pfn_list[i], 0);
}
#endif /* CONFIG_HMM_KUNIT_HAS_DMA_PFN */

#endif /* CONFIG_HMM_KUNIT_HAS_FLAGS */

static struct kunit_case hmm_flags_cases[] = {
	KUNIT_CASE_PARAM(output_only, fill_gen_params),
#ifdef CONFIG_HMM_KUNIT_HAS_FLAGS
	KUNIT_CASE_PARAM(try_write, call_gen_params),
#ifdef CONFIG_X86_USER_SHADOW_STACK
	KUNIT_CASE_PARAM(try_write_shadow_stack, call_gen_params),
#endif
	KUNIT_CASE_PARAM(no_array, call_gen_params),
	KUNIT_CASE_PARAM(no_array_thp, call_gen_params),
	KUNIT_CASE_PARAM(refused, call_gen_params),
#ifdef CONFIG_HMM_KUNIT_HAS_DMA_PFN
	KUNIT_CASE(map_store),
#ifdef CONFIG_HUGETLB_PAGE
	KUNIT_CASE(map_store_huge),
#endif
	KUNIT_CASE(map_store_small),
#endif
#endif
	{ }
};

static struct kunit_suite hmm_flags_suite = {
	.name = "hmm_flags",
	.test_cases = hmm_flags_cases,
};

kunit_test_suite(hmm_flags_suite);
