// SPDX-License-Identifier: GPL-2.0-only
/*
 * Fixtures of the HMM suites, described in fixture.h.
 */
#include <linux/completion.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/highmem.h>
#include <linux/hugetlb.h>
#include <linux/migrate.h>
#include <linux/mman.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/sched/task.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <linux/uaccess.h>
#include <trace/events/mmap_lock.h>

#include "fixture.h"

unsigned int hmm_kunit_rounds = 200;
module_param_named(rounds, hmm_kunit_rounds, uint, 0444);
MODULE_PARM_DESC(rounds, "How often races are repeated");

static bool hmm_kunit_invalidate(struct mmu_interval_notifier *notifier,
				 const struct mmu_notifier_range *event,
				 unsigned long cur_seq)
{
	struct hmm_kunit_mirror *mirror =
		container_of(notifier, struct hmm_kunit_mirror, notifier);

	spin_lock(&mirror->lock);
	mmu_interval_set_seq(notifier, cur_seq);
	spin_unlock(&mirror->lock);
	return true;
}

static const struct mmu_interval_notifier_ops hmm_kunit_notifier_ops = {
	.invalidate = hmm_kunit_invalidate,
};

static void hmm_kunit_mirror_remove(void *mirror)
{
	mmu_interval_notifier_remove(&((struct hmm_kunit_mirror *)mirror)->notifier);
}

KUNIT_DEFINE_ACTION_WRAPPER(hmm_kunit_kvfree, kvfree, const void *);
KUNIT_DEFINE_ACTION_WRAPPER(hmm_kunit_fput, fput, struct file *);

struct hmm_kunit_mirror *hmm_kunit_mirror(struct kunit *test,
					  unsigned long start,
					  unsigned long npages,
					  unsigned long default_flags)
{
	return hmm_kunit_mirror_of(test, current->mm, start, npages, default_flags);
}

/* A mirror of @npages pages from @start; its range asks for @default_flags. */
struct hmm_kunit_mirror *hmm_kunit_mirror_of(struct kunit *test,
					     struct mm_struct *mm,
					     unsigned long start,
					     unsigned long npages,
					     unsigned long default_flags)
{
	struct hmm_kunit_mirror *mirror;
	unsigned long *pfns;

	mirror = kunit_kzalloc(test, sizeof(*mirror), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, mirror);
	pfns = kvmalloc_array(npages, sizeof(*pfns), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, pfns);
	for (unsigned long i = 0; i < npages; i++)
		pfns[i] = HMM_KUNIT_POISON;
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, hmm_kunit_kvfree,
							   pfns));

	spin_lock_init(&mirror->lock);
	mirror->range = (struct hmm_range) {
		.notifier = &mirror->notifier,
		.start = start,
		.end = start + npages * PAGE_SIZE,
		.hmm_pfns = pfns,
		.default_flags = default_flags,
	};
	KUNIT_ASSERT_EQ(test, 0,
			mmu_interval_notifier_insert(&mirror->notifier, mm, start,
						     npages * PAGE_SIZE,
						     &hmm_kunit_notifier_ops));
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, hmm_kunit_mirror_remove,
						  mirror));
	return mirror;
}

struct hmm_kunit_locks {
	struct task_struct *task;
	unsigned int nr;
};

static void count_lock(void *data, struct mm_struct *mm, bool write, bool success)
{
	struct hmm_kunit_locks *locks = data;

	if (locks->task == current && mm == current->mm && success)
		locks->nr++;
}

static void count_end(void *data)
{
	unregister_trace_mmap_lock_acquire_returned(count_lock, data);
	tracepoint_synchronize_unregister();
}

struct hmm_kunit_locks *hmm_kunit_mmap_locks_begin(struct kunit *test)
{
	struct hmm_kunit_locks *locks = kunit_kzalloc(test, sizeof(*locks), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, locks);
	locks->task = current;
	KUNIT_ASSERT_EQ(test, 0, register_trace_mmap_lock_acquire_returned(count_lock, locks));
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, count_end, locks));
	return locks;
}

unsigned int hmm_kunit_mmap_locks_end(struct kunit *test, struct hmm_kunit_locks *locks)
{
	kunit_release_action(test, count_end, locks);
	return locks->nr;
}

