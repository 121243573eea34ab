// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suite hmm_hugetlb: pages of hugetlbfs, 2M and 1G.
 *
 * The table, as states.h describes it. Not in it, because hugetlbfs has no such
 * entry: swap, guard markers, device memory, special entries, the zero page,
 * shadow stacks; protnone is made only where userfaultfd asked for it. Then the
 * peculiarities of hugetlbfs: page tables that VMAs share, and a page that is
 * moved as a whole.
 */
#include <linux/hugetlb.h>
#include <linux/mman.h>
#include <linux/pagemap.h>
#include <linux/swapops.h>

#include "states.h"

#define TABLE HMM_KUNIT_TABLE
#define TAG 0x6875676500000000ull

static pte_t *huge_ptep(const struct hmm_kunit_cell *cell)
{
	return (pte_t *)hmm_kunit_pmd(cell);
}

static pte_t swap_huge_pte(struct hmm_kunit_cell *cell, pte_t pte)
{
	pte_t *ptep = huge_ptep(cell), old;
	spinlock_t *ptl = pmd_lockptr(cell->mm, (pmd_t *)ptep);

	spin_lock(ptl);
	old = huge_ptep_get(cell->mm, cell->addr, ptep);
	set_huge_pte_at(cell->mm, cell->addr, ptep, pte, PMD_SIZE);
	spin_unlock(ptl);
	return old;
}

static void set_huge_entry(struct hmm_kunit_cell *cell, pte_t pte)
{
	cell->pte = swap_huge_pte(cell, pte);
}

static void put_huge_back(struct hmm_kunit_cell *cell)
{
	swap_huge_pte(cell, cell->pte);
}

static void none_enter(struct hmm_kunit_cell *cell)
{
	hmm_kunit_madvise(cell->test, cell->addr, TABLE, MADV_DONTNEED);
}

static void clean_enter(struct hmm_kunit_cell *cell)
{
	pte_t pte = huge_ptep_get(cell->mm, cell->addr, huge_ptep(cell));

	set_huge_entry(cell, pte_mkclean(pte));
}

static void readonly_enter(struct hmm_kunit_cell *cell)
{
	pte_t pte = huge_ptep_get(cell->mm, cell->addr, huge_ptep(cell));

	set_huge_entry(cell, huge_pte_wrprotect(pte));
}

static void poison_enter(struct hmm_kunit_cell *cell)
{
	set_huge_entry(cell, swp_entry_to_pte(make_poisoned_swp_entry()));
}

static void migration_enter(struct hmm_kunit_cell *cell)
{
	unsigned long pfn = folio_pfn(cell->folio);

	folio_lock(cell->folio);
	set_huge_entry(cell, swp_entry_to_pte(make_writable_migration_entry(pfn)));
}

static void migration_leave(struct hmm_kunit_cell *cell)
{
	put_huge_back(cell);
	folio_unlock(cell->folio);
}

#ifdef CONFIG_MEMORY_FAILURE
static void hwpoison_enter(struct hmm_kunit_cell *cell)
{
	swp_entry_t entry;

	folio_lock(cell->folio);
	entry = make_hwpoison_entry(folio_page(cell->folio, 0));
	folio_unlock(cell->folio);
	set_huge_entry(cell, swp_entry_to_pte(entry));
}
#endif

#ifdef CONFIG_PTE_MARKER_UFFD_WP
static void uffd_wp_enter(struct hmm_kunit_cell *cell)
{
	none_enter(cell);
	set_huge_entry(cell, make_pte_marker(PTE_MARKER_UFFD_WP));
}
#endif

