// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suite hmm_snapshot: what is reported of each state of an entry.
 *
 * The table, as states.h describes it, for PTEs, PMDs and PUDs. Not in it,
 * because the kernel makes no such entry: swap, markers, poison and
 * device-exclusive entries above the level of a PTE; an entry that is not present
 * at the level of a PUD. Not here either: faults of swap entries, and secret
 * memory, for want of a swap device and of a file descriptor; vm/states.c has
 * them.
 */
#include <linux/hugetlb.h>
#include <linux/leafops.h>
#include <linux/memremap.h>
#include <linux/migrate.h>
#include <linux/mman.h>
#include <linux/pagemap.h>
#include <linux/pgtable.h>
#include <linux/rmap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/swapops.h>

#include "states.h"

#define TABLE HMM_KUNIT_TABLE
#define TAG 0x736e617000000000ull

static pte_t swap_pte(struct hmm_kunit_cell *cell, pte_t pte)
{
	pmd_t *pmd = hmm_kunit_pmd(cell);
	pte_t *ptep = pte_offset_kernel(pmd, cell->addr);
	spinlock_t *ptl = pte_lockptr(cell->mm, pmd);
	pte_t old;

	spin_lock(ptl);
	old = ptep_get(ptep);
	set_pte_at(cell->mm, cell->addr, ptep, pte);
	spin_unlock(ptl);
	return old;
}

static void set_pte_entry(struct hmm_kunit_cell *cell, pte_t pte)
{
	cell->pte = swap_pte(cell, pte);
}

static pte_t get_pte_entry(struct hmm_kunit_cell *cell)
{
	return ptep_get(pte_offset_kernel(hmm_kunit_pmd(cell), cell->addr));
}

static void put_pte_back(struct hmm_kunit_cell *cell)
{
	swap_pte(cell, cell->pte);
}

static void set_softleaf(struct hmm_kunit_cell *cell, swp_entry_t entry)
{
	set_pte_entry(cell, swp_entry_to_pte(entry));
}

/* States of PTEs, and of VMAs, for which the level makes no difference. */

static void pte_present_enter(struct hmm_kunit_cell *cell)
{
}

static void pte_none_enter(struct hmm_kunit_cell *cell)
{
	KUNIT_EXPECT_EQ(cell->test, 0, vm_munmap(cell->addr, PAGE_SIZE));
	KUNIT_EXPECT_EQ(cell->test, cell->addr,
			kunit_vm_mmap(cell->test, NULL, cell->addr, PAGE_SIZE,
				      PROT_READ | PROT_WRITE,
				      MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, 0));
}

static void pte_zero_enter(struct hmm_kunit_cell *cell)
{
	pte_none_enter(cell);
	KUNIT_EXPECT_EQ(cell->test, 0, hmm_kunit_read(cell->test, cell->addr));
}

static void pte_clean_enter(struct hmm_kunit_cell *cell)
{
	set_pte_entry(cell, pte_mkclean(get_pte_entry(cell)));
}

static void pte_swap_enter(struct hmm_kunit_cell *cell)
{
	set_softleaf(cell, swp_entry(0, 1));
}

static void pte_poison_enter(struct hmm_kunit_cell *cell)
{
	set_softleaf(cell, make_poisoned_swp_entry());
}

static void pte_guard_enter(struct hmm_kunit_cell *cell)
{
	set_softleaf(cell, make_guard_swp_entry());
}

static void pte_migration_enter(struct hmm_kunit_cell *cell)
{
	folio_lock(cell->folio);
	set_softleaf(cell, make_writable_migration_entry(folio_pfn(cell->folio)));
}

static void pte_migration_leave(struct hmm_kunit_cell *cell)
{
	put_pte_back(cell);
	folio_unlock(cell->folio);
}

static void vma_mixed_enter(struct hmm_kunit_cell *cell)
{
	hmm_kunit_set_vm_flags(cell, VM_MIXEDMAP);
}