/* It is absent before the patch that adds it. */
int hmm_kunit_wait(struct hmm_range *range, unsigned long deadline)
{
#ifdef CONFIG_HMM_KUNIT_HAS_WAIT
	return hmm_range_wait(range, deadline);
#else
	range->notifier_seq = mmu_interval_read_begin(range->notifier);
	return 0;
#endif
}

/* As amdgpu does. */
int hmm_kunit_fault_locked(struct hmm_range *range, unsigned long deadline)
{
	int ret;

	do {
		ret = hmm_kunit_wait(range, deadline);
		if (ret)
			return ret;
		mmap_read_lock(current->mm);
		ret = hmm_range_fault(range);
		mmap_read_unlock(current->mm);
	} while (ret == -EBUSY);
	return ret;
}

/* As a driver: hmm_range_fault() until the result is valid, or an error. */
int hmm_kunit_fault(struct hmm_kunit_mirror *mirror)
{
	struct hmm_range *range = &mirror->range;
	int ret;

	mirror->nr_rounds = 0;
	mirror->nr_stale = 0;
	do {
		mirror->nr_rounds++;
		range->notifier_seq = mmu_interval_read_begin(range->notifier);
		mmap_read_lock(current->mm);
		ret = hmm_range_fault(range);
		mmap_read_unlock(current->mm);
		if (ret)
			continue;

		spin_lock(&mirror->lock);
		if (mmu_interval_read_retry(range->notifier, range->notifier_seq)) {
			mirror->nr_stale++;
			ret = -EBUSY;
		}
		spin_unlock(&mirror->lock);
	} while (ret == -EBUSY && mirror->nr_rounds < HMM_KUNIT_MAX_ROUNDS);

	return ret;
}

int hmm_kunit_snapshot(struct hmm_kunit_mirror *mirror)
{
	return IS_ENABLED(CONFIG_HMM_KUNIT_HAS_SNAPSHOT) ?
		hmm_range_snapshot(&mirror->range, 0) : hmm_kunit_fault(mirror);
}

static bool hmm_kunit_set_leaf(struct hmm_kunit_leaf *leaf, unsigned long addr,
			       unsigned long pfn, unsigned int shift, bool write)
{
	leaf->pfn = pfn + ((addr & (BIT(shift) - 1)) >> PAGE_SHIFT);
	leaf->order = shift - PAGE_SHIFT;
	leaf->write = write;
	return true;
}

/*
 * The oracle: read the page tables of the test's mm at @addr. Nothing else may
 * change them meanwhile. Returns false where no page is mapped.
 */
bool hmm_kunit_leaf(unsigned long addr, struct hmm_kunit_leaf *leaf)
{
	pgd_t *pgd = pgd_offset(current->mm, addr);
	p4d_t *p4d;
	pud_t pud;
	pmd_t pmd;
	pte_t pte;

	leaf->raw = 0;
	if (pgd_none(pgdp_get(pgd)))
		return false;
	p4d = p4d_offset(pgd, addr);
	if (p4d_none(p4dp_get(p4d)))
		return false;

	pud = pudp_get(pud_offset(p4d, addr));
	leaf->raw = pud_val(pud);
	if (!pud_present(pud))
		return false;
#if defined(CONFIG_TRANSPARENT_HUGEPAGE) && \
	defined(CONFIG_HAVE_ARCH_TRANSPARENT_HUGEPAGE_PUD)
	if (pud_leaf(pud))
		return hmm_kunit_set_leaf(leaf, addr, pud_pfn(pud), PUD_SHIFT,
					  pud_write(pud) && pud_dirty(pud));
#endif

	pmd = pmdp_get(pmd_offset(pud_offset(p4d, addr), addr));
	leaf->raw = pmd_val(pmd);
	if (!pmd_present(pmd))
		return false;
	if (pmd_leaf(pmd))
		return hmm_kunit_set_leaf(leaf, addr, pmd_pfn(pmd), PMD_SHIFT,
					  pmd_write(pmd) && pmd_dirty(pmd));

	pte = ptep_get(pte_offset_kernel(pmd_offset(pud_offset(p4d, addr), addr),
					 addr));
	leaf->raw = pte_val(pte);
	if (!pte_present(pte))
		return false;
	return hmm_kunit_set_leaf(leaf, addr, pte_pfn(pte), PAGE_SHIFT,
				  pte_write(pte) && pte_dirty(pte));
}

