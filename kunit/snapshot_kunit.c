// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suite hmm_snapshot: how each state of an entry is reported.
 *
 * The table, as states.h describes it, for PTEs, PMDs and PUDs. Not in it,
 * because the kernel makes no such entry: swap, markers, poison and
 * device-exclusive entries above the level of a PTE; an entry that is not present
 * at the level of a PUD. Not here either: faults of swap entries, and secret
 * memory, for want of a swap device and of a file descriptor; vm/mirror.c has
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

static pte_t get_pte_entry(struct hmm_kunit_cell *cell)
{
	return ptep_get(pte_offset_kernel(hmm_kunit_pmd(cell), cell->addr));
}

/* States of PTEs, and of VMAs, for which the level makes no difference. */

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
	hmm_kunit_set_pte(cell, pte_mkclean(get_pte_entry(cell)));
}

static void pte_swap_enter(struct hmm_kunit_cell *cell)
{
	hmm_kunit_set_softleaf(cell, swp_entry(0, 1));
}

static void pte_poison_enter(struct hmm_kunit_cell *cell)
{
	hmm_kunit_set_softleaf(cell, make_poisoned_swp_entry());
}

static void pte_guard_enter(struct hmm_kunit_cell *cell)
{
	hmm_kunit_set_softleaf(cell, make_guard_swp_entry());
}

static void migrate(struct hmm_kunit_cell *cell, swp_entry_t entry)
{
	folio_lock(cell->folio);
	hmm_kunit_set_softleaf(cell, entry);
}

static void migration_enter(struct hmm_kunit_cell *cell)
{
	migrate(cell, make_writable_migration_entry(folio_pfn(cell->folio)));
}

static void migration_exclusive_enter(struct hmm_kunit_cell *cell)
{
	migrate(cell, make_readable_exclusive_migration_entry(folio_pfn(cell->folio)));
}

static void migration_readonly_enter(struct hmm_kunit_cell *cell)
{
	migrate(cell, make_readable_migration_entry(folio_pfn(cell->folio)));
}

static void migration_leave(struct hmm_kunit_cell *cell)
{
	hmm_kunit_put_back(cell);
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
	hmm_kunit_set_pte(cell, make_pte_marker(PTE_MARKER_UFFD_WP));
}

/* Markers are bits, and may come together: an error stays one. */
static void pte_uffd_wp_poison_enter(struct hmm_kunit_cell *cell)
{
	hmm_kunit_set_pte(cell, make_pte_marker(PTE_MARKER_UFFD_WP | PTE_MARKER_POISONED));
}
#endif

#ifdef CONFIG_MEMORY_FAILURE
static void pte_hwpoison_enter(struct hmm_kunit_cell *cell)
{
	folio_lock(cell->folio);
	hmm_kunit_set_softleaf(cell, make_hwpoison_entry(folio_page(cell->folio, 0)));
	folio_unlock(cell->folio);
}
#endif

#ifdef CONFIG_ARCH_HAS_PTE_PROTNONE
static void pte_protnone_enter(struct hmm_kunit_cell *cell)
{
	hmm_kunit_set_pte(cell, pte_modify(get_pte_entry(cell), PAGE_NONE));
}
#endif

#ifdef CONFIG_ARCH_HAS_PTE_SPECIAL
static void pte_special_enter(struct hmm_kunit_cell *cell)
{
	hmm_kunit_set_vm_flags(cell, VM_MIXEDMAP);
	hmm_kunit_set_pte(cell, pte_mkspecial(get_pte_entry(cell)));
}

static void pte_special_readonly_enter(struct hmm_kunit_cell *cell)
{
	hmm_kunit_set_vm_flags(cell, VM_MIXEDMAP);
	hmm_kunit_set_pte(cell, pte_mkspecial(pte_wrprotect(get_pte_entry(cell))));
}

