/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fixtures that the HMM suites share.
 *
 * A test mirrors a range of its own mm as a driver would: an interval notifier
 * whose callback takes the mirror's lock, a range, an array. Expected values
 * never come from HMM: hmm_kunit_leaf() reads the page tables by itself,
 * hmm_kunit_nr_faults() is the count that handle_mm_fault() keeps in the task, and a
 * test file counts the calls of its own fault handler.
 *
 * KUnit tears the test's mm down when the thread of the case ends, before it
 * frees the test's resources. So a mirror's callback may still run then: its
 * memory is a resource of the test, and the notifier keeps the mm_struct.
 *
 * Functions that need symbols which modules cannot have skip the case in a module.
 */
#ifndef HMM_KUNIT_FIXTURE_H
#define HMM_KUNIT_FIXTURE_H

#include <kunit/test.h>
#include <linux/fs.h>
#include <linux/hmm.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/spinlock.h>

/*
 * How often races are repeated: hmm_kunit.rounds, 200. Storms take a second for 200, and
 * call reset_hung_task_detector(), as KUnit sleeps until they have ended.
 */
extern unsigned int hmm_kunit_rounds;

/* Absent before the patch that adds it: a case that calls it says so. */
#ifndef CONFIG_HMM_KUNIT_HAS_SNAPSHOT
static inline int hmm_range_snapshot(struct hmm_range *range, unsigned long deadline)
{
	return -EOPNOTSUPP;
}

static inline unsigned long hmm_deadline(unsigned long timeout)
{
	return timeout ? jiffies + timeout : 0;
}
#endif

static inline void hmm_kunit_needs_snapshot(struct kunit *test)
{
	if (!IS_ENABLED(CONFIG_HMM_KUNIT_HAS_SNAPSHOT))
		kunit_skip(test, "hmm_range_snapshot() is absent");
}

/* Entries, and pages, of one page table of the lowest level. */
#define HMM_KUNIT_TABLE (PMD_SIZE / PAGE_SIZE)

/* Requests of a range */
enum {
	REQ_READ = HMM_PFN_REQ_FAULT,
	REQ_WRITE = HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE,
};

/* A mirror that needs more rounds than this to get a valid range is stuck. */
#define HMM_KUNIT_MAX_ROUNDS 1000

/* Entries of an array that nobody has filled, without bits that v7.3 keeps */
#define HMM_KUNIT_POISON \
	(~0ul / 0xff * 0x5a & \
	 ~(IS_ENABLED(CONFIG_HMM_KUNIT_HAS_FLAGS) ? 0 : HMM_KUNIT_STICKY))
#define HMM_KUNIT_STICKY (HMM_PFN_DMA_MAPPED | HMM_PFN_P2PDMA | HMM_PFN_P2PDMA_BUS)

/*
 * struct hmm_kunit_mirror - a range of user memory as a driver mirrors it
 * @notifier: covers the range
 * @lock: serialises the page tables of a driver with invalidations
 * @nr_rounds: calls of hmm_range_fault() that hmm_kunit_fault() needed
 * @nr_stale: those that returned 0 for a range that was no longer valid
 * @range: the range and its array; each entry is HMM_KUNIT_POISON at first
 */
struct hmm_kunit_mirror {
	struct mmu_interval_notifier notifier;
	spinlock_t lock;	/* see above */
	unsigned int nr_rounds;
	unsigned int nr_stale;
	struct hmm_range range;
};

/* Of the test's own mm, and of another. */
struct hmm_kunit_mirror *hmm_kunit_mirror(struct kunit *test,
					  unsigned long start,
					  unsigned long npages,
					  unsigned long default_flags);
struct hmm_kunit_mirror *hmm_kunit_mirror_of(struct kunit *test,
					     struct mm_struct *mm,
					     unsigned long start,
					     unsigned long npages,
					     unsigned long default_flags);
int hmm_kunit_fault(struct hmm_kunit_mirror *mirror);
/*
 * hmm_range_wait(), or, where it is absent, mmu_interval_read_begin(), which has no
 * deadline; and a fault under the mmap lock after that, until it does not return -EBUSY.
 */
int hmm_kunit_wait(struct hmm_range *range, unsigned long deadline);
int hmm_kunit_fault_locked(struct hmm_range *range, unsigned long deadline);
/* hmm_range_snapshot(), or, where it is absent, hmm_range_fault() without a request. */
int hmm_kunit_snapshot(struct hmm_kunit_mirror *mirror);

/*
 * struct hmm_kunit_leaf - the leaf of the page tables at an address
 * @pfn: of the page at the address
 * @order: of the entry, 0 for a PTE
 * @write: the entry is writable and dirty
 * @raw: the entry itself, also where no page is mapped
 */