/* Every page of the range is mapped, and the array says how. */
void hmm_kunit_expect_mapped(struct kunit *test,
			     const struct hmm_kunit_mirror *mirror)
{
	const struct hmm_range *range = &mirror->range;
	struct hmm_kunit_leaf leaf;
	unsigned long addr, i;

	for (i = 0, addr = range->start; addr < range->end; addr += PAGE_SIZE, i++) {
		unsigned long want;

		if (!hmm_kunit_leaf(addr, &leaf)) {
			KUNIT_FAIL(test, "page %lu is not mapped", i);
			return;
		}
		want = hmm_kunit_leaf_entry(&leaf);
		if (range->hmm_pfns[i] != want) {
			KUNIT_FAIL(test, "page %lu is %#lx, the page table says %#lx",
				   i, range->hmm_pfns[i], want);
			return;
		}
	}
}

void hmm_kunit_write(struct kunit *test, unsigned long addr, u64 tag)
{
	KUNIT_ASSERT_EQ(test, 0, copy_to_user((void __user *)addr, &tag,
					      sizeof(tag)));
}

u64 hmm_kunit_read(struct kunit *test, unsigned long addr)
{
	u64 tag;

	KUNIT_ASSERT_EQ(test, 0, copy_from_user(&tag, (void __user *)addr,
						sizeof(tag)));
	return tag;
}

/* Page @page of the range, as its array names it, holds @tag. */
void hmm_kunit_expect_tag(struct kunit *test,
			  const struct hmm_kunit_mirror *mirror,
			  unsigned long page, u64 tag)
{
	unsigned long hmm_pfn = mirror->range.hmm_pfns[page];
	u64 *kaddr;

	KUNIT_ASSERT_TRUE_MSG(test, hmm_pfn & HMM_PFN_VALID, "page %lu is %#lx",
			      page, hmm_pfn);
	kaddr = kmap_local_page(hmm_pfn_to_page(hmm_pfn));
	KUNIT_EXPECT_EQ_MSG(test, *kaddr, tag, "page %lu", page);
	kunmap_local(kaddr);
}

void hmm_kunit_fput_later(struct kunit *test, struct file *file)
{
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, hmm_kunit_fput,
							   file));
}

unsigned long hmm_kunit_mmap(struct kunit *test, struct file *file,
			     unsigned long npages, unsigned long flags,
			     unsigned long align)
{
	unsigned long len = npages * PAGE_SIZE, addr;

	/* An aligned place: the hole that a larger mapping leaves. */
	addr = kunit_vm_mmap(test, NULL, 0, len + align, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS, 0);
	KUNIT_ASSERT_TRUE(test, addr && !IS_ERR_VALUE(addr));
	addr = kunit_vm_mmap(test, file, ALIGN(addr, align), len,
			     PROT_READ | PROT_WRITE, MAP_FIXED | flags, 0);
	KUNIT_ASSERT_TRUE(test, addr && !IS_ERR_VALUE(addr));
	return addr;
}

void hmm_kunit_needs_events(struct kunit *test)
{
	if (IS_MODULE(CONFIG_HMM_KUNIT_TEST))
		kunit_skip(test, "a module cannot call mmu_notifier_invalidate_range_start()");
}

#ifdef MODULE

void hmm_kunit_madvise(struct kunit *test, unsigned long addr,
		       unsigned long npages, int advice)
{
	kunit_skip(test, "a module cannot call do_madvise()");
}

int hmm_kunit_try_madvise(struct mm_struct *mm, unsigned long addr,
			  unsigned long npages, int advice)
{
	return -EOPNOTSUPP;
}

void hmm_kunit_event_begin(struct kunit *test, struct mmu_notifier_range *event,
			   struct mm_struct *mm, unsigned long addr, unsigned long npages)
{
	hmm_kunit_needs_events(test);
}

void hmm_kunit_event_end(struct mmu_notifier_range *event)
{
}

bool hmm_kunit_event_try_begin(struct kunit *test, struct mmu_notifier_range *event,
			       struct mm_struct *mm, unsigned long addr,
			       unsigned long npages)
{
	hmm_kunit_needs_events(test);
	return false;
}

void hmm_kunit_owner_event(struct kunit *test, struct mm_struct *mm, unsigned long addr,
			   enum mmu_notifier_event type, void *owner)
{
	hmm_kunit_needs_events(test);
}