static const struct hmm_kunit_state huge_states[] = {
	{ "present", NULL, NULL, false, false, PAGE, 0, 0 },
	{ "none", none_enter, NULL, false, false, NOTHING, 0, 0 },
	{ "clean", clean_enter, NULL, false, false, PAGE, 0, 0 },
	{ "readonly", readonly_enter, NULL, false, false, PAGE, 0, 0 },
	{ "migration", migration_enter, migration_leave, true, false, NOTHING, 0, 0 },
	{ "poison_marker", poison_enter, put_huge_back, false, false, ERROR, -EFAULT,
	  -EFAULT },
#ifdef CONFIG_MEMORY_FAILURE
	{ "hwpoison", hwpoison_enter, put_huge_back, false, false, ERROR, -EFAULT,
	  -EFAULT },
#endif
#ifdef CONFIG_PTE_MARKER_UFFD_WP
	{ "uffd_wp_marker", uffd_wp_enter, NULL, false, false, NOTHING, 0, 0 },
#endif
};

KUNIT_ARRAY_PARAM_DESC(huge, huge_states, name);

/* A huge page between others; the range starts in it, and ends in the next. */
static void check_huge(struct kunit *test, enum hmm_kunit_call call)
{
	unsigned long addr = hmm_kunit_hugetlb(test, 3 * TABLE, PMD_SHIFT - PAGE_SHIFT);
	struct hmm_kunit_cell cell = {
		.test = test,
		.addr = addr + PMD_SIZE,
		.npages = TABLE,
	};
	struct hmm_kunit_leaf leaf;

	for (int i = 0; i < 3; i++)
		hmm_kunit_write(test, addr + i * PMD_SIZE, TAG + i);
	KUNIT_ASSERT_TRUE(test, hmm_kunit_leaf(cell.addr, &leaf));
	cell.folio = pfn_folio(leaf.pfn);
	hmm_kunit_check_state(&cell, test->param_value, call,
			      cell.addr + 7 * PAGE_SIZE, TABLE - 7 + 3);
}

HMM_KUNIT_STATE_CASES(huge);

/* Mirror [addr, addr + npages) and expect that many faults. */
static struct hmm_kunit_mirror *expect_faults(struct kunit *test,
					      unsigned long addr,
					      unsigned long npages,
					      unsigned long flags,
					      unsigned long nr_faults)
{
	struct hmm_kunit_mirror *mirror;
	unsigned long before;

	mirror = hmm_kunit_mirror(test, addr, npages, flags);
	before = hmm_kunit_nr_faults();
	KUNIT_ASSERT_EQ(test, hmm_kunit_fault(mirror), 0);
	KUNIT_EXPECT_EQ(test, hmm_kunit_nr_faults() - before, nr_faults);
	hmm_kunit_expect_mapped(test, mirror);
	return mirror;
}

/* A page of 1G: one fault, then none; any part of it is found. */
static void gigantic(struct kunit *test)
{
	const unsigned long npages = PUD_SIZE / PAGE_SIZE;
	unsigned long addr = hmm_kunit_hugetlb(test, npages,
					       PUD_SHIFT - PAGE_SHIFT);
	struct hmm_kunit_mirror *mirror;

	mirror = expect_faults(test, addr, npages, REQ_WRITE, 1);
	KUNIT_EXPECT_EQ(test, hmm_pfn_to_map_order(mirror->range.hmm_pfns[npages - 1]),
			PUD_SHIFT - PAGE_SHIFT);
	hmm_kunit_write(test, addr + (npages - 1) * PAGE_SIZE, TAG);
	hmm_kunit_expect_tag(test, mirror, npages - 1, TAG);
	hmm_kunit_expect_tag(test, mirror, 0, 0);
	expect_faults(test, addr + 3 * PMD_SIZE + 5 * PAGE_SIZE, TABLE, REQ_WRITE, 0);
	expect_faults(test, addr + 3 * PMD_SIZE + 5 * PAGE_SIZE, TABLE, 0, 0);
}

#ifdef CONFIG_HUGETLB_PMD_PAGE_TABLE_SHARING
/*
 * Two VMAs that map the same 1G of a file share the table of PMDs: pages that one
 * of them faults the other has. When one of them unmaps a page it gets a table of
 * its own, and is told that all of the table is gone.
 */