static void vma_io_enter(struct hmm_kunit_cell *cell)
{
	hmm_kunit_set_vm_flags(cell, VM_IO);
}

static void vma_pfnmap_enter(struct hmm_kunit_cell *cell)
{
	hmm_kunit_set_vm_flags(cell, VM_PFNMAP);
}

static void vma_absent_enter(struct hmm_kunit_cell *cell)
{
	KUNIT_EXPECT_EQ(cell->test, 0,
			vm_munmap(cell->addr, cell->npages * PAGE_SIZE));
}

static void vma_mmap(struct hmm_kunit_cell *cell, unsigned long prot)
{
	unsigned long len = cell->npages * PAGE_SIZE;

	KUNIT_EXPECT_EQ(cell->test, cell->addr,
			kunit_vm_mmap(cell->test, NULL, cell->addr, len, prot,
				      MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, 0));
}

static void vma_none_enter(struct hmm_kunit_cell *cell)
{
	vma_mmap(cell, PROT_NONE);
}

static void vma_write_only_enter(struct hmm_kunit_cell *cell)
{
	vma_mmap(cell, PROT_WRITE);
}

static void vma_readonly_enter(struct hmm_kunit_cell *cell)
{
	vma_mmap(cell, PROT_READ);
}

#ifdef CONFIG_PTE_MARKER_UFFD_WP
static void pte_uffd_wp_enter(struct hmm_kunit_cell *cell)
{
	pte_none_enter(cell);
	set_pte_entry(cell, make_pte_marker(PTE_MARKER_UFFD_WP));
}
#endif

#ifdef CONFIG_MEMORY_FAILURE
static void pte_hwpoison_enter(struct hmm_kunit_cell *cell)
{
	folio_lock(cell->folio);
	set_softleaf(cell, make_hwpoison_entry(folio_page(cell->folio, 0)));
	folio_unlock(cell->folio);
}
#endif

#ifdef CONFIG_ARCH_HAS_PTE_PROTNONE
static void pte_protnone_enter(struct hmm_kunit_cell *cell)
{
	set_pte_entry(cell, pte_modify(get_pte_entry(cell), PAGE_NONE));
}
#endif

#ifdef CONFIG_ARCH_HAS_PTE_SPECIAL
static void pte_special_enter(struct hmm_kunit_cell *cell)
{
	hmm_kunit_set_vm_flags(cell, VM_MIXEDMAP);
	set_pte_entry(cell, pte_mkspecial(get_pte_entry(cell)));
}

static void pte_special_readonly_enter(struct hmm_kunit_cell *cell)
{
	hmm_kunit_set_vm_flags(cell, VM_MIXEDMAP);
	set_pte_entry(cell, pte_mkspecial(pte_wrprotect(get_pte_entry(cell))));
}

static void pte_special_leave(struct hmm_kunit_cell *cell)
{
	put_pte_back(cell);
	hmm_kunit_clear_vm_flags(cell);
}
#endif

#ifdef CONFIG_X86_USER_SHADOW_STACK
static void vma_shadow_stack_enter(struct hmm_kunit_cell *cell)
{
	hmm_kunit_set_vm_flags(cell, VM_SHADOW_STACK);
}
#endif

#ifdef CONFIG_DEVICE_PRIVATE
static void pte_exclusive_enter(struct hmm_kunit_cell *cell)
{
	struct folio *folio;
	struct page *page;

	mmap_read_lock(cell->mm);
	page = make_device_exclusive(cell->mm, cell->addr, cell, &folio);
	mmap_read_unlock(cell->mm);
	KUNIT_EXPECT_NOT_ERR_OR_NULL(cell->test, page);
	if (!IS_ERR_OR_NULL(page)) {
		folio_unlock(folio);
		folio_put(folio);
	}
}

static void private_put_back(struct hmm_kunit_cell *cell);

/* Back to system memory: the page that was there is still there. */
static vm_fault_t private_to_ram(struct vm_fault *vmf, void *data)
{
	private_put_back(data);
	return 0;
}