struct hmm_kunit_leaf {
	unsigned long pfn;
	unsigned int order;
	bool write;
	u64 raw;
};

bool hmm_kunit_leaf(unsigned long addr, struct hmm_kunit_leaf *leaf);

/* The entry of the array for it */
static inline unsigned long hmm_kunit_leaf_entry(const struct hmm_kunit_leaf *leaf)
{
	return leaf->pfn | HMM_PFN_VALID | (leaf->write ? HMM_PFN_WRITE : 0) |
	       (unsigned long)leaf->order << HMM_PFN_ORDER_SHIFT;
}

void hmm_kunit_expect_mapped(struct kunit *test,
			     const struct hmm_kunit_mirror *mirror);

/* How often this thread has taken the mmap lock of its mm since _begin(), by tracepoints. */
struct hmm_kunit_locks *hmm_kunit_mmap_locks_begin(struct kunit *test);
unsigned int hmm_kunit_mmap_locks_end(struct kunit *test, struct hmm_kunit_locks *locks);

/* Faults that the kernel completed for this task so far. */
static inline unsigned long hmm_kunit_nr_faults(void)
{
	return current->min_flt + current->maj_flt;
}

/*
 * Every page that a test writes starts with a tag of its own; a page that it
 * did not write starts with zero.
 */
void hmm_kunit_write(struct kunit *test, unsigned long addr, u64 tag);
u64 hmm_kunit_read(struct kunit *test, unsigned long addr);
void hmm_kunit_expect_tag(struct kunit *test,
			  const struct hmm_kunit_mirror *mirror,
			  unsigned long page, u64 tag);

/* A mapping with @flags of @file, or of anonymous memory, aligned to @align bytes. */
unsigned long hmm_kunit_mmap(struct kunit *test, struct file *file,
			     unsigned long npages, unsigned long flags,
			     unsigned long align);
/* Put @file when the test is over. */
void hmm_kunit_fput_later(struct kunit *test, struct file *file);

/* Memory, aligned to PMD_SIZE, that huge pages are kept out of. */
unsigned long hmm_kunit_anon(struct kunit *test, unsigned long npages);
/* The same where the next fault maps a THP. */
unsigned long hmm_kunit_thp(struct kunit *test, unsigned long npages);
/* The same where it maps a folio of @order, which is smaller than that, if it can. */
unsigned long hmm_kunit_mthp(struct kunit *test, unsigned long npages,
			     unsigned int order);
void hmm_kunit_allow_thp(struct kunit *test, unsigned long addr,
			 unsigned long npages);
/* Empty file, and private mapping, of @npages base pages in pages of hugetlbfs. */
struct file *hmm_kunit_hugetlb_file(struct kunit *test, unsigned long npages,
				    unsigned int order);
unsigned long hmm_kunit_hugetlb(struct kunit *test, unsigned long npages,
				unsigned int order);
void hmm_kunit_madvise(struct kunit *test, unsigned long addr,
		       unsigned long npages, int advice);
/* The same for a thread that is no case: 0, or an error. */
int hmm_kunit_try_madvise(struct mm_struct *mm, unsigned long addr,
			  unsigned long npages, int advice);
/* Skip the case in a module, which cannot call mmu_notifier_invalidate_range_start(). */
void hmm_kunit_needs_events(struct kunit *test);
/* Tell the notifiers of @mm that something happens to these pages, which it does not. */
void hmm_kunit_event_begin(struct kunit *test, struct mmu_notifier_range *event,
			   struct mm_struct *mm, unsigned long addr, unsigned long npages);
void hmm_kunit_event_end(struct mmu_notifier_range *event);
/* The same for who may not wait: false if a notifier would have to. */
bool hmm_kunit_event_try_begin(struct kunit *test, struct mmu_notifier_range *event,
			       struct mm_struct *mm, unsigned long addr,
			       unsigned long npages);
bool hmm_kunit_event_try(struct kunit *test, struct mm_struct *mm, unsigned long addr,
			 unsigned long npages);
/* Both. */
void hmm_kunit_event(struct kunit *test, struct mm_struct *mm, unsigned long addr,
		     unsigned long npages);
/* The same for one page, of a kind of event that a driver causes, and of that driver. */
void hmm_kunit_owner_event(struct kunit *test, struct mm_struct *mm, unsigned long addr,
			   enum mmu_notifier_event type, void *owner);
/* Share the whole mm copy-on-write with another, as fork() does. */
struct mm_struct *hmm_kunit_fork(struct kunit *test);
/* And let go of it. */
void hmm_kunit_let_go(struct kunit *test, struct mm_struct *mm);
/* The same, and when this returns it has no users. */
void hmm_kunit_reap(struct kunit *test, struct mm_struct *mm);