void hmm_kunit_allow_thp(struct kunit *test, unsigned long addr,
			 unsigned long npages)
{
	kunit_skip(test, "a module cannot call do_madvise()");
}

struct mm_struct *hmm_kunit_fork(struct kunit *test)
{
	kunit_skip(test, "a module cannot call kernel_clone()");
}

void hmm_kunit_let_go(struct kunit *test, struct mm_struct *mm)
{
}

void hmm_kunit_reap(struct kunit *test, struct mm_struct *mm)
{
}

struct file *hmm_kunit_hugetlb_file(struct kunit *test, unsigned long npages,
				    unsigned int order)
{
	kunit_skip(test, "a module cannot call hugetlb_file_setup()");
}

#else

void hmm_kunit_allow_thp(struct kunit *test, unsigned long addr,
			 unsigned long npages)
{
#ifdef CONFIG_TRANSPARENT_HUGEPAGE
	if (!(transparent_hugepage_flags & (BIT(TRANSPARENT_HUGEPAGE_FLAG) |
					    BIT(TRANSPARENT_HUGEPAGE_REQ_MADV_FLAG))))
		kunit_skip(test, "transparent huge pages are switched off");
	/* As if khugepaged had the mm already: it must not collapse anything. */
	mm_flags_set(MMF_VM_HUGEPAGE, current->mm);
	hmm_kunit_madvise(test, addr, npages, MADV_HUGEPAGE);
#else
	kunit_skip(test, "no transparent huge pages");
#endif
}

void hmm_kunit_madvise(struct kunit *test, unsigned long addr,
		       unsigned long npages, int advice)
{
	KUNIT_ASSERT_EQ(test, 0, hmm_kunit_try_madvise(current->mm, addr, npages,
						       advice));
}

int hmm_kunit_try_madvise(struct mm_struct *mm, unsigned long addr,
			  unsigned long npages, int advice)
{
	return do_madvise(mm, addr, npages * PAGE_SIZE, advice);
}

void hmm_kunit_event_begin(struct kunit *test, struct mmu_notifier_range *event,
			   struct mm_struct *mm, unsigned long addr, unsigned long npages)
{
	mmu_notifier_range_init(event, MMU_NOTIFY_CLEAR, 0, mm, addr,
				addr + npages * PAGE_SIZE);
	mmu_notifier_invalidate_range_start(event);
}

void hmm_kunit_event_end(struct mmu_notifier_range *event)
{
	mmu_notifier_invalidate_range_end(event);
}

bool hmm_kunit_event_try_begin(struct kunit *test, struct mmu_notifier_range *event,
			       struct mm_struct *mm, unsigned long addr,
			       unsigned long npages)
{
	mmu_notifier_range_init(event, MMU_NOTIFY_CLEAR, 0, mm, addr,
				addr + npages * PAGE_SIZE);
	return !mmu_notifier_invalidate_range_start_nonblock(event);
}

void hmm_kunit_owner_event(struct kunit *test, struct mm_struct *mm, unsigned long addr,
			   enum mmu_notifier_event type, void *owner)
{
	struct mmu_notifier_range event;

	mmu_notifier_range_init_owner(&event, type, 0, mm, addr, addr + PAGE_SIZE, owner);
	mmu_notifier_invalidate_range_start(&event);
	mmu_notifier_invalidate_range_end(&event);
}

struct hmm_kunit_fork {
	struct mm_struct *mm;
	struct completion done;
};

static int hmm_kunit_fork_child(void *data)
{
	struct hmm_kunit_fork *fork = data;

	mmget(current->mm);
	fork->mm = current->mm;
	complete(&fork->done);
	do_exit(0);
}

KUNIT_DEFINE_ACTION_WRAPPER(hmm_kunit_mmput, mmput, struct mm_struct *);

struct mm_struct *hmm_kunit_fork(struct kunit *test)
{
	struct hmm_kunit_fork fork = { };
	struct kernel_clone_args args = {
		.exit_signal = SIGCHLD,
		.fn = hmm_kunit_fork_child,
		.fn_arg = &fork,
	};
	pid_t pid;

	init_completion(&fork.done);
	pid = kernel_clone(&args);
	KUNIT_ASSERT_GT(test, pid, 0);
	wait_for_completion(&fork.done);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, hmm_kunit_mmput,
							   fork.mm));
	return fork.mm;
}