static unsigned long private_page(struct hmm_kunit_cell *cell, unsigned int order)
{
	unsigned long pfn;

	cell->pgmap = hmm_kunit_pgmap(cell->test, MEMORY_DEVICE_PRIVATE, PMD_SIZE, 0);
	cell->pgmap->to_ram = private_to_ram;
	cell->pgmap->data = cell;
	pfn = PHYS_PFN(cell->pgmap->pgmap.range.start);
	zone_device_page_init(pfn_to_page(pfn), &cell->pgmap->pgmap, order);
	unlock_page(pfn_to_page(pfn));
	return pfn;
}

/* The page that is in device memory, while it is. */
static struct page *private_page_of(const struct hmm_kunit_cell *cell)
{
	return pfn_to_page(PHYS_PFN(cell->pgmap->pgmap.range.start));
}

static void private_leave(struct hmm_kunit_cell *cell)
{
	if (cell->pgmap)
		private_put_back(cell);
}

/* Somebody else has the page locked, and takes his time. */
static void private_locked_leave(struct hmm_kunit_cell *cell)
{
	unlock_page(private_page_of(cell));
	if (!cell->waited_for)
		private_put_back(cell);
}

static void pte_private_foreign_enter(struct hmm_kunit_cell *cell)
{
	set_softleaf(cell, make_writable_device_private_entry(private_page(cell, 0)));
}

static void pte_private_own_enter(struct hmm_kunit_cell *cell)
{
	unsigned long pfn = private_page(cell, 0);

	cell->device = pfn | HMM_PFN_VALID | HMM_PFN_WRITE;
	set_softleaf(cell, make_writable_device_private_entry(pfn));
}

static void pte_private_readonly_enter(struct hmm_kunit_cell *cell)
{
	unsigned long pfn = private_page(cell, 0);

	cell->device = pfn | HMM_PFN_VALID;
	set_softleaf(cell, make_readable_device_private_entry(pfn));
}

static void pte_private_locked_enter(struct hmm_kunit_cell *cell)
{
	pte_private_foreign_enter(cell);
	lock_page(private_page_of(cell));
}
#endif

static const struct hmm_kunit_state pte_states[] = {
	{ "present", pte_present_enter, NULL, false, false, PAGE, 0, 0 },
	{ "none", pte_none_enter, NULL, false, false, NOTHING, 0, 0 },
	{ "zero_page", pte_zero_enter, NULL, false, false, PAGE, 0, 0 },
	{ "clean", pte_clean_enter, NULL, false, false, PAGE, 0, 0 },
	{ "migration", pte_migration_enter, pte_migration_leave, true, false,
	  NOTHING, 0, 0 },
	{ "poison_marker", pte_poison_enter, put_pte_back, false, false, ERROR,
	  -EFAULT, -EFAULT },
	{ "guard_marker", pte_guard_enter, put_pte_back, false, false, ERROR,
	  -EFAULT, -EFAULT },
#ifdef CONFIG_PTE_MARKER_UFFD_WP
	{ "uffd_wp_marker", pte_uffd_wp_enter, NULL, false, false, NOTHING, 0, 0 },
#endif
#ifdef CONFIG_MEMORY_FAILURE
	{ "hwpoison", pte_hwpoison_enter, put_pte_back, false, false, ERROR,
	  -EFAULT, -EFAULT },
#endif
#ifdef CONFIG_ARCH_HAS_PTE_PROTNONE
	{ "protnone", pte_protnone_enter, NULL, false, false, NOTHING, 0, 0 },
#endif
#ifdef CONFIG_ARCH_HAS_PTE_SPECIAL
	{ "special", pte_special_enter, pte_special_leave, false, false, ERROR,
	  -EFAULT, -EFAULT },
	{ "special_readonly", pte_special_readonly_enter, pte_special_leave, false,
	  false, ERROR, -EFAULT, -EFAULT },
#endif
#ifdef CONFIG_DEVICE_PRIVATE
	{ "private_own", pte_private_own_enter, private_leave, false, false, DEVICE,
	  0, 0 },
	{ "private_own_readonly", pte_private_readonly_enter, private_leave, false,
	  false, DEVICE, 0, 0 },
	{ "private_foreign", pte_private_foreign_enter, private_leave, false, false,
	  NOTHING, 0, 0 },
	{ "private_locked", pte_private_locked_enter, private_locked_leave, true,
	  false, NOTHING, 0, 0 },
	{ "exclusive", pte_exclusive_enter, NULL, false, false, NOTHING, 0, 0 },
#endif
#ifdef CONFIG_X86_USER_SHADOW_STACK
	{ "shadow_stack", vma_shadow_stack_enter, hmm_kunit_clear_vm_flags, false, true,
	  READONLY, 0, -EPERM },
#endif
	{ "mixedmap", vma_mixed_enter, hmm_kunit_clear_vm_flags, false, false, PAGE, 0, 0 },
	{ "io", vma_io_enter, hmm_kunit_clear_vm_flags, false, true, ERROR, -EFAULT, -EFAULT },
	{ "pfnmap", vma_pfnmap_enter, hmm_kunit_clear_vm_flags, false, true, ERROR, -EFAULT,
	  -EFAULT },
	{ "no_vma", vma_absent_enter, NULL, false, false, ERROR, -EFAULT, -EFAULT },
	{ "no_access", vma_none_enter, NULL, false, false, ERROR, -EFAULT, -EFAULT },
	{ "write_only", vma_write_only_enter, NULL, false, false, ERROR, -EFAULT,
	  -EFAULT },
	{ "readonly", vma_readonly_enter, NULL, false, false, NOTHING, 0, -EPERM },
};

