// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suite hmm_dax: pages that belong to a pgmap, and entries that have no page.
 *
 * A file of the test's own stands for a file on DAX: its handler maps pages of a
 * pgmap, by PTE, PMD or PUD, as fs/dax.c and drivers/dax/device.c do. Nobody reads
 * or writes them, there is no memory behind; but for hmm_kunit_fsdax(). Files on DAX
 * with data in them, and truncate and hole punching, are in vm/fsdax.c.
 */
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/pagemap.h>
#include <linux/shmem_fs.h>

#include "states.h"

#define TABLE HMM_KUNIT_TABLE

/*
 * struct dax - a file whose pages are those of a pgmap
 * @pfn: of the first
 * @order: of the entries that its handler makes
 * @nr_faults: calls of the handler for such an entry
 * @ret: what it returns in place of making one, if not 0
 */
struct dax {
	unsigned long pfn;
	unsigned int order;
	unsigned int nr_faults;
	vm_fault_t ret;
	struct file *file;
	unsigned long addr;
	unsigned long npages;
};

static struct page *dax_page(const struct dax *dax, pgoff_t pgoff)
{
	return pfn_to_page(dax->pfn + pgoff);
}

static vm_fault_t dax_huge_fault(struct vm_fault *vmf, unsigned int order)
{
	struct dax *dax = vmf->vma->vm_private_data;
	bool write = vmf->flags & FAULT_FLAG_WRITE;
	struct page *page = dax_page(dax, vmf->pgoff);

	if (order != dax->order)
		return VM_FAULT_FALLBACK;
	dax->nr_faults++;
	if (dax->ret)
		return dax->ret;
	if (order == PUD_SHIFT - PAGE_SHIFT)
		return vmf_insert_folio_pud(vmf, page_folio(page), write);
	if (order == HPAGE_PMD_ORDER)
		return vmf_insert_folio_pmd(vmf, page_folio(page), write);
	return vmf_insert_page_mkwrite(vmf, page, write);
}

static vm_fault_t dax_fault(struct vm_fault *vmf)
{
	vm_fault_t ret = dax_huge_fault(vmf, 0);

	return ret == VM_FAULT_FALLBACK ? VM_FAULT_SIGBUS : ret;
}

static const struct vm_operations_struct dax_vm_ops = {
	.fault = dax_fault,
	.huge_fault = dax_huge_fault,
	.pfn_mkwrite = dax_fault,
};

struct dax_param {
	const char *name;
	enum memory_type type;
	unsigned int order;
};

static const struct dax_param dax_params[] = {
	{ "generic_pte", MEMORY_DEVICE_GENERIC, 0 },
	{ "generic_pmd", MEMORY_DEVICE_GENERIC, HPAGE_PMD_ORDER },
	{ "generic_pud", MEMORY_DEVICE_GENERIC, PUD_SHIFT - PAGE_SHIFT },
	{ "fsdax_pte", MEMORY_DEVICE_FS_DAX, 0 },
	{ "fsdax_pmd", MEMORY_DEVICE_FS_DAX, HPAGE_PMD_ORDER },
	{ "fsdax_pud", MEMORY_DEVICE_FS_DAX, PUD_SHIFT - PAGE_SHIFT },
};

KUNIT_ARRAY_PARAM_DESC(dax, dax_params, name);

static void dax_put_folios(void *data)
{
	struct dax *dax = data;

	for (unsigned long i = 0; i < dax->npages; i += BIT(dax->order))
		folio_put(page_folio(dax_page(dax, i)));
}

/* Map a file of the pages, which nobody else has, aligned. */
static void dax_map_pages(struct kunit *test, struct dax *dax)
{
	struct vm_area_struct *vma;

	/* A filesystem that has handed out a page has a reference. */
	if (page_pgmap(dax_page(dax, 0))->type == MEMORY_DEVICE_FS_DAX) {
		for (unsigned long i = 0; i < dax->npages; i += BIT(dax->order))
			set_page_count(dax_page(dax, i), 1);
		KUNIT_ASSERT_EQ(test, 0,
				kunit_add_action_or_reset(test, dax_put_folios, dax));
	}
	dax->file = shmem_file_setup("hmm_dax", dax->npages * PAGE_SIZE,
				     mk_vma_flags(VMA_NORESERVE_BIT));
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, dax->file);
	file_inode(dax->file)->i_flags |= S_DAX;
	hmm_kunit_fput_later(test, dax->file);

	dax->addr = hmm_kunit_mmap(test, dax->file, dax->npages, MAP_SHARED,
				   max(PAGE_SIZE << dax->order, PMD_SIZE));
	mmap_write_lock(current->mm);
	vma = vma_lookup(current->mm, dax->addr);
	if (vma) {
		vma_start_write(vma);
		vma->vm_ops = &dax_vm_ops;
		vma->vm_private_data = dax;
	}
	mmap_write_unlock(current->mm);
	KUNIT_ASSERT_NOT_NULL(test, vma);
}