void hmm_kunit_let_go(struct kunit *test, struct mm_struct *mm)
{
	kunit_release_action(test, hmm_kunit_mmput, mm);
}

void hmm_kunit_reap(struct kunit *test, struct mm_struct *mm)
{
	hmm_kunit_let_go(test, mm);
	/* The child has a reference until it has exited. */
	while (atomic_read(&mm->mm_users))
		fsleep(1000);
}

struct file *hmm_kunit_hugetlb_file(struct kunit *test, unsigned long npages,
				    unsigned int order)
{
	struct file *file;

	file = hugetlb_file_setup(HUGETLB_ANON_FILE, npages * PAGE_SIZE,
				  mk_vma_flags(VMA_NORESERVE_BIT),
				  HUGETLB_ANONHUGE_INODE, order + PAGE_SHIFT);
	if (IS_ERR(file))
		kunit_skip(test, "no hugetlbfs with pages of order %u: %pe", order,
			   file);
	hmm_kunit_fput_later(test, file);
	return file;
}

#endif /* MODULE */

bool hmm_kunit_event_try(struct kunit *test, struct mm_struct *mm, unsigned long addr,
			 unsigned long npages)
{
	struct mmu_notifier_range event;

	if (!hmm_kunit_event_try_begin(test, &event, mm, addr, npages))
		return false;
	hmm_kunit_event_end(&event);
	return true;
}

void hmm_kunit_event(struct kunit *test, struct mm_struct *mm, unsigned long addr,
		     unsigned long npages)
{
	struct mmu_notifier_range event;

	hmm_kunit_event_begin(test, &event, mm, addr, npages);
	hmm_kunit_event_end(&event);
}

unsigned long hmm_kunit_hugetlb(struct kunit *test, unsigned long npages,
				unsigned int order)
{
	struct file *file = hmm_kunit_hugetlb_file(test, npages, order);

#ifdef CONFIG_HUGETLB_PAGE
	/* Those of the case before may still be on their way back. */
	for (int i = 0; i < 100 &&
	     hstate_file(file)->free_huge_pages < npages >> order; i++)
		msleep(20);
	if (hstate_file(file)->free_huge_pages < npages >> order)
		kunit_skip(test, "boot with %lu free huge pages of order %u",
			   npages >> order, order);
#endif
	return hmm_kunit_mmap(test, file, npages, MAP_PRIVATE | MAP_HUGETLB,
			      PAGE_SIZE << order);
}

/* Nobody else sends this thread a signal, so it needs no lock. */
void hmm_kunit_kill_task(struct task_struct *task)
{
	sigaddset(&task->pending.signal, SIGKILL);
	set_tsk_thread_flag(task, TIF_SIGPENDING);
	wake_up_process(task);
}

void hmm_kunit_kill(bool pending)
{
	if (pending) {
		hmm_kunit_kill_task(current);
	} else {
		sigdelset(&current->pending.signal, SIGKILL);
		clear_thread_flag(TIF_SIGPENDING);
	}
}

#ifdef CONFIG_ZONE_DEVICE

static void hmm_kunit_folio_free(struct folio *folio)
{
}

static vm_fault_t hmm_kunit_migrate_to_ram(struct vm_fault *vmf)
{
	struct hmm_kunit_pgmap *pgmap = page_pgmap(vmf->page)->owner;

	return pgmap->to_ram(vmf, pgmap->data);
}

static const struct dev_pagemap_ops hmm_kunit_pagemap_ops = {
	.folio_free = hmm_kunit_folio_free,
	.migrate_to_ram = hmm_kunit_migrate_to_ram,
};

static void hmm_kunit_pgmap_remove(void *data)
{
	struct hmm_kunit_pgmap *pgmap = data;

	memunmap_pages(&pgmap->pgmap);
	if (pgmap->res)
		release_mem_region(pgmap->res->start, resource_size(pgmap->res));
}