/* A swap entry has no device behind it here: it is only looked at. */
static const struct hmm_kunit_state pte_swap = {
	"swap", pte_swap_enter, put_pte_back, false, false, NOTHING, 0, 0
};

/* A PTE among others that map a page. */
static void check_pte_state(struct kunit *test,
			    const struct hmm_kunit_state *state,
			    enum hmm_kunit_call call)
{
	unsigned long addr = hmm_kunit_anon(test, TABLE);
	struct hmm_kunit_cell cell = {
		.test = test,
		.addr = addr + 3 * PAGE_SIZE,
		.npages = 1,
	};
	struct hmm_kunit_leaf leaf;

	for (unsigned long i = 0; i < 8; i++)
		hmm_kunit_write(test, addr + i * PAGE_SIZE, TAG + i);
	KUNIT_ASSERT_TRUE(test, hmm_kunit_leaf(cell.addr, &leaf));
	cell.folio = pfn_folio(leaf.pfn);
	hmm_kunit_check_state(&cell, state, call, addr + PAGE_SIZE, 5);
}

static void check_pte(struct kunit *test, enum hmm_kunit_call call)
{
	check_pte_state(test, test->param_value, call);
}

static void snapshot_swap(struct kunit *test)
{
	check_pte_state(test, &pte_swap, CALL_SNAPSHOT);
}

static void look_swap(struct kunit *test)
{
	check_pte_state(test, &pte_swap, CALL_LOOK);
}

HMM_KUNIT_STATE_CASES(pte);
KUNIT_ARRAY_PARAM_DESC(pte, pte_states, name);

#ifdef CONFIG_TRANSPARENT_HUGEPAGE

static pmd_t swap_pmd(struct hmm_kunit_cell *cell, pmd_t pmd)
{
	pmd_t *pmdp = hmm_kunit_pmd(cell);
	spinlock_t *ptl = pmd_lock(cell->mm, pmdp);
	pmd_t old = pmdp_get(pmdp);

	set_pmd_at(cell->mm, cell->addr, pmdp, pmd);
	spin_unlock(ptl);
	return old;
}

static void set_pmd_entry(struct hmm_kunit_cell *cell, pmd_t pmd)
{
	cell->pmd = swap_pmd(cell, pmd);
}