/* Two entries, of the kind that the parameter says. */
static struct dax *dax_map(struct kunit *test)
{
	const struct dax_param *param = test->param_value;
	struct hmm_kunit_pgmap *pgmap;
	struct dax *dax;

	dax = kunit_kzalloc(test, sizeof(*dax), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, dax);
	dax->order = param->order;
	dax->npages = 2ul << param->order;
	pgmap = hmm_kunit_pgmap(test, param->type, dax->npages * PAGE_SIZE, param->order);
	dax->pfn = PHYS_PFN(pgmap->pgmap.range.start);
	dax_map_pages(test, dax);
	return dax;
}

unsigned long hmm_kunit_fsdax(struct kunit *test, unsigned long npages)
{
	struct dax *dax = kunit_kzalloc(test, sizeof(*dax), GFP_KERNEL);
	struct hmm_kunit_pgmap *pgmap;

	KUNIT_ASSERT_NOT_NULL(test, dax);
	dax->npages = npages;
	pgmap = hmm_kunit_pgmap_pmem(test, MEMORY_DEVICE_FS_DAX, npages * PAGE_SIZE);
	dax->pfn = PHYS_PFN(pgmap->pgmap.range.start);
	dax_map_pages(test, dax);
	return dax->addr;
}

/* The array names the pages of the pgmap, as ordinary memory. */
static void expect_pages(struct kunit *test, const struct dax *dax,
			 const struct hmm_kunit_mirror *mirror)
{
	const struct hmm_range *range = &mirror->range;
	unsigned long first = (range->start - dax->addr) >> PAGE_SHIFT;
	unsigned long npages = (range->end - range->start) >> PAGE_SHIFT;

	hmm_kunit_expect_mapped(test, mirror);
	for (unsigned long i = 0; i < npages; i++) {
		if (hmm_pfn_to_page(range->hmm_pfns[i]) != dax_page(dax, first + i) ||
		    hmm_pfn_to_map_order(range->hmm_pfns[i]) != dax->order) {
			KUNIT_FAIL(test, "page %lu is %#lx", i, range->hmm_pfns[i]);
			return;
		}
	}
}

/* One fault for each entry, from the inside of the first to that of the second. */
static void dax_cold(struct kunit *test, unsigned long flags)
{
	struct dax *dax = dax_map(test);
	unsigned long skip = dax->order ? 7 : 0;
	struct hmm_kunit_mirror *mirror;

	mirror = hmm_kunit_mirror(test, dax->addr + skip * PAGE_SIZE,
				  dax->npages - 2 * skip, flags);
	KUNIT_ASSERT_EQ(test, hmm_kunit_fault(mirror), 0);
	KUNIT_EXPECT_EQ(test, dax->nr_faults, 2);
	expect_pages(test, dax, mirror);
	KUNIT_EXPECT_EQ(test, !!(mirror->range.hmm_pfns[0] & HMM_PFN_WRITE),
			flags == REQ_WRITE);
}

static void dax_read(struct kunit *test)
{
	dax_cold(test, REQ_READ);
}

static void dax_write(struct kunit *test)
{
	dax_cold(test, REQ_WRITE);
}

/* Truncated: the range is invalidated, and there is nothing until the next fault. */
static void dax_truncate(struct kunit *test)
{
	struct dax *dax = dax_map(test);
	struct hmm_kunit_mirror *mirror;
	struct hmm_range *range;

	mirror = hmm_kunit_mirror(test, dax->addr, dax->npages, REQ_WRITE);
	range = &mirror->range;
	KUNIT_ASSERT_EQ(test, hmm_kunit_fault(mirror), 0);
	unmap_mapping_range(dax->file->f_mapping, PAGE_SIZE << dax->order, 0, 1);
	KUNIT_EXPECT_TRUE(test, mmu_interval_read_retry(range->notifier,
							range->notifier_seq));

	range->default_flags = 0;
	KUNIT_ASSERT_EQ(test, hmm_kunit_fault(mirror), 0);
	KUNIT_EXPECT_TRUE(test, range->hmm_pfns[0] & HMM_PFN_VALID);
	KUNIT_EXPECT_EQ(test, range->hmm_pfns[BIT(dax->order)], 0);

	range->default_flags = REQ_WRITE;
	dax->ret = VM_FAULT_SIGBUS;
	KUNIT_EXPECT_EQ(test, hmm_kunit_fault(mirror), -EFAULT);
	dax->ret = 0;
	KUNIT_ASSERT_EQ(test, hmm_kunit_fault(mirror), 0);
	expect_pages(test, dax, mirror);
}