static void hmm_kunit_pgmap_init(struct kunit *test, struct hmm_kunit_pgmap *pgmap,
				 enum memory_type type, u64 start, u64 end,
				 unsigned int order)
{
	void *addr;

	pgmap->pgmap.type = type;
	pgmap->pgmap.range.start = start;
	pgmap->pgmap.range.end = end - 1;
	pgmap->pgmap.nr_range = 1;
	pgmap->pgmap.vmemmap_shift = order;
	pgmap->pgmap.ops = &hmm_kunit_pagemap_ops;
	pgmap->pgmap.owner = pgmap;
	addr = memremap_pages(&pgmap->pgmap, NUMA_NO_NODE);
	if (IS_ERR(addr) && pgmap->res)
		release_mem_region(pgmap->res->start, resource_size(pgmap->res));
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, addr);
	KUNIT_ASSERT_EQ(test, 0,
			kunit_add_action_or_reset(test, hmm_kunit_pgmap_remove,
						  pgmap));
}

struct hmm_kunit_pgmap *hmm_kunit_pgmap(struct kunit *test, enum memory_type type,
					unsigned long size, unsigned int order)
{
	struct hmm_kunit_pgmap *pgmap;

	pgmap = kunit_kzalloc(test, sizeof(*pgmap), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, pgmap);
	/* The place is aligned to sections only. */
	if (order)
		size += PAGE_SIZE << order;
	pgmap->res = request_free_mem_region(&iomem_resource, size, "hmm_kunit");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, pgmap->res);
	hmm_kunit_pgmap_init(test, pgmap, type,
			     ALIGN(pgmap->res->start, PAGE_SIZE << order),
			     ALIGN_DOWN(pgmap->res->end + 1, PAGE_SIZE << order), order);
	return pgmap;
}

static int hmm_kunit_pgmap_find(struct resource *res, void *data)
{
	*(struct resource *)data = *res;
	return 1;
}

struct hmm_kunit_pgmap *hmm_kunit_pgmap_pmem(struct kunit *test, enum memory_type type,
					     unsigned long size)
{
	struct hmm_kunit_pgmap *pgmap = kunit_kzalloc(test, sizeof(*pgmap), GFP_KERNEL);
	struct resource res;
	u64 start;

	KUNIT_ASSERT_NOT_NULL(test, pgmap);
	if (walk_iomem_res_desc(IORES_DESC_PERSISTENT_MEMORY, IORESOURCE_MEM, 0, -1, &res,
				hmm_kunit_pgmap_find) != 1)
		kunit_skip(test, "no persistent memory");
	start = ALIGN(res.start + resource_size(&res) / 2, SZ_128M);
	KUNIT_ASSERT_LE(test, start + size - 1, res.end);
	hmm_kunit_pgmap_init(test, pgmap, type, start, start + size, 0);
	return pgmap;
}

#ifdef CONFIG_DEVICE_PRIVATE
/* Migrate pages of which @pgmap has the memory to system memory, or the other way. */
static void hmm_kunit_migrate(struct kunit *test, struct hmm_kunit_pgmap *pgmap,
			      unsigned long addr, unsigned long npages,
			      unsigned int order, enum migrate_vma_direction select)
{
	unsigned long *src = kunit_kcalloc(test, 2 * npages, sizeof(*src), GFP_KERNEL);
	struct migrate_vma migrate = {
		.start = addr,
		.end = addr + npages * PAGE_SIZE,
		.src = src,
		.dst = src + npages,
		.pgmap_owner = pgmap,
		.flags = select | (order ? MIGRATE_VMA_SELECT_COMPOUND : 0),
	};
	unsigned long first = ALIGN(PHYS_PFN(pgmap->pgmap.range.start), 1UL << order);
	unsigned long i, nr_migrated = 0;

	KUNIT_ASSERT_NOT_NULL(test, src);
	mmap_read_lock(current->mm);
	migrate.vma = vma_lookup(current->mm, addr);
	if (migrate_vma_setup(&migrate))
		migrate.cpages = 0;
	for (i = 0; migrate.cpages && i < npages; i += 1UL << order) {
		struct page *page;

		if (!(src[i] & MIGRATE_PFN_MIGRATE))
			continue;
		if (select == MIGRATE_VMA_SELECT_SYSTEM) {
			page = pfn_to_page(first + i);
			zone_device_page_init(page, &pgmap->pgmap, order);
		} else {
			page = alloc_pages(GFP_HIGHUSER_MOVABLE | __GFP_ZERO | __GFP_COMP,
					   order);
			if (!page)
				continue;
			lock_page(page);
		}
		migrate.dst[i] = migrate_pfn(page_to_pfn(page)) |
				 (order ? MIGRATE_PFN_COMPOUND : 0);
	}
	if (migrate.cpages) {
		migrate_vma_pages(&migrate);
		for (i = 0; i < npages; i += 1UL << order)
			nr_migrated += !!(src[i] & MIGRATE_PFN_MIGRATE);
		migrate_vma_finalize(&migrate);
	}
	mmap_read_unlock(current->mm);
	KUNIT_ASSERT_EQ(test, npages >> order, nr_migrated);
}