static void set_pmd_softleaf(struct hmm_kunit_cell *cell, swp_entry_t entry)
{
	set_pmd_entry(cell, swp_entry_to_pmd(entry));
}

static void put_pmd_back(struct hmm_kunit_cell *cell)
{
	swap_pmd(cell, cell->pmd);
}

static void pmd_present_enter(struct hmm_kunit_cell *cell)
{
}

static void pmd_none_enter(struct hmm_kunit_cell *cell)
{
	hmm_kunit_madvise(cell->test, cell->addr, TABLE, MADV_DONTNEED);
}

static void pmd_zero_enter(struct hmm_kunit_cell *cell)
{
	pmd_none_enter(cell);
	KUNIT_EXPECT_EQ(cell->test, 0, hmm_kunit_read(cell->test, cell->addr));
}

static void pmd_clean_enter(struct hmm_kunit_cell *cell)
{
	set_pmd_entry(cell, pmd_mkclean(pmdp_get(hmm_kunit_pmd(cell))));
}

static void pmd_protnone_enter(struct hmm_kunit_cell *cell)
{
	set_pmd_entry(cell, pmd_modify(pmdp_get(hmm_kunit_pmd(cell)), PAGE_NONE));
}

static void pmd_migration_enter(struct hmm_kunit_cell *cell)
{
	folio_lock(cell->folio);
	set_pmd_softleaf(cell, make_writable_migration_entry(folio_pfn(cell->folio)));
}

static void pmd_migration_leave(struct hmm_kunit_cell *cell)
{
	put_pmd_back(cell);
	folio_unlock(cell->folio);
}

#ifdef CONFIG_DEVICE_PRIVATE
static void pmd_private_foreign_enter(struct hmm_kunit_cell *cell)
{
	unsigned long pfn = private_page(cell, HPAGE_PMD_ORDER);

	set_pmd_softleaf(cell, make_writable_device_private_entry(pfn));
}

static void pmd_private_own_enter(struct hmm_kunit_cell *cell)
{
	pmd_private_foreign_enter(cell);
	cell->device = PHYS_PFN(cell->pgmap->pgmap.range.start) | HMM_PFN_VALID |
		       HMM_PFN_WRITE |
		       (unsigned long)HPAGE_PMD_ORDER << HMM_PFN_ORDER_SHIFT;
}

static void pmd_private_readonly_enter(struct hmm_kunit_cell *cell)
{
	unsigned long pfn = private_page(cell, HPAGE_PMD_ORDER);

	cell->device = pfn | HMM_PFN_VALID |
		       (unsigned long)HPAGE_PMD_ORDER << HMM_PFN_ORDER_SHIFT;
	set_pmd_softleaf(cell, make_readable_device_private_entry(pfn));
}

static void pmd_private_locked_enter(struct hmm_kunit_cell *cell)
{
	pmd_private_foreign_enter(cell);
	lock_page(private_page_of(cell));
}
#endif

static const struct hmm_kunit_state pmd_states[] = {
	{ "present", pmd_present_enter, NULL, false, false, PAGE, 0, 0 },
	{ "none", pmd_none_enter, NULL, false, false, NOTHING, 0, 0 },
	{ "zero_page", pmd_zero_enter, NULL, false, false, PAGE, 0, 0 },
	{ "clean", pmd_clean_enter, NULL, false, false, PAGE, 0, 0 },
	{ "protnone", pmd_protnone_enter, NULL, false, false, NOTHING, 0, 0 },
	{ "migration", pmd_migration_enter, pmd_migration_leave, true, false,
	  NOTHING, 0, 0 },
#ifdef CONFIG_DEVICE_PRIVATE
	{ "private_own", pmd_private_own_enter, private_leave, false, false, DEVICE,
	  0, 0 },
	{ "private_own_readonly", pmd_private_readonly_enter, private_leave, false,
	  false, DEVICE, 0, 0 },
	{ "private_foreign", pmd_private_foreign_enter, private_leave, false, false,
	  NOTHING, 0, 0 },
	{ "private_locked", pmd_private_locked_enter, private_locked_leave, true,
	  false, NOTHING, 0, 0 },
#endif
#ifdef CONFIG_X86_USER_SHADOW_STACK
	{ "shadow_stack", vma_shadow_stack_enter, hmm_kunit_clear_vm_flags, false,
	  true, READONLY, 0, -EPERM },
#endif
};