static void pte_special_leave(struct hmm_kunit_cell *cell)
{
	hmm_kunit_put_back(cell);
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

/* The page that is in device memory, while it is. */
static struct page *private_page(const struct hmm_kunit_cell *cell)
{
	return pfn_to_page(PHYS_PFN(cell->pgmap->pgmap.range.start));
}

static void private_leave(struct hmm_kunit_cell *cell)
{
	struct page *page;

	if (!cell->pgmap)
		return;
	page = private_page(cell);
	hmm_kunit_put_back(cell);
	cell->pgmap = NULL;
	put_page(page);
}

/* Back to system memory: the page that was there is still there. */
static vm_fault_t private_to_ram(struct vm_fault *vmf, void *data)
{
	private_leave(data);
	return 0;
}

static void private_enter(struct hmm_kunit_cell *cell, bool writable)
{
	unsigned long order = ilog2(cell->npages), pfn;

	cell->pgmap = hmm_kunit_pgmap(cell->test, MEMORY_DEVICE_PRIVATE, PMD_SIZE, 0);
	cell->pgmap->to_ram = private_to_ram;
	cell->pgmap->data = cell;
	zone_device_page_init(private_page(cell), &cell->pgmap->pgmap, order);
	unlock_page(private_page(cell));

	pfn = page_to_pfn(private_page(cell));
	cell->device = pfn | HMM_PFN_VALID | (writable ? HMM_PFN_WRITE : 0) |
		       order << HMM_PFN_ORDER_SHIFT;
	hmm_kunit_set_softleaf(cell, writable ?
				     make_writable_device_private_entry(pfn) :
				     make_readable_device_private_entry(pfn));
}

static void private_writable_enter(struct hmm_kunit_cell *cell)
{
	private_enter(cell, true);
}

static void private_readonly_enter(struct hmm_kunit_cell *cell)
{
	private_enter(cell, false);
}

/* Somebody else has the page locked, and takes his time. */
static void private_locked_enter(struct hmm_kunit_cell *cell)
{
	private_enter(cell, true);
	lock_page(private_page(cell));
}

static void private_locked_leave(struct hmm_kunit_cell *cell)
{
	unlock_page(private_page(cell));
	if (!cell->waited_for)
		private_leave(cell);
}
#endif

static const struct hmm_kunit_state pte_states[] = {
	{ "present", NULL, NULL, false, false, PAGE, 0, 0 },
	{ "none", pte_none_enter, NULL, false, false, NOTHING, 0, 0 },
	{ "zero_page", pte_zero_enter, NULL, false, false, PAGE, 0, 0 },
	{ "clean", pte_clean_enter, NULL, false, false, PAGE, 0, 0 },
	{ "migration", migration_enter, migration_leave, true, false,
	  NOTHING, 0, 0 },
	{ "migration_exclusive", migration_exclusive_enter, migration_leave, true, false,
	  NOTHING, 0, 0 },
	{ "migration_readonly", migration_readonly_enter, migration_leave, true, false,
	  NOTHING, 0, 0 },
	{ "poison_marker", pte_poison_enter, hmm_kunit_put_back, false, false, ERROR,
	  -EFAULT, -EFAULT },
	{ "guard_marker", pte_guard_enter, hmm_kunit_put_back, false, false, ERROR,
	  -EFAULT, -EFAULT },
#ifdef CONFIG_PTE_MARKER_UFFD_WP
	{ "uffd_wp_marker", pte_uffd_wp_enter, NULL, false, false, NOTHING, 0, 0 },
	{ "uffd_wp_poison_marker", pte_uffd_wp_poison_enter, hmm_kunit_put_back, false,
	  false, ERROR, -EFAULT, -EFAULT },
#endif
#ifdef CONFIG_MEMORY_FAILURE
	{ "hwpoison", pte_hwpoison_enter, hmm_kunit_put_back, false, false, ERROR,
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
	{ "private_own", private_writable_enter, private_leave, false, false, DEVICE,
	  0, 0 },
	{ "private_own_readonly", private_readonly_enter, private_leave, false,
	  false, DEVICE, 0, 0 },
	{ "private_foreign", private_writable_enter, private_leave, false, false,
	  NOTHING, 0, 0 },
	{ "private_locked", private_locked_enter, private_locked_leave, true,
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
	"swap", pte_swap_enter, hmm_kunit_put_back, false, false, NOTHING, 0, 0
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
	hmm_kunit_set_pmd(cell, pmd_mkclean(pmdp_get(hmm_kunit_pmd(cell))));
}

static void pmd_protnone_enter(struct hmm_kunit_cell *cell)
{
	hmm_kunit_set_pmd(cell, pmd_modify(pmdp_get(hmm_kunit_pmd(cell)), PAGE_NONE));
}

static const struct hmm_kunit_state pmd_states[] = {
	{ "present", NULL, NULL, false, false, PAGE, 0, 0 },
	{ "none", pmd_none_enter, NULL, false, false, NOTHING, 0, 0 },
	{ "zero_page", pmd_zero_enter, NULL, false, false, PAGE, 0, 0 },
	{ "clean", pmd_clean_enter, NULL, false, false, PAGE, 0, 0 },
	{ "protnone", pmd_protnone_enter, NULL, false, false, NOTHING, 0, 0 },
	{ "migration", migration_enter, migration_leave, true, false,
	  NOTHING, 0, 0 },
#ifdef CONFIG_DEVICE_PRIVATE
	{ "private_own", private_writable_enter, private_leave, false, false, DEVICE,
	  0, 0 },
	{ "private_own_readonly", private_readonly_enter, private_leave, false,
	  false, DEVICE, 0, 0 },
	{ "private_foreign", private_writable_enter, private_leave, false, false,
	  NOTHING, 0, 0 },
	{ "private_locked", private_locked_enter, private_locked_leave, true,
	  false, NOTHING, 0, 0 },
#endif
#ifdef CONFIG_X86_USER_SHADOW_STACK
	{ "shadow_stack", vma_shadow_stack_enter, hmm_kunit_clear_vm_flags, false,
	  true, READONLY, 0, -EPERM },
#endif
};

KUNIT_ARRAY_PARAM_DESC(pmd, pmd_states, name);

static void check_pmd(struct kunit *test, enum hmm_kunit_call call)
{
	hmm_kunit_check_pmd(test, test->param_value, call);
}

HMM_KUNIT_STATE_CASES(pmd);

#ifdef CONFIG_HAVE_ARCH_TRANSPARENT_HUGEPAGE_PUD

static void pud_present_enter(struct hmm_kunit_cell *cell)
{
	hmm_kunit_set_pud(cell, pud_mkdirty(hmm_kunit_make_pud()));
}

static void pud_clean_enter(struct hmm_kunit_cell *cell)
{
	hmm_kunit_set_pud(cell, hmm_kunit_make_pud());
}

#ifdef CONFIG_X86_USER_SHADOW_STACK
static void pud_shadow_stack_enter(struct hmm_kunit_cell *cell)
{
	pud_present_enter(cell);
	vma_shadow_stack_enter(cell);
}

static void pud_shadow_stack_leave(struct hmm_kunit_cell *cell)
{
	hmm_kunit_put_pud_back(cell);
	hmm_kunit_clear_vm_flags(cell);
}
#endif

static const struct hmm_kunit_state pud_states[] = {
	{ "present", pud_present_enter, hmm_kunit_put_pud_back, false, false, PAGE,
	  0, 0 },
	{ "clean", pud_clean_enter, hmm_kunit_put_pud_back, false, false, PAGE, 0, 0 },
#ifdef CONFIG_X86_USER_SHADOW_STACK
	{ "shadow_stack", pud_shadow_stack_enter, pud_shadow_stack_leave, false,
	  true, READONLY, 0, -EPERM },
#endif
};

KUNIT_ARRAY_PARAM_DESC(pud, pud_states, name);

static void check_pud(struct kunit *test, enum hmm_kunit_call call)
{
	hmm_kunit_check_pud(test, test->param_value, call);
}

HMM_KUNIT_STATE_CASES(pud);

#endif /* CONFIG_HAVE_ARCH_TRANSPARENT_HUGEPAGE_PUD */

#endif /* CONFIG_TRANSPARENT_HUGEPAGE */

/* hmm_range_snapshot() itself: ranges that it refuses, and its promises */

static void bad_ranges(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, TABLE);
	struct hmm_kunit_mirror *mirror;
	struct hmm_range *range, good;

	hmm_kunit_needs_snapshot(test);
	mirror = hmm_kunit_mirror(test, addr + PAGE_SIZE, 4, 0);
	range = &mirror->range;
	good = *range;
	KUNIT_EXPECT_EQ(test, hmm_range_snapshot(range, 0), 0);

	range->end = range->start;
	KUNIT_EXPECT_EQ(test, hmm_range_snapshot(range, 0), -EINVAL);
	range->end = range->start - PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, hmm_range_snapshot(range, 0), -EINVAL);
	*range = good;
	range->start++;
	KUNIT_EXPECT_EQ(test, hmm_range_snapshot(range, 0), -EINVAL);
	*range = good;
	range->end--;
	KUNIT_EXPECT_EQ(test, hmm_range_snapshot(range, 0), -EINVAL);
	*range = good;
	range->start -= PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, hmm_range_snapshot(range, 0), -EINVAL);
	*range = good;
	range->end += PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, hmm_range_snapshot(range, 0), -EINVAL);
	*range = good;
	range->hmm_pfns = NULL;
	KUNIT_EXPECT_EQ(test, hmm_range_snapshot(range, 0), -EINVAL);
	*range = good;
	KUNIT_EXPECT_EQ(test, hmm_range_snapshot(range, 0), 0);
}

