/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tables of states: how each state of an entry is reported, at each level.
 *
 * One entry of the page tables is put into a state, in a range whose other pages
 * are there, and then
 *
 *   CALL_SNAPSHOT   hmm_range_snapshot() reports it
 *   CALL_LOOK       hmm_range_fault() does, with a range that asks for nothing
 *   CALL_READ       hmm_range_fault() makes it readable, or fails
 *   CALL_WRITE      hmm_range_fault() makes it writable, or fails
 *
 * The table has the expected result for each state; where that is a page, the page
 * tables tell which. An entry that is only looked at, or refused, stays as it is and
 * is not faulted.
 *
 * Entries are put there by hand where nothing simple leads to them. They are
 * taken away before the mm goes, so nothing may end a case before that.
 */
#ifndef HMM_KUNIT_STATES_H
#define HMM_KUNIT_STATES_H

#include <linux/completion.h>

#include "fixture.h"

enum hmm_kunit_call { CALL_SNAPSHOT, CALL_LOOK, CALL_READ, CALL_WRITE };

/* The entry of the array that is expected for a page without a request */
enum hmm_kunit_look {
	NOTHING,	/* 0 */
	ERROR,		/* HMM_PFN_ERROR */
	PAGE,		/* as the page table says */
	READONLY,	/* the same without HMM_PFN_WRITE */
	DEVICE,		/* @device of the cell, and the offset; also if asked for more */
};

/*
 * struct hmm_kunit_cell - the entry that is put into a state
 * @mm: of the test
 * @addr: of its first page
 * @npages: that lie under it
 * @folio: what it mapped before
 * @pgmap: has the device memory that it then names
 * @device: the entry of the array that is expected for the first page of that
 * @vm_flags: flags that its VMA has got
 * @waited_for: a fault waits until it is no longer in the state
 * @pte, @pmd, @pud: what it was
 * @left: it is no longer in the state
 */
struct hmm_kunit_cell {
	struct kunit *test;
	struct mm_struct *mm;
	unsigned long addr;
	unsigned long npages;
	struct folio *folio;
	struct hmm_kunit_pgmap *pgmap;
	unsigned long device;
	vm_flags_t vm_flags;
	bool waited_for;
	pte_t pte;
	pmd_t pmd;
	pud_t pud;
	const struct hmm_kunit_state *state;
	struct completion left;
};

/*
 * struct hmm_kunit_state - one line of a table
 * @enter: put the entry into it; NULL: it is
 * @leave: and back
 * @later: do that while the fault waits for it, which is one fault or a few
 * @all: the state is one of the VMA, so of all pages of the range
 * @look: the entry of the array without a request
 * @read, @write: result of hmm_range_fault() with a request
 */
struct hmm_kunit_state {
	const char *name;
	void (*enter)(struct hmm_kunit_cell *cell);
	void (*leave)(struct hmm_kunit_cell *cell);
	bool later;
	bool all;
	enum hmm_kunit_look look;
	int read;
	int write;
};

pud_t *hmm_kunit_pud(const struct hmm_kunit_cell *cell);
pmd_t *hmm_kunit_pmd(const struct hmm_kunit_cell *cell);

/* Put another entry there, or again what was there before: a PTE or a PMD. */
void hmm_kunit_set_pte(struct hmm_kunit_cell *cell, pte_t pte);
void hmm_kunit_set_pmd(struct hmm_kunit_cell *cell, pmd_t pmd);
void hmm_kunit_set_softleaf(struct hmm_kunit_cell *cell, swp_entry_t entry);
void hmm_kunit_put_back(struct hmm_kunit_cell *cell);
/* The same for a PUD; and one to start from, writable and clean. */
pud_t hmm_kunit_make_pud(void);
void hmm_kunit_set_pud(struct hmm_kunit_cell *cell, pud_t pud);
void hmm_kunit_put_pud_back(struct hmm_kunit_cell *cell);

void hmm_kunit_set_vm_flags(struct hmm_kunit_cell *cell, vm_flags_t flags);
void hmm_kunit_clear_vm_flags(struct hmm_kunit_cell *cell);

/* Put @cell into @state, do @call with a range around it, check what comes of it. */
void hmm_kunit_check_state(struct hmm_kunit_cell *cell,
			   const struct hmm_kunit_state *state,
			   enum hmm_kunit_call call, unsigned long start,
			   unsigned long npages);

/* For a PMD between others; the range starts in it, and ends in the next. */
void hmm_kunit_check_pmd(struct kunit *test, const struct hmm_kunit_state *state,
			 enum hmm_kunit_call call);
/* For a PUD, and of it a range that is longer than a table of PTEs. */
void hmm_kunit_check_pud(struct kunit *test, const struct hmm_kunit_state *state,
			 enum hmm_kunit_call call);

/* The four calls of a table, as cases snapshot_NAME and so on, by check_NAME(). */
#define HMM_KUNIT_STATE_CASES(name)						\
static void snapshot_##name(struct kunit *test)				\
{										\
	check_##name(test, CALL_SNAPSHOT);					\
}										\
static void look_##name(struct kunit *test)					\
{										\
	check_##name(test, CALL_LOOK);						\
}										\
static void read_##name(struct kunit *test)					\
{										\
	check_##name(test, CALL_READ);						\
}										\
static void write_##name(struct kunit *test)					\
{										\
	check_##name(test, CALL_WRITE);						\
}

#endif /* HMM_KUNIT_STATES_H */