KUNIT_ARRAY_PARAM_DESC(pmd, pmd_states, name);

/* A PMD between others; the range starts in it, and ends in the next. */
static void check_pmd(struct kunit *test, enum hmm_kunit_call call)
{
	unsigned long addr = hmm_kunit_thp(test, 3 * TABLE);
	struct hmm_kunit_cell cell = {
		.test = test,
		.addr = addr + PMD_SIZE,
		.npages = TABLE,
	};
	struct hmm_kunit_leaf leaf;

	for (int i = 0; i < 3; i++) {
		hmm_kunit_write(test, addr + i * PMD_SIZE, TAG + i);
		KUNIT_ASSERT_TRUE(test, hmm_kunit_leaf(addr + i * PMD_SIZE, &leaf));
		KUNIT_ASSERT_EQ(test, leaf.order, HPAGE_PMD_ORDER);
	}
	KUNIT_ASSERT_TRUE(test, hmm_kunit_leaf(cell.addr, &leaf));
	cell.folio = pfn_folio(leaf.pfn);
	hmm_kunit_check_state(&cell, test->param_value, call,
			      cell.addr + 7 * PAGE_SIZE, TABLE - 7 + 3);
}

HMM_KUNIT_STATE_CASES(pmd);

#endif /* CONFIG_TRANSPARENT_HUGEPAGE */

#ifdef CONFIG_HAVE_ARCH_TRANSPARENT_HUGEPAGE_PUD

/* No user may access it, so nothing is accounted for it. */
static void set_pud_entry(struct hmm_kunit_cell *cell, bool dirty)
{
	pgprot_t prot = __pgprot(pgprot_val(PAGE_SHARED) & ~_PAGE_USER);
	pud_t pud = pud_mkhuge(pfn_pud(PUD_SIZE >> PAGE_SHIFT, prot));
	spinlock_t *ptl = pud_lock(cell->mm, hmm_kunit_pud(cell));

	if (dirty)
		pud = pud_mkdirty(pud);
	cell->pud = pudp_get(hmm_kunit_pud(cell));
	set_pud_at(cell->mm, cell->addr, hmm_kunit_pud(cell), pud);
	spin_unlock(ptl);
}

static void put_pud_back(struct hmm_kunit_cell *cell)
{
	spinlock_t *ptl = pud_lock(cell->mm, hmm_kunit_pud(cell));

	set_pud(hmm_kunit_pud(cell), cell->pud);
	spin_unlock(ptl);
}

static void pud_present_enter(struct hmm_kunit_cell *cell)
{
	set_pud_entry(cell, true);
}

static void pud_clean_enter(struct hmm_kunit_cell *cell)
{
	set_pud_entry(cell, false);
}

#ifdef CONFIG_X86_USER_SHADOW_STACK
static void pud_shadow_stack_enter(struct hmm_kunit_cell *cell)
{
	set_pud_entry(cell, true);
	vma_shadow_stack_enter(cell);
}

static void pud_shadow_stack_leave(struct hmm_kunit_cell *cell)
{
	put_pud_back(cell);
	hmm_kunit_clear_vm_flags(cell);
}
#endif

static const struct hmm_kunit_state pud_states[] = {
	{ "present", pud_present_enter, put_pud_back, false, false, PAGE, 0, 0 },
	{ "clean", pud_clean_enter, put_pud_back, false, false, PAGE, 0, 0 },
#ifdef CONFIG_X86_USER_SHADOW_STACK
	{ "shadow_stack", pud_shadow_stack_enter, pud_shadow_stack_leave, false,
	  true, READONLY, 0, -EPERM },
#endif
};