static void shared_table(struct kunit *test)
{
	const unsigned long npages = PUD_SIZE / PAGE_SIZE;
	struct file *file = hmm_kunit_hugetlb_file(test, npages, HPAGE_PMD_ORDER);
	struct hmm_kunit_cell cells[2] = { };
	struct hmm_kunit_mirror *mirrors[2];
	struct hmm_range *ranges[2];

	for (int i = 0; i < 2; i++) {
		cells[i].addr = hmm_kunit_mmap(test, file, npages,
					       MAP_SHARED | MAP_NORESERVE, PUD_SIZE);
		cells[i].mm = current->mm;
	}
	mirrors[0] = expect_faults(test, cells[0].addr, 2 * TABLE, REQ_WRITE, 2);
	hmm_kunit_write(test, cells[0].addr + PMD_SIZE, TAG);
	mirrors[1] = expect_faults(test, cells[1].addr, 2 * TABLE, REQ_WRITE, 1);
	KUNIT_ASSERT_EQ(test, pud_val(pudp_get(hmm_kunit_pud(&cells[0]))),
			pud_val(pudp_get(hmm_kunit_pud(&cells[1]))));
	hmm_kunit_expect_tag(test, mirrors[1], TABLE, TAG);

	KUNIT_ASSERT_EQ(test, vm_munmap(cells[1].addr + 3 * PMD_SIZE, PMD_SIZE), 0);
	for (int i = 0; i < 2; i++)
		ranges[i] = &mirrors[i]->range;
	KUNIT_EXPECT_FALSE(test, mmu_interval_read_retry(ranges[0]->notifier,
							 ranges[0]->notifier_seq));
	KUNIT_EXPECT_TRUE(test, mmu_interval_read_retry(ranges[1]->notifier,
							ranges[1]->notifier_seq));
	KUNIT_ASSERT_EQ(test, hmm_kunit_fault(mirrors[1]), 0);
	hmm_kunit_expect_mapped(test, mirrors[1]);
	hmm_kunit_expect_tag(test, mirrors[1], TABLE, TAG);
}
#endif

#if defined(CONFIG_MEMORY_FAILURE) && !defined(MODULE)
/* A page that is about to fail is moved, with its contents. */
static void soft_offline(struct kunit *test)
{
	unsigned long addr = hmm_kunit_hugetlb(test, TABLE, PMD_SHIFT - PAGE_SHIFT), old;
	struct hmm_kunit_mirror *mirror;
	struct hmm_range *range;

	mirror = expect_faults(test, addr, TABLE, REQ_WRITE, 1);
	range = &mirror->range;
	hmm_kunit_write(test, addr + 9 * PAGE_SIZE, TAG);
	old = range->hmm_pfns[0];
	KUNIT_ASSERT_EQ(test, 0, soft_offline_page(old & ~HMM_PFN_FLAGS, 0));
	KUNIT_EXPECT_TRUE(test, mmu_interval_read_retry(range->notifier,
							range->notifier_seq));
	KUNIT_ASSERT_EQ(test, hmm_kunit_fault(mirror), 0);
	KUNIT_EXPECT_NE(test, range->hmm_pfns[0], old);
	hmm_kunit_expect_mapped(test, mirror);
	hmm_kunit_expect_tag(test, mirror, 9, TAG);
}
#endif

static struct kunit_case hmm_hugetlb_cases[] = {
	KUNIT_CASE_PARAM(snapshot_huge, huge_gen_params),
	KUNIT_CASE_PARAM(look_huge, huge_gen_params),
	KUNIT_CASE_PARAM(read_huge, huge_gen_params),
	KUNIT_CASE_PARAM(write_huge, huge_gen_params),
	KUNIT_CASE(gigantic),
#ifdef CONFIG_HUGETLB_PMD_PAGE_TABLE_SHARING
	KUNIT_CASE(shared_table),
#endif
#if defined(CONFIG_MEMORY_FAILURE) && !defined(MODULE)
	KUNIT_CASE(soft_offline),
#endif
	{}
};

static struct kunit_suite hmm_hugetlb_suite = {
	.name = "hmm_hugetlb",
	.test_cases = hmm_hugetlb_cases,
};

kunit_test_suite(hmm_hugetlb_suite);