/* The contents of the array before, and requests of the range, make no difference. */
static void output_only(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, TABLE), before;
	struct hmm_kunit_mirror *mirror;

	hmm_kunit_needs_snapshot(test);
	hmm_kunit_write(test, addr, TAG);
	mirror = hmm_kunit_mirror(test, addr, TABLE, REQ_WRITE);
#ifndef CONFIG_HMM_KUNIT_HAS_FLAGS
	mirror->range.pfn_flags_mask = REQ_WRITE;
#endif
	for (unsigned long i = 0; i < TABLE; i++)
		mirror->range.hmm_pfns[i] = ~0ul;
	before = hmm_kunit_nr_faults();
	KUNIT_ASSERT_EQ(test, hmm_range_snapshot(&mirror->range, 0), 0);
	KUNIT_EXPECT_EQ(test, hmm_kunit_nr_faults(), before);
	hmm_kunit_expect_tag(test, mirror, 0, TAG);
	for (unsigned long i = 1; i < TABLE; i++)
		KUNIT_ASSERT_EQ(test, mirror->range.hmm_pfns[i], 0);
}

/* The sequence is the one before the walk: an unmap that comes later is noticed. */
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
		KUNIT_ASSERT_EQ(test, hmm_range_snapshot(range, 0), 0);
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
	ret = hmm_range_snapshot(&mirror->range, 0);
	hmm_kunit_kill(false);
	KUNIT_EXPECT_EQ(test, ret, -EINTR);
	KUNIT_EXPECT_EQ(test, hmm_range_snapshot(&mirror->range, 0), 0);
}