KUNIT_ARRAY_PARAM_DESC(pud, pud_states, name);

/* A PUD, and of it a range that is longer than a table of PTEs. */
static void check_pud(struct kunit *test, enum hmm_kunit_call call)
{
	struct hmm_kunit_cell cell = {
		.test = test,
		.npages = PUD_SIZE / PAGE_SIZE,
	};
	unsigned long addr = hmm_kunit_anon(test, 2 * cell.npages);

	/* Its neighbour gets a page, so the table of PUDs is there. */
	cell.addr = ALIGN(addr + PAGE_SIZE, PUD_SIZE);
	hmm_kunit_write(test, cell.addr - PAGE_SIZE, TAG);
	hmm_kunit_check_state(&cell, test->param_value, call,
			      cell.addr + 7 * PAGE_SIZE, TABLE + 9);
}

HMM_KUNIT_STATE_CASES(pud);

#endif /* CONFIG_HAVE_ARCH_TRANSPARENT_HUGEPAGE_PUD */

#ifdef CONFIG_DEVICE_PRIVATE
/* And drop the reference that private_page() has taken. */
static void private_put_back(struct hmm_kunit_cell *cell)
{
	struct page *page = private_page_of(cell);

#ifdef CONFIG_TRANSPARENT_HUGEPAGE
	if (cell->npages > 1)
		put_pmd_back(cell);
	else
#endif
		put_pte_back(cell);
	cell->pgmap = NULL;
	put_page(page);
}
#endif

/* hmm_range_snapshot() itself: what it refuses, and what it promises. */

static void bad_ranges(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, TABLE);
	struct hmm_kunit_mirror *mirror;
	struct hmm_range *range, good;

	hmm_kunit_needs_snapshot(test);
	mirror = hmm_kunit_mirror(test, addr + PAGE_SIZE, 4, 0);
	range = &mirror->range;
	good = *range;
	KUNIT_EXPECT_EQ(test, hmm_range_snapshot(range), 0);

	range->end = range->start;
	KUNIT_EXPECT_EQ(test, hmm_range_snapshot(range), -EINVAL);
	range->end = range->start - PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, hmm_range_snapshot(range), -EINVAL);
	*range = good;
	range->start++;
	KUNIT_EXPECT_EQ(test, hmm_range_snapshot(range), -EINVAL);
	*range = good;
	range->end--;
	KUNIT_EXPECT_EQ(test, hmm_range_snapshot(range), -EINVAL);
	*range = good;
	range->start -= PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, hmm_range_snapshot(range), -EINVAL);
	*range = good;
	range->end += PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, hmm_range_snapshot(range), -EINVAL);
	*range = good;
	range->hmm_pfns = NULL;
	KUNIT_EXPECT_EQ(test, hmm_range_snapshot(range), -EINVAL);
	*range = good;
	KUNIT_EXPECT_EQ(test, hmm_range_snapshot(range), 0);
}

/* What the array held before, and what the range asks for, make no difference. */
static void output_only(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, TABLE), before;
	struct hmm_kunit_mirror *mirror;

	hmm_kunit_needs_snapshot(test);
	hmm_kunit_write(test, addr, TAG);
	mirror = hmm_kunit_mirror(test, addr, TABLE, REQ_WRITE);
	mirror->range.pfn_flags_mask = REQ_WRITE;
	for (unsigned long i = 0; i < TABLE; i++)
		mirror->range.hmm_pfns[i] = ~0ul;
	before = hmm_kunit_nr_faults();
	KUNIT_ASSERT_EQ(test, hmm_range_snapshot(&mirror->range), 0);
	KUNIT_EXPECT_EQ(test, hmm_kunit_nr_faults(), before);
	hmm_kunit_expect_tag(test, mirror, 0, TAG);
	for (unsigned long i = 1; i < TABLE; i++)
		KUNIT_ASSERT_EQ(test, mirror->range.hmm_pfns[i], 0);
}

