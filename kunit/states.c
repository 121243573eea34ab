// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tables of states, described in states.h.
 */
#include <linux/delay.h>
#include <linux/kthread.h>

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

/* What must be said of page @addr, after @call returned 0. */
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
	state->enter(cell);
	mirror = hmm_kunit_mirror(test, start, npages, flags[call]);
	if (state->look == DEVICE)
		mirror->range.dev_private_owner = cell->pgmap;
	hmm_kunit_leaf(cell->addr, &before);
	nr_faults = hmm_kunit_nr_faults();
	if (cell->waited_for)
		kthread_run(leave_later, cell, "hmm_kunit_leave");
	ret = call == CALL_SNAPSHOT ? hmm_range_snapshot(&mirror->range) :
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