#ifdef CONFIG_HMM_KUNIT_HAS_WAIT
/* An event is waited for until the deadline, and without one until it ends. */
static void deadline(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, TABLE), begun;
	struct hmm_kunit_mirror *mirror;
	struct mmu_notifier_range event;

	hmm_kunit_write(test, addr, TAG);
	mirror = hmm_kunit_mirror(test, addr, 4, 0);
	hmm_kunit_event_begin(test, &event, current->mm, addr, 1);
	begun = jiffies;
	KUNIT_EXPECT_EQ(test, hmm_range_snapshot(&mirror->range, begun + HZ / 10), -EBUSY);
	KUNIT_EXPECT_GE(test, jiffies - begun, HZ / 10);
	KUNIT_EXPECT_EQ(test, hmm_range_snapshot(&mirror->range, begun), -EBUSY);
	hmm_kunit_event_end(&event);
	KUNIT_EXPECT_EQ(test, hmm_range_snapshot(&mirror->range, 0), 0);
	hmm_kunit_expect_tag(test, mirror, 0, TAG);
}
#endif

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
	KUNIT_ASSERT_EQ(test, hmm_range_snapshot(&mirror->range, 0), 0);
	KUNIT_EXPECT_TRUE(test, mirror->range.hmm_pfns[0] & HMM_PFN_VALID);
	hmm_kunit_reap(test, mm);
	KUNIT_EXPECT_EQ(test, hmm_range_snapshot(&mirror->range, 0), -EFAULT);
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
#ifdef CONFIG_HAVE_ARCH_TRANSPARENT_HUGEPAGE_PUD
	KUNIT_CASE_PARAM(snapshot_pud, pud_gen_params),
	KUNIT_CASE_PARAM(look_pud, pud_gen_params),
	KUNIT_CASE_PARAM(read_pud, pud_gen_params),
	KUNIT_CASE_PARAM(write_pud, pud_gen_params),
#endif
#endif
	KUNIT_CASE(bad_ranges),
	KUNIT_CASE(output_only),
	KUNIT_CASE(sequence),
	KUNIT_CASE(killed),
#ifdef CONFIG_HMM_KUNIT_HAS_WAIT
	KUNIT_CASE(deadline),
#endif
	KUNIT_CASE(exited),
	{}
};

static struct kunit_suite hmm_snapshot_suite = {
	.name = "hmm_snapshot",
	.test_cases = hmm_snapshot_cases,
};

kunit_test_suite(hmm_snapshot_suite);