#ifdef CONFIG_HMM_KUNIT_HAS_MEMORY
/* Pages of files on DAX are ordinary memory, those of device memory are not. */
static void dax_memory(struct kunit *test)
{
	static const struct {
		enum memory_type type;
		enum hmm_memory memory;
	} kinds[] = {
		{ MEMORY_DEVICE_GENERIC, HMM_MEMORY_SYSTEM },
		{ MEMORY_DEVICE_FS_DAX, HMM_MEMORY_SYSTEM },
		{ MEMORY_DEVICE_PRIVATE, HMM_MEMORY_DEVICE },
		{ MEMORY_DEVICE_COHERENT, HMM_MEMORY_DEVICE },
		{ MEMORY_DEVICE_PCI_P2PDMA, HMM_MEMORY_P2PDMA },
	};
	unsigned long addr = hmm_kunit_anon(test, TABLE);
	struct hmm_kunit_leaf leaf;

	for (int i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct hmm_kunit_pgmap *pgmap;

		pgmap = hmm_kunit_pgmap(test, kinds[i].type, PMD_SIZE, 0);
		KUNIT_EXPECT_EQ_MSG(test, kinds[i].memory,
				    hmm_pfn_to_memory(PHYS_PFN(pgmap->pgmap.range.start) |
						      HMM_PFN_VALID),
				    "type %d", kinds[i].type);
	}
	hmm_kunit_write(test, addr, 1);
	KUNIT_ASSERT_TRUE(test, hmm_kunit_leaf(addr, &leaf));
	KUNIT_EXPECT_EQ(test, HMM_MEMORY_SYSTEM,
			hmm_pfn_to_memory(hmm_kunit_leaf_entry(&leaf)));
}
#endif

/*
 * Special entries, in a VMA that may have some: of a PMD and of a PUD, as
 * vmf_insert_pfn_pmd() makes them. Those of PTEs are in suite hmm_snapshot.
 */
static void special_pmd_enter(struct hmm_kunit_cell *cell)
{
	hmm_kunit_set_vm_flags(cell, VM_MIXEDMAP);
	hmm_kunit_set_pmd(cell, pmd_mkspecial(pmdp_get(hmm_kunit_pmd(cell))));
}

static void special_pmd_leave(struct hmm_kunit_cell *cell)
{
	hmm_kunit_put_back(cell);
	hmm_kunit_clear_vm_flags(cell);
}

static const struct hmm_kunit_state special_pmd = {
	"special", special_pmd_enter, special_pmd_leave, false, false, ERROR,
	-EFAULT, -EFAULT
};

static void check_special_pmd(struct kunit *test, enum hmm_kunit_call call)
{
	hmm_kunit_check_pmd(test, &special_pmd, call);
}

HMM_KUNIT_STATE_CASES(special_pmd);

static void special_pud_enter(struct hmm_kunit_cell *cell)
{
	hmm_kunit_set_vm_flags(cell, VM_MIXEDMAP);
	hmm_kunit_set_pud(cell, pud_mkspecial(pud_mkdirty(hmm_kunit_make_pud())));
}

static void special_pud_leave(struct hmm_kunit_cell *cell)
{
	hmm_kunit_put_pud_back(cell);
	hmm_kunit_clear_vm_flags(cell);
}

static const struct hmm_kunit_state special_pud = {
	"special", special_pud_enter, special_pud_leave, false, false, ERROR,
	-EFAULT, -EFAULT
};

static void check_special_pud(struct kunit *test, enum hmm_kunit_call call)
{
	hmm_kunit_check_pud(test, &special_pud, call);
}

HMM_KUNIT_STATE_CASES(special_pud);

static struct kunit_case hmm_dax_cases[] = {
	KUNIT_CASE_PARAM(dax_read, dax_gen_params),
	KUNIT_CASE_PARAM(dax_write, dax_gen_params),
	KUNIT_CASE_PARAM(dax_truncate, dax_gen_params),
	KUNIT_CASE(snapshot_special_pmd),
	KUNIT_CASE(look_special_pmd),
	KUNIT_CASE(read_special_pmd),
	KUNIT_CASE(write_special_pmd),
	KUNIT_CASE(snapshot_special_pud),
	KUNIT_CASE(look_special_pud),
	KUNIT_CASE(read_special_pud),
	KUNIT_CASE(write_special_pud),
#ifdef CONFIG_HMM_KUNIT_HAS_MEMORY
	KUNIT_CASE(dax_memory),
#endif
	{}
};

static struct kunit_suite hmm_dax_suite = {
	.name = "hmm_dax",
	.test_cases = hmm_dax_cases,
};

kunit_test_suite(hmm_dax_suite);