/* The sequence is the one before the walk: what is unmapped later is noticed. */
static void sequence(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, TABLE);
	struct hmm_kunit_mirror *mirror;
	struct hmm_range *range;

	hmm_kunit_needs_snapshot(test);
	hmm_kunit_write(test, addr, TAG);
	mirror = hmm_kunit_mirror(test, addr, 4, 0);
	range = &mirror->range;
	for (int i = 0; i < 3; i++) {
		KUNIT_ASSERT_EQ(test, hmm_range_snapshot(range), 0);
		KUNIT_EXPECT_FALSE(test, mmu_interval_read_retry(range->notifier,
								 range->notifier_seq));
		KUNIT_ASSERT_EQ(test, vm_munmap(addr + i * PAGE_SIZE, PAGE_SIZE), 0);
		KUNIT_EXPECT_TRUE(test, mmu_interval_read_retry(range->notifier,
								range->notifier_seq));
	}
}

static void killed(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, TABLE);
	struct hmm_kunit_mirror *mirror;
	int ret;

	hmm_kunit_needs_snapshot(test);
	hmm_kunit_write(test, addr, TAG);
	mirror = hmm_kunit_mirror(test, addr, 4, 0);
	hmm_kunit_kill(true);
	ret = hmm_range_snapshot(&mirror->range);
	hmm_kunit_kill(false);
	KUNIT_EXPECT_EQ(test, ret, -EINTR);
	KUNIT_EXPECT_EQ(test, hmm_range_snapshot(&mirror->range), 0);
}

/* The process is gone, its mm_struct is kept by the notifier. */
static void exited(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, TABLE);
	struct hmm_kunit_mirror *mirror;
	struct mm_struct *mm;

	hmm_kunit_needs_snapshot(test);
	hmm_kunit_write(test, addr, TAG);
	mm = hmm_kunit_fork(test);
	mirror = hmm_kunit_mirror_of(test, mm, addr, 4, 0);
	KUNIT_ASSERT_EQ(test, hmm_range_snapshot(&mirror->range), 0);
	KUNIT_EXPECT_TRUE(test, mirror->range.hmm_pfns[0] & HMM_PFN_VALID);
	hmm_kunit_reap(test, mm);
	KUNIT_EXPECT_EQ(test, hmm_range_snapshot(&mirror->range), -EFAULT);
}

static struct kunit_case hmm_snapshot_cases[] = {
	KUNIT_CASE_PARAM(snapshot_pte, pte_gen_params),
	KUNIT_CASE_PARAM(look_pte, pte_gen_params),
	KUNIT_CASE_PARAM(read_pte, pte_gen_params),
	KUNIT_CASE_PARAM(write_pte, pte_gen_params),
	KUNIT_CASE(snapshot_swap),
	KUNIT_CASE(look_swap),
#ifdef CONFIG_TRANSPARENT_HUGEPAGE
	KUNIT_CASE_PARAM(snapshot_pmd, pmd_gen_params),
	KUNIT_CASE_PARAM(look_pmd, pmd_gen_params),
	KUNIT_CASE_PARAM(read_pmd, pmd_gen_params),
	KUNIT_CASE_PARAM(write_pmd, pmd_gen_params),
#endif
#ifdef CONFIG_HAVE_ARCH_TRANSPARENT_HUGEPAGE_PUD
	KUNIT_CASE_PARAM(snapshot_pud, pud_gen_params),
	KUNIT_CASE_PARAM(look_pud, pud_gen_params),
	KUNIT_CASE_PARAM(read_pud, pud_gen_params),
	KUNIT_CASE_PARAM(write_pud, pud_gen_params),
#endif
	KUNIT_CASE(bad_ranges),
	KUNIT_CASE(output_only),
	KUNIT_CASE(sequence),
	KUNIT_CASE(killed),
	KUNIT_CASE(exited),
	{}
};

static struct kunit_suite hmm_snapshot_suite = {
	.name = "hmm_snapshot",
	.test_cases = hmm_snapshot_cases,
};

kunit_test_suite(hmm_snapshot_suite);
