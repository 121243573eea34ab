// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tables of states, described in states.h.
 */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/pgtable.h>
#include <linux/swapops.h>

#include "states.h"

pud_t *hmm_kunit_pud(const struct hmm_kunit_cell *cell)
{
	pgd_t *pgd = pgd_offset(cell->mm, cell->addr);

	return pud_offset(p4d_offset(pgd, cell->addr), cell->addr);
}

pmd_t *hmm_kunit_pmd(const struct hmm_kunit_cell *cell)
{
	return pmd_offset(hmm_kunit_pud(cell), cell->addr);
}

void hmm_kunit_set_pte(struct hmm_kunit_cell *cell, pte_t pte)
{
	pmd_t *pmd = hmm_kunit_pmd(cell);
	pte_t *ptep = pte_offset_kernel(pmd, cell->addr);
	spinlock_t *ptl = pte_lockptr(cell->mm, pmd);

	spin_lock(ptl);
	cell->pte = ptep_get(ptep);
	set_pte_at(cell->mm, cell->addr, ptep, pte);
	spin_unlock(ptl);
}

#ifdef CONFIG_TRANSPARENT_HUGEPAGE

void hmm_kunit_set_pmd(struct hmm_kunit_cell *cell, pmd_t pmd)
{
	pmd_t *pmdp = hmm_kunit_pmd(cell);
	spinlock_t *ptl = pmd_lock(cell->mm, pmdp);

	cell->pmd = pmdp_get(pmdp);
	set_pmd_at(cell->mm, cell->addr, pmdp, pmd);
	spin_unlock(ptl);
}

void hmm_kunit_check_pmd(struct kunit *test, const struct hmm_kunit_state *state,
			 enum hmm_kunit_call call)
{
	unsigned long addr = hmm_kunit_thp(test, 3 * HMM_KUNIT_TABLE);
	struct hmm_kunit_cell cell = {
		.test = test,
		.addr = addr + PMD_SIZE,
		.npages = HMM_KUNIT_TABLE,
	};
	struct hmm_kunit_leaf leaf;

	for (int i = 0; i < 3; i++) {
		hmm_kunit_write(test, addr + i * PMD_SIZE, 1 + i);
		KUNIT_ASSERT_TRUE(test, hmm_kunit_leaf(addr + i * PMD_SIZE, &leaf));
		KUNIT_ASSERT_EQ(test, leaf.order, HPAGE_PMD_ORDER);
	}
	KUNIT_ASSERT_TRUE(test, hmm_kunit_leaf(cell.addr, &leaf));
	cell.folio = pfn_folio(leaf.pfn);
	hmm_kunit_check_state(&cell, state, call, cell.addr + 7 * PAGE_SIZE,
			      HMM_KUNIT_TABLE - 7 + 3);
}

#ifdef CONFIG_HAVE_ARCH_TRANSPARENT_HUGEPAGE_PUD

/* No user may access it, so nothing is accounted for it. */
pud_t hmm_kunit_make_pud(void)
{
	pgprot_t prot = __pgprot(pgprot_val(PAGE_SHARED) & ~_PAGE_USER);

	return pud_mkhuge(pfn_pud(PUD_SIZE >> PAGE_SHIFT, prot));
}

void hmm_kunit_set_pud(struct hmm_kunit_cell *cell, pud_t pud)
{
	pud_t *pudp = hmm_kunit_pud(cell);
	spinlock_t *ptl = pud_lock(cell->mm, pudp);

	cell->pud = pudp_get(pudp);
	set_pud_at(cell->mm, cell->addr, pudp, pud);
	spin_unlock(ptl);
}

void hmm_kunit_put_pud_back(struct hmm_kunit_cell *cell)
{
	spinlock_t *ptl = pud_lock(cell->mm, hmm_kunit_pud(cell));

	set_pud(hmm_kunit_pud(cell), cell->pud);
	spin_unlock(ptl);
}

void hmm_kunit_check_pud(struct kunit *test, const struct hmm_kunit_state *state,
			 enum hmm_kunit_call call)
{
	struct hmm_kunit_cell cell = {
		.test = test,
		.npages = PUD_SIZE / PAGE_SIZE,
	};
	unsigned long addr = hmm_kunit_anon(test, 2 * cell.npages);

	/* Its neighbour gets a page, so the table of PUDs is there. */
	cell.addr = ALIGN(addr + PAGE_SIZE, PUD_SIZE);
	hmm_kunit_write(test, cell.addr - PAGE_SIZE, 1);
	hmm_kunit_check_state(&cell, state, call, cell.addr + 7 * PAGE_SIZE,
			      HMM_KUNIT_TABLE + 9);
}

#endif /* CONFIG_HAVE_ARCH_TRANSPARENT_HUGEPAGE_PUD */

#endif /* CONFIG_TRANSPARENT_HUGEPAGE */

void hmm_kunit_set_softleaf(struct hmm_kunit_cell *cell, swp_entry_t entry)
{
#ifdef CONFIG_TRANSPARENT_HUGEPAGE
	if (cell->npages > 1) {
		hmm_kunit_set_pmd(cell, swp_entry_to_pmd(entry));
		return;
	}
#endif
	hmm_kunit_set_pte(cell, swp_entry_to_pte(entry));
}