void hmm_kunit_round_trip(struct kunit *test, unsigned long addr, unsigned long npages,
			  unsigned int order)
{
	struct hmm_kunit_pgmap *pgmap = hmm_kunit_pgmap(test, MEMORY_DEVICE_PRIVATE,
							(npages << PAGE_SHIFT) +
							(PAGE_SIZE << order), 0);

#ifdef MODULE
	kunit_skip(test, "lru_add_drain_all() is for code that is built in");
#else
	/* Pages that another CPU has still to put on a list are not migrated. */
	lru_add_drain_all();
#endif
	hmm_kunit_migrate(test, pgmap, addr, npages, order, MIGRATE_VMA_SELECT_SYSTEM);
	hmm_kunit_migrate(test, pgmap, addr, npages, order,
			  MIGRATE_VMA_SELECT_DEVICE_PRIVATE);
}
#endif

#endif /* CONFIG_ZONE_DEVICE */

#ifdef CONFIG_FAULT_INJECTION_DEBUG_FS

/* The variable behind a file of debugfs: nothing but debugfs sets these. */
static void *hmm_kunit_knob(struct kunit *test, const char *dir, const char *file)
{
	struct dentry *parent, *dentry;
	void *knob;

	parent = debugfs_lookup(dir, NULL);
	if (!parent)
		kunit_skip(test, "no %s in debugfs", dir);
	dentry = debugfs_lookup(file, parent);
	dput(parent);
	KUNIT_ASSERT_NOT_NULL(test, dentry);
	knob = d_inode(dentry)->i_private;
	dput(dentry);
	return knob;
}

void hmm_kunit_inject(struct kunit *test)
{
	static const char * const dirs[] = { "failslab", "fail_page_alloc" };

	for (int i = 0; i < ARRAY_SIZE(dirs); i++) {
		*(bool *)hmm_kunit_knob(test, dirs[i], "ignore-gfp-wait") = false;
		*(unsigned long *)hmm_kunit_knob(test, dirs[i], "verbose") = 0;
	}
	*(bool *)hmm_kunit_knob(test, "fail_page_alloc", "ignore-gfp-highmem") = false;
	*(u32 *)hmm_kunit_knob(test, "fail_page_alloc", "min-order") = 0;
}

void hmm_kunit_fail_nth(unsigned int nth)
{
	current->fail_nth = nth;
}

bool hmm_kunit_has_failed(void)
{
	return !xchg(&current->fail_nth, 0);
}

#endif

unsigned long hmm_kunit_anon(struct kunit *test, unsigned long npages)
{
	unsigned long addr = hmm_kunit_mmap(test, NULL, npages,
					    MAP_PRIVATE | MAP_ANONYMOUS, PMD_SIZE);

	if (IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE))
		hmm_kunit_madvise(test, addr, npages, MADV_NOHUGEPAGE);
	return addr;
}

unsigned long hmm_kunit_thp(struct kunit *test, unsigned long npages)
{
	unsigned long addr;

	addr = hmm_kunit_mmap(test, NULL, npages, MAP_PRIVATE | MAP_ANONYMOUS,
			      PMD_SIZE);
	hmm_kunit_allow_thp(test, addr, npages);
	return addr;
}

#if defined(CONFIG_TRANSPARENT_HUGEPAGE) && !defined(MODULE)
struct hmm_kunit_orders {
	unsigned long madvise;
	unsigned long inherit;
};

static void hmm_kunit_orders_reset(void *data)
{
	struct hmm_kunit_orders *orders = data;

	WRITE_ONCE(huge_anon_orders_madvise, orders->madvise);
	WRITE_ONCE(huge_anon_orders_inherit, orders->inherit);
}