/* A fatal signal is pending for this thread, or no longer. */
void hmm_kunit_kill(bool pending);
/* The same for a kernel thread that waits. */
void hmm_kunit_kill_task(struct task_struct *task);

#ifdef CONFIG_ZONE_DEVICE
/*
 * struct hmm_kunit_pgmap - memory of a device, with the struct pages of it
 * @pgmap: its owner is this structure
 * @res: where that is, if it is nothing but addresses
 * @to_ram: what migrate_to_ram() does, given @data
 */
struct hmm_kunit_pgmap {
	struct dev_pagemap pgmap;
	struct resource *res;
	vm_fault_t (*to_ram)(struct vm_fault *vmf, void *data);
	void *data;
};

/* @size bytes, in folios of @order, of which nobody may touch a single one. */
struct hmm_kunit_pgmap *hmm_kunit_pgmap(struct kunit *test, enum memory_type type,
					unsigned long size, unsigned int order);
/*
 * The same of memory that is there: the second half of a disk of persistent memory that
 * nobody uses, and that has no struct pages of its own.
 */
struct hmm_kunit_pgmap *hmm_kunit_pgmap_pmem(struct kunit *test, enum memory_type type,
					     unsigned long size);
#ifdef CONFIG_DEVICE_PRIVATE
/* Migrate folios of @order to a device, which clears them, and back. */
void hmm_kunit_round_trip(struct kunit *test, unsigned long addr, unsigned long npages,
			  unsigned int order);
#endif
#endif

#ifdef CONFIG_HMM_DAX_KUNIT_TEST
/*
 * A shared mapping, aligned to PMD_SIZE, of persistent memory, by PTEs, as of a file on
 * DAX. The memory is not cleared.
 */
unsigned long hmm_kunit_fsdax(struct kunit *test, unsigned long npages);
#endif

#ifdef CONFIG_FAULT_INJECTION_DEBUG_FS
/* Let single allocations fail, those that may sleep too; or skip the case. */
void hmm_kunit_inject(struct kunit *test);
/* From now on, the @nth allocation of this task fails, counted from 1. */
void hmm_kunit_fail_nth(unsigned int nth);
/* Whether there were so many; none fails from now on. */
bool hmm_kunit_has_failed(void);
#else
static inline void hmm_kunit_inject(struct kunit *test)
{
	kunit_skip(test, "no fault injection");
}

static inline void hmm_kunit_fail_nth(unsigned int nth)
{
}

static inline bool hmm_kunit_has_failed(void)
{
	return false;
}
#endif

/*
 * struct hmm_kunit_file - a file of the test's own, on shmem
 * @file: the file
 * @map_pages: mappings made from now on map around a read fault
 * @nr_faults: calls of the fault handler
 * @at: page offset where the handler does not just map the page; ULONG_MAX for
 *	each page in turn, from @first on
 * @first: next page for which it does so
 * @times: how often it still does so
 * @ret: and what it returns then; VM_FAULT_RETRY and VM_FAULT_COMPLETED drop the
 *	lock and are returned only where that is allowed; 0 maps the page, all
 *	else leaves it missing
 * @sleep_ms: and how long it sleeps first, in milliseconds
 * @invalidate: and whether it first unmaps the page of the file at 0
 * @kill: and whether a fatal signal is pending from then on
 * @call: and what it first calls, given @data
 * @nr_tried: calls for @at with FAULT_FLAG_TRIED
 * @nr_tried_else: and for other pages
 *
 * The file keeps its pages when they are unmapped.
 */
struct hmm_kunit_file {
	struct file *file;
	bool map_pages;
	atomic_t nr_faults;
	pgoff_t at;
	pgoff_t first;
	unsigned int times;
	vm_fault_t ret;
	unsigned int sleep_ms;
	bool invalidate;
	bool kill;
	void (*call)(void *data);
	void *data;
	unsigned int nr_tried;
	unsigned int nr_tried_else;
	/* private: what the mapping did before */
	const struct vm_operations_struct *shmem_vm_ops;
};

struct hmm_kunit_file *hmm_kunit_file(struct kunit *test, unsigned long npages);
/* From @first on, each page is in the page cache and holds tag + its offset. */
void hmm_kunit_file_fill(struct kunit *test, struct hmm_kunit_file *hf,
			 pgoff_t first, u64 tag);
/* Map the whole file with that handler, aligned to PMD_SIZE, MAP_SHARED or MAP_PRIVATE. */
unsigned long hmm_kunit_file_map(struct kunit *test, struct hmm_kunit_file *hf,
				 unsigned long flags);

#endif /* HMM_KUNIT_FIXTURE_H */