void hmm_kunit_put_back(struct hmm_kunit_cell *cell)
{
#ifdef CONFIG_TRANSPARENT_HUGEPAGE
	if (cell->npages > 1) {
		hmm_kunit_set_pmd(cell, cell->pmd);
		return;
	}
#endif
	hmm_kunit_set_pte(cell, cell->pte);
}

void hmm_kunit_set_vm_flags(struct hmm_kunit_cell *cell, vm_flags_t flags)
{
	struct vm_area_struct *vma;

	mmap_write_lock(cell->mm);
	vma = vma_lookup(cell->mm, cell->addr);
	cell->vm_flags = flags & ~vma->vm_flags;
	vm_flags_set(vma, flags);
	mmap_write_unlock(cell->mm);
}

void hmm_kunit_clear_vm_flags(struct hmm_kunit_cell *cell)
{
	mmap_write_lock(cell->mm);
	vm_flags_clear(vma_lookup(cell->mm, cell->addr), cell->vm_flags);
	mmap_write_unlock(cell->mm);
}

static int leave_later(void *data)
{
	struct hmm_kunit_cell *cell = data;

	msleep(20);
	cell->state->leave(cell);
	complete(&cell->left);
	return 0;
}

/* The entry that is expected for the page at @addr, after @call returned 0 */
static unsigned long expected(const struct hmm_kunit_cell *cell,
			      enum hmm_kunit_call call, unsigned long addr)
{
	bool in_cell = addr >= cell->addr &&
		addr < cell->addr + cell->npages * PAGE_SIZE;
	enum hmm_kunit_look look = in_cell || cell->state->all ? cell->state->look : PAGE;
	struct hmm_kunit_leaf leaf;
	unsigned long want;

	if (look == DEVICE)
		return cell->device + ((addr - cell->addr) >> PAGE_SHIFT);
	if (call == CALL_SNAPSHOT || call == CALL_LOOK) {
		if (look == NOTHING)
			return 0;
		if (look == ERROR)
			return HMM_PFN_ERROR;
	}
	if (!hmm_kunit_leaf(addr, &leaf))
		return ~0ul;
	want = hmm_kunit_leaf_entry(&leaf);
	if (look == READONLY)
		want &= ~HMM_PFN_WRITE;
	if (call == CALL_WRITE && !(want & HMM_PFN_WRITE))
		return ~0ul;
	return want;
}

void hmm_kunit_check_state(struct hmm_kunit_cell *cell,
			   const struct hmm_kunit_state *state,
			   enum hmm_kunit_call call, unsigned long start,
			   unsigned long npages)
{
	const unsigned long flags[] = { 0, 0, REQ_READ, REQ_WRITE };
	const int want_ret = call == CALL_READ ? state->read :
			     call == CALL_WRITE ? state->write : 0;
	struct kunit *test = cell->test;
	struct hmm_kunit_mirror *mirror;
	unsigned long nr_faults;
	struct hmm_kunit_leaf before, after;
	int ret;

	if (call == CALL_SNAPSHOT)
		hmm_kunit_needs_snapshot(test);

	cell->mm = current->mm;
	cell->state = state;
	cell->waited_for = state->later && call >= CALL_READ;
	init_completion(&cell->left);
	if (state->enter)
		state->enter(cell);
	mirror = hmm_kunit_mirror(test, start, npages, flags[call]);
	if (state->look == DEVICE)
		mirror->range.dev_private_owner = cell->pgmap;
	hmm_kunit_leaf(cell->addr, &before);
	nr_faults = hmm_kunit_nr_faults();
	if (cell->waited_for)
		kthread_run(leave_later, cell, "hmm_kunit_leave");
	ret = call == CALL_SNAPSHOT ? hmm_range_snapshot(&mirror->range, 0) :
				 hmm_kunit_fault(mirror);
	nr_faults = hmm_kunit_nr_faults() - nr_faults;
	hmm_kunit_leaf(cell->addr, &after);
	if (cell->waited_for) {
		wait_for_completion(&cell->left);
		KUNIT_EXPECT_LE(test, nr_faults, 4);
	}

	KUNIT_EXPECT_EQ(test, ret, want_ret);
	if (call == CALL_SNAPSHOT || call == CALL_LOOK || want_ret ||
	    state->look == DEVICE) {
		KUNIT_EXPECT_EQ(test, nr_faults, 0);
		KUNIT_EXPECT_EQ(test, after.raw, before.raw);
	}
	for (unsigned long i = 0; !ret && !want_ret && i < npages; i++) {
		unsigned long want = expected(cell, call, start + i * PAGE_SIZE);

		if (mirror->range.hmm_pfns[i] != want) {
			KUNIT_FAIL(test, "page %lu is %#lx, expected %#lx", i,
				   mirror->range.hmm_pfns[i], want);
			break;
		}
	}
	if (state->leave && !cell->waited_for)
		state->leave(cell);
}