static void hmm_kunit_set_orders(struct kunit *test, unsigned long orders)
{
	struct hmm_kunit_orders *old = kunit_kzalloc(test, sizeof(*old), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, old);
	old->madvise = READ_ONCE(huge_anon_orders_madvise);
	old->inherit = READ_ONCE(huge_anon_orders_inherit);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action(test, hmm_kunit_orders_reset, old));
	WRITE_ONCE(huge_anon_orders_madvise, orders);
	WRITE_ONCE(huge_anon_orders_inherit, 0);
}
#else
static void hmm_kunit_set_orders(struct kunit *test, unsigned long orders)
{
}
#endif

unsigned long hmm_kunit_mthp(struct kunit *test, unsigned long npages,
			     unsigned int order)
{
	unsigned long addr = hmm_kunit_thp(test, npages);

	hmm_kunit_set_orders(test, BIT(order));
	return addr;
}

static vm_fault_t hmm_kunit_file_fault(struct vm_fault *vmf)
{
	struct hmm_kunit_file *hf = vmf->vma->vm_private_data;
	const vm_fault_t drops = VM_FAULT_RETRY | VM_FAULT_COMPLETED;

	atomic_inc(&hf->nr_faults);
	if (vmf->flags & FAULT_FLAG_TRIED) {
		if (vmf->pgoff == hf->at)
			hf->nr_tried++;
		else
			hf->nr_tried_else++;
	}
	if (hf->times && (vmf->pgoff == hf->at ||
			  (hf->at == ULONG_MAX && vmf->pgoff == hf->first)) &&
	    (!(hf->ret & drops) || vmf->flags & FAULT_FLAG_ALLOW_RETRY)) {
		hf->times--;
		hf->first++;
		if (hf->sleep_ms)
			msleep(hf->sleep_ms);
		if (hf->invalidate)
			unmap_mapping_range(hf->file->f_mapping, 0, PAGE_SIZE, 1);
		if (hf->call)
			hf->call(hf->data);
		if (hf->kill)
			hmm_kunit_kill(true);
		if (hf->ret & drops)
			release_fault_lock(vmf);
		if (hf->ret)
			return hf->ret;
	}
	return hf->shmem_vm_ops->fault(vmf);
}

/* Without and with map_pages. */
static const struct vm_operations_struct hmm_kunit_vm_ops[] = {
	{ .fault = hmm_kunit_file_fault },
	{ .fault = hmm_kunit_file_fault, .map_pages = filemap_map_pages },
};

struct hmm_kunit_file *hmm_kunit_file(struct kunit *test, unsigned long npages)
{
	struct hmm_kunit_file *hf;

	hf = kunit_kzalloc(test, sizeof(*hf), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, hf);
	hf->file = shmem_file_setup("hmm_kunit", npages * PAGE_SIZE,
				    mk_vma_flags(VMA_NORESERVE_BIT));
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, hf->file);
	hmm_kunit_fput_later(test, hf->file);
	return hf;
}

void hmm_kunit_file_fill(struct kunit *test, struct hmm_kunit_file *hf,
			 pgoff_t first, u64 tag)
{
	loff_t size = i_size_read(file_inode(hf->file)), pos;

	for (pos = (loff_t)first << PAGE_SHIFT; pos < size; pos += PAGE_SIZE) {
		u64 page_tag = tag + (pos >> PAGE_SHIFT);
		loff_t at = pos;

		KUNIT_ASSERT_EQ(test, sizeof(page_tag),
				kernel_write(hf->file, &page_tag,
					     sizeof(page_tag), &at));
	}
}

unsigned long hmm_kunit_file_map(struct kunit *test, struct hmm_kunit_file *hf,
				 unsigned long flags)
{
	struct vm_area_struct *vma;
	unsigned long addr;

	addr = hmm_kunit_mmap(test, hf->file,
			      i_size_read(file_inode(hf->file)) >> PAGE_SHIFT,
			      flags, PMD_SIZE);
	mmap_write_lock(current->mm);
	vma = vma_lookup(current->mm, addr);
	if (vma) {
		vma_start_write(vma);
		hf->shmem_vm_ops = vma->vm_ops;
		vma->vm_ops = &hmm_kunit_vm_ops[hf->map_pages];
		vma->vm_private_data = hf;
	}
	mmap_write_unlock(current->mm);
	KUNIT_ASSERT_NOT_NULL(test, vma);
	return addr;
}

MODULE_DESCRIPTION("KUnit tests for HMM");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");
