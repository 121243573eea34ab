// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suites hmm_dma, direct_hmm_dma and swiotlb_hmm_dma: user memory that is mapped for a
 * device, with an IOMMU, without one, and where the device would be given copies.
 *
 * A mirror's range is mapped as a driver would do it, and unmapped by its callback. The
 * map is then compared with the page tables of the CPU and with those of the IOMMU; and
 * a device, edu, reads and writes the pages. A case keeps a reference to each page that
 * it has read or written itself, so that it can look at pages that are unmapped.
 */
#include <linux/delay.h>
#include <linux/dma-map-ops.h>
#include <linux/highmem.h>
#include <linux/hmm-dma.h>
#include <linux/iommu.h>
#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/nmi.h>
#include <linux/pci-p2pdma.h>
#include <linux/random.h>
#include <linux/swiotlb.h>

#include "edu.h"
#include "fixture.h"

#define TABLE HMM_KUNIT_TABLE
#define NPAGES (2 * TABLE)

/* Whether addresses of the device are translated. */
static bool has_iommu(struct device *dev)
{
	struct iommu_domain *domain = dev ? iommu_get_domain_for_dev(dev) : NULL;

	return domain && iommu_is_dma_domain(domain);
}

/* The physical address behind @addr; 0 if there is none. */
static phys_addr_t translate(struct device *dev, dma_addr_t addr)
{
	if (!has_iommu(dev))
		return addr;
	return iommu_iova_to_phys(iommu_get_domain_for_dev(dev), addr);
}

/*
 * struct subject - memory that a device may have mapped
 * @lock: of the mirror, protects all that follows
 * @map: of all of the memory
 * @range: of all of it, with an array
 * @start: of the memory, which has @npages
 * @generations: how often each page has been unmapped
 * @nr_stale: entries that differed from the page tables of the CPU, or were still
 *	translated after they had been unmapped
 */
struct subject {
	struct kunit *test;
	struct device *dev;
	struct hmm_mirror mirror;
	struct mutex lock;	/* see above */
	struct hmm_dma_map map;
	struct hmm_range range;
	unsigned long start;
	unsigned long npages;
	unsigned long *generations;
	unsigned long nr_stale;
};

static bool subject_invalidate(struct hmm_mirror *mirror,
			       const struct mmu_notifier_range *event)
{
	struct subject *s = container_of(mirror, struct subject, mirror);
	unsigned long start = event->start, end = event->end;

	if (s->map.pfn_list && hmm_dma_map_widen(&s->map, &start, &end)) {
		size_t idx = hmm_dma_map_index(&s->map, start);

		hmm_range_dma_unmap(s->dev, &s->map, event->start, event->end);
		for (; idx < hmm_dma_map_index(&s->map, end); idx++) {
			s->generations[idx]++;
			if (s->map.pfn_list[idx] ||
			    (has_iommu(s->dev) &&
			     translate(s->dev, hmm_dma_map_addr(s->dev, &s->map, idx))))
				s->nr_stale++;
		}
	}
	return true;
}

static void subject_release(struct hmm_mirror *mirror)
{
}

static atomic_t nr_subjects;

static const struct hmm_mirror_ops subject_ops = {
	.invalidate = subject_invalidate,
	.release = subject_release,
	.nr_mirrors = &nr_subjects,
};

static void unmap(struct subject *s, unsigned long start, unsigned long end)
{
	mutex_lock(&s->lock);
	hmm_range_dma_unmap(s->dev, &s->map, start, end);
	mutex_unlock(&s->lock);
}

static void subject_unmap(struct subject *s)
{
	unmap(s, 0, ULONG_MAX);
}

static void subject_end(void *data)
{
	struct subject *s = data;

	if (s->range.mirror)
		hmm_range_unregister(&s->range);
	hmm_mirror_put(&s->mirror);
	hmm_mirror_synchronize(&subject_ops);
	if (s->map.pfn_list) {
		subject_unmap(s);
		hmm_dma_map_free(s->dev, &s->map);
	}
	KUNIT_EXPECT_EQ(s->test, 0, s->nr_stale);
}

/* Nothing is mapped yet. The array of the range is poisoned. */
static struct subject *subject_of(struct kunit *test, unsigned long addr,
				  unsigned long npages, unsigned long flags, size_t size)
{
	struct subject *s = kunit_kzalloc(test, sizeof(*s), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, s);
	s->test = test;
	s->dev = hmm_kunit_edu(test);
	s->start = addr;
	s->npages = npages;
	mutex_init(&s->lock);
	s->mirror.ops = &subject_ops;
	s->mirror.mutex = &s->lock;
	s->range.start = addr;
	s->range.end = addr + npages * PAGE_SIZE;
	s->range.default_flags = flags;
	s->range.hmm_pfns = kunit_kmalloc_array(test, npages, sizeof(*s->range.hmm_pfns),
						GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, s->range.hmm_pfns);
	for (unsigned long i = 0; i < npages; i++)
		s->range.hmm_pfns[i] = HMM_KUNIT_POISON;
	s->generations = kunit_kcalloc(test, npages, sizeof(*s->generations), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, s->generations);
	KUNIT_ASSERT_EQ(test, 0, hmm_mirror_register(&s->mirror, current->mm, addr,
						     npages * PAGE_SIZE));
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, subject_end, s));
	KUNIT_ASSERT_EQ(test, 0, hmm_range_register(&s->range, &s->mirror));
	KUNIT_ASSERT_EQ(test, 0, hmm_dma_map_alloc_range(s->dev, &s->map, addr,
							 s->range.end, size));
	return s;
}

static struct subject *subject(struct kunit *test, unsigned long addr,
			       unsigned long npages, unsigned long flags)
{
	return subject_of(test, addr, npages, flags, PAGE_SIZE);
}

static int subject_fault(struct subject *s)
{
	return hmm_range_fault_unlocked(&s->range, hmm_deadline(HZ));
}

/* Map @range, which is registered. The lock is held if that succeeds. */
static int map_range(struct subject *s, struct hmm_range *range)
{
	int ret = hmm_range_dma_map(s->dev, &s->map, range, hmm_deadline(HZ));

	if (!ret) {
		lockdep_assert_held(&s->lock);
		mutex_unlock(&s->lock);
	}
	return ret;
}

/* Map all of it. While the range is valid its array is used as it is. */
static int subject_map(struct subject *s)
{
	return map_range(s, &s->range);
}

/* Map pages [first, first + nr), by a range of their own. */
static int map_pages(struct subject *s, unsigned long first, unsigned long nr)
{
	struct hmm_range range = {
		.start = s->start + first * PAGE_SIZE,
		.end = s->start + (first + nr) * PAGE_SIZE,
		.hmm_pfns = s->range.hmm_pfns + first,
		.default_flags = s->range.default_flags,
	};
	int ret;

	KUNIT_ASSERT_EQ(s->test, 0, hmm_range_register(&range, &s->mirror));
	ret = map_range(s, &range);
	hmm_range_unregister(&range);
	return ret;
}

static dma_addr_t dma_addr(struct subject *s, unsigned long page)
{
	return hmm_dma_map_addr(s->dev, &s->map, page);
}

static size_t nr_mapped(const struct subject *s)
{
	size_t idx, nr = 0;

	for (idx = 0; idx < s->map.nr_entries; idx++)
		nr += !!(s->map.pfn_list[idx] & HMM_PFN_DMA_MAPPED);
	return nr;
}

/* Pages [first, first + nr) are mapped, to the same memory as for the CPU. */
static void expect_mapped(struct subject *s, unsigned long first, unsigned long nr)
{
	struct hmm_kunit_leaf leaf;
	unsigned long i, wrong = 0;

	mutex_lock(&s->lock);
	KUNIT_EXPECT_EQ(s->test, nr_mapped(s), s->map.nr_mapped);
	for (i = first; i < first + nr; i++) {
		unsigned long entry = s->map.pfn_list[i];

		if (!hmm_kunit_leaf(s->start + i * PAGE_SIZE, &leaf) ||
		    entry != (hmm_kunit_leaf_entry(&leaf) | HMM_PFN_DMA_MAPPED) ||
		    translate(s->dev, dma_addr(s, i)) != PFN_PHYS(leaf.pfn))
			wrong++;
		if (has_iommu(s->dev) &&
		    dma_addr(s, i) != dma_addr(s, 0) + i * PAGE_SIZE)
			wrong++;
	}
	mutex_unlock(&s->lock);
	KUNIT_EXPECT_EQ(s->test, 0, wrong);
}

/* They are not. */
static void expect_unmapped(struct subject *s, unsigned long first, unsigned long nr)
{
	unsigned long i, wrong = 0;

	mutex_lock(&s->lock);
	KUNIT_EXPECT_EQ(s->test, nr_mapped(s), s->map.nr_mapped);
	for (i = first; i < first + nr; i++)
		if (s->map.pfn_list[i] ||
		    (has_iommu(s->dev) && translate(s->dev, dma_addr(s, i))))
			wrong++;
	mutex_unlock(&s->lock);
	KUNIT_EXPECT_EQ(s->test, 0, wrong);
}

/* Kinds of memory, of NPAGES pages each, aligned to huge pages */
static unsigned long map_anon(struct kunit *test)
{
	return hmm_kunit_anon(test, NPAGES);
}

static unsigned long map_thp(struct kunit *test)
{
	return hmm_kunit_thp(test, NPAGES);
}

static unsigned long map_hugetlb(struct kunit *test)
{
	return hmm_kunit_hugetlb(test, NPAGES, PMD_SHIFT - PAGE_SHIFT);
}

static unsigned long map_shmem(struct kunit *test)
{
	return hmm_kunit_file_map(test, hmm_kunit_file(test, NPAGES), MAP_SHARED);
}

#ifdef CONFIG_HMM_DAX_KUNIT_TEST
static unsigned long map_fsdax(struct kunit *test)
{
	return hmm_kunit_fsdax(test, NPAGES);
}
#endif

struct memory {
	const char *name;
	unsigned long (*map)(struct kunit *test);
	/* Pages of a leaf. */
	unsigned long leaf;
};

static const struct memory memories[] = {
	{ "anon", map_anon, 1 },
	{ "thp", map_thp, TABLE },
	{ "hugetlb", map_hugetlb, TABLE },
	{ "shmem", map_shmem, 1 },
#ifdef CONFIG_HMM_DAX_KUNIT_TEST
	{ "fsdax", map_fsdax, 1 },
#endif
};

KUNIT_ARRAY_PARAM_DESC(memory, memories, name);

/* The device reads and writes the first, the middle and the last page of each 2M. */
static const unsigned long looked_at[] = {
	0, TABLE / 2, TABLE - 1, TABLE, TABLE + TABLE / 2, NPAGES - 1,
};

static void fill(u64 *data, u64 tag)
{
	for (unsigned long i = 0; i < HMM_KUNIT_EDU_BYTES / sizeof(*data); i++)
		data[i] = tag + i;
}

static bool is_filled(const u64 *data, u64 tag)
{
	for (unsigned long i = 0; i < HMM_KUNIT_EDU_BYTES / sizeof(*data); i++)
		if (data[i] != tag + i)
			return false;
	return true;
}

static void put(void *page)
{
	put_page(page);
}

/* The page at @page, which stays. */
static struct page *keep(struct subject *s, unsigned long page)
{
	struct page *kept = hmm_pfn_to_page(s->map.pfn_list[page]);

	get_page(kept);
	KUNIT_ASSERT_EQ(s->test, 0, kunit_add_action_or_reset(s->test, put, kept));
	return kept;
}

static void map(struct kunit *test)
{
	const struct memory *memory = test->param_value;
	unsigned long addr = memory->map(test), blocked;
	u64 *data = kunit_kmalloc(test, HMM_KUNIT_EDU_BYTES, GFP_KERNEL);
	struct page *pages[ARRAY_SIZE(looked_at)];
	dma_addr_t addrs[ARRAY_SIZE(looked_at)];
	struct subject *s;
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, data);
	s = subject(test, addr, NPAGES, REQ_WRITE);
	KUNIT_ASSERT_EQ(test, 0, subject_map(s));
	expect_mapped(s, 0, NPAGES);

	for (i = 0; i < ARRAY_SIZE(looked_at); i++) {
		unsigned long page = looked_at[i];
		u64 __user *user = (u64 __user *)(addr + page * PAGE_SIZE);

		/* The device reads what the CPU writes. */
		fill(data, i << 20);
		KUNIT_ASSERT_EQ(test, 0, copy_to_user(user, data, HMM_KUNIT_EDU_BYTES));
		memset(data, 0, HMM_KUNIT_EDU_BYTES);
		hmm_kunit_edu_read(test, dma_addr(s, page), data);
		KUNIT_EXPECT_TRUE(test, is_filled(data, i << 20));

		/* The CPU reads what the device writes. */
		fill(data, ~0ull << 30 | i << 20);
		hmm_kunit_edu_write(test, dma_addr(s, page), data);
		memset(data, 0, HMM_KUNIT_EDU_BYTES);
		KUNIT_ASSERT_EQ(test, 0, copy_from_user(data, user, HMM_KUNIT_EDU_BYTES));
		KUNIT_EXPECT_TRUE(test, is_filled(data, ~0ull << 30 | i << 20));

		pages[i] = keep(s, page);
		addrs[i] = dma_addr(s, page);
	}
	/* None of that has changed the mapping. */
	expect_mapped(s, 0, NPAGES);

	hmm_kunit_madvise(test, addr, NPAGES, MADV_DONTNEED);
	expect_unmapped(s, 0, NPAGES);
	if (!has_iommu(s->dev))
		return;
	blocked = hmm_kunit_edu_nr_blocked();
	for (i = 0; i < ARRAY_SIZE(looked_at); i++) {
		fill(data, 0xdead0000 + i);
		hmm_kunit_edu_write(test, addrs[i], data);
		memcpy_from_page((char *)data, pages[i], 0, HMM_KUNIT_EDU_BYTES);
		KUNIT_EXPECT_TRUE(test, is_filled(data, ~0ull << 30 | i << 20));
		hmm_kunit_edu_read(test, addrs[i], data);
		KUNIT_EXPECT_FALSE(test, is_filled(data, ~0ull << 30 | i << 20));
	}
	/* Not all of them are reported, for there are too many. */
	for (i = 0; hmm_kunit_edu_nr_blocked() == blocked && i < 50; i++)
		hmm_kunit_edu_read(test, addrs[0], data);
	KUNIT_EXPECT_GT(test, hmm_kunit_edu_nr_blocked(), blocked);
}

/* A huge page is unmapped as a whole when a part of it is, and can be mapped again. */
static void unmap_part(struct kunit *test)
{
	const struct memory *memory = test->param_value;
	unsigned long addr = memory->map(test), start, end, first, last;
	struct subject *s = subject(test, addr, NPAGES, REQ_WRITE);

	KUNIT_ASSERT_EQ(test, 0, subject_map(s));
	/* The last page of the first 2M, and the first of the second; then one. */
	for (unsigned long nr = 2; nr; nr--) {
		first = ALIGN_DOWN(TABLE - 1, memory->leaf);
		last = ALIGN(TABLE - 1 + nr, memory->leaf);

		start = addr + (TABLE - 1) * PAGE_SIZE;
		end = start + nr * PAGE_SIZE;
		mutex_lock(&s->lock);
		hmm_range_dma_unmap(s->dev, &s->map, start, end);
		KUNIT_EXPECT_FALSE(test, s->map.pfn_list[TABLE - 1]);
		mutex_unlock(&s->lock);
		expect_mapped(s, 0, first);
		expect_unmapped(s, first, last - first);
		expect_mapped(s, last, NPAGES - last);

		KUNIT_EXPECT_EQ(test, 0, subject_map(s));
		expect_mapped(s, 0, NPAGES);

		mutex_lock(&s->lock);
		KUNIT_EXPECT_TRUE(test, hmm_dma_map_widen(&s->map, &start, &end));
		mutex_unlock(&s->lock);
		KUNIT_EXPECT_EQ(test, start, addr + first * PAGE_SIZE);
		KUNIT_EXPECT_EQ(test, end, addr + last * PAGE_SIZE);
	}
	/* Memory that is not in the map */
	unmap(s, 0, addr);
	unmap(s, addr + NPAGES * PAGE_SIZE, ULONG_MAX);
	unmap(s, addr + PAGE_SIZE, addr);
	expect_mapped(s, 0, NPAGES);
}

/* The halves of huge pages come one by one, and go as a whole. */
static void map_part(struct kunit *test)
{
	const struct memory *memory = test->param_value;
	unsigned long addr = memory->map(test);
	struct subject *s = subject(test, addr, NPAGES, REQ_WRITE);

	KUNIT_EXPECT_EQ(test, 0, map_pages(s, TABLE / 2, TABLE));
	expect_unmapped(s, 0, TABLE / 2);
	expect_mapped(s, TABLE / 2, TABLE);
	expect_unmapped(s, TABLE + TABLE / 2, TABLE / 2);

	KUNIT_EXPECT_EQ(test, 0, subject_map(s));
	expect_mapped(s, 0, NPAGES);
	unmap(s, addr, addr + PAGE_SIZE);
	expect_unmapped(s, 0, memory->leaf);
	expect_mapped(s, memory->leaf, NPAGES - memory->leaf);
}

/* Pages that are mapped to be read become writable without being mapped again. */
static void upgrade(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, NPAGES), entry;
	struct subject *s;
	dma_addr_t before;

	/* Writable, and clean. */
	for (unsigned long i = 0; i < NPAGES; i++)
		hmm_kunit_write(test, addr + i * PAGE_SIZE, i);
	hmm_kunit_madvise(test, addr, NPAGES, MADV_FREE);
	s = subject(test, addr, NPAGES, REQ_READ);
	KUNIT_ASSERT_EQ(test, 0, subject_map(s));
	expect_mapped(s, 0, NPAGES);
	entry = s->map.pfn_list[1];
	before = dma_addr(s, 1);
	KUNIT_EXPECT_FALSE(test, entry & HMM_PFN_WRITE);

	s->range.default_flags = REQ_WRITE;
	KUNIT_EXPECT_EQ(test, 0, subject_map(s));
	expect_mapped(s, 0, NPAGES);
	KUNIT_EXPECT_EQ(test, s->map.pfn_list[1], entry | HMM_PFN_WRITE);
	KUNIT_EXPECT_EQ(test, dma_addr(s, 1), before);

	/* A call that only wants to read leaves pages writable. */
	s->range.default_flags = REQ_READ;
	KUNIT_EXPECT_EQ(test, 0, subject_map(s));
	KUNIT_EXPECT_EQ(test, s->map.pfn_list[1], entry | HMM_PFN_WRITE);
}

/* A range with holes: missing pages stay unmapped. */
static void holes(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, NPAGES);
	struct subject *s = subject(test, addr, NPAGES, 0);

	for (unsigned long i = 0; i < NPAGES; i += 3)
		hmm_kunit_write(test, addr + i * PAGE_SIZE, i);
	KUNIT_ASSERT_EQ(test, 0, subject_map(s));
	for (unsigned long i = 0; i < NPAGES; i++) {
		if (i % 3)
			expect_unmapped(s, i, 1);
		else
			expect_mapped(s, i, 1);
	}
	s->range.default_flags = REQ_READ;
	KUNIT_EXPECT_EQ(test, 0, subject_map(s));
	expect_mapped(s, 0, NPAGES);
}

/* Without a device the map has the entries of the range, until they are invalidated. */
static void no_device(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, NPAGES);
	struct subject *s = subject(test, addr, NPAGES, REQ_WRITE);
	struct hmm_kunit_leaf leaf;

	hmm_dma_map_free(s->dev, &s->map);
	s->dev = NULL;
	KUNIT_ASSERT_EQ(test, 0, hmm_dma_map_alloc_range(NULL, &s->map, addr, s->range.end,
							 PAGE_SIZE));
	KUNIT_ASSERT_EQ(test, 0, subject_map(s));
	for (unsigned long i = 0; i < NPAGES; i++) {
		KUNIT_ASSERT_TRUE(test, hmm_kunit_leaf(addr + i * PAGE_SIZE, &leaf));
		KUNIT_EXPECT_EQ(test, s->map.pfn_list[i], hmm_kunit_leaf_entry(&leaf));
	}
	KUNIT_EXPECT_EQ(test, 0, s->map.nr_mapped);

	hmm_kunit_madvise(test, addr + PAGE_SIZE, 1, MADV_DONTNEED);
	KUNIT_EXPECT_EQ(test, 0, s->map.pfn_list[1]);
	KUNIT_EXPECT_NE(test, 0, s->map.pfn_list[0]);
	KUNIT_EXPECT_NE(test, 0, s->map.pfn_list[2]);
}

/* The lock is free then. */
static void expect_map_fails(struct subject *s, int error)
{
	KUNIT_EXPECT_EQ(s->test, error, subject_map(s));
	KUNIT_EXPECT_TRUE(s->test, mutex_trylock(&s->lock));
	mutex_unlock(&s->lock);
}

static void refused(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, NPAGES), *pfns;
	struct subject *s = subject(test, addr, NPAGES, REQ_WRITE);
	struct hmm_range range = s->range;
	u64 mask = *s->dev->dma_mask;
	struct hmm_dma_map map;
	const struct {
		unsigned long start, end;
		size_t size;
	} bad[] = {
		{ addr, addr, PAGE_SIZE },
		{ addr + PAGE_SIZE, addr, PAGE_SIZE },
		{ addr + 1, addr + PAGE_SIZE, PAGE_SIZE },
		{ addr, addr + PAGE_SIZE + 1, PAGE_SIZE },
		{ addr, addr + PAGE_SIZE, 0 },
		{ addr, addr + PAGE_SIZE, PAGE_SIZE / 2 },
		{ addr, addr + 3 * PAGE_SIZE, 3 * PAGE_SIZE },
		{ addr, addr + PAGE_SIZE, PMD_SIZE },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		KUNIT_EXPECT_EQ(test, -EINVAL,
				hmm_dma_map_alloc_range(s->dev, &map, bad[i].start,
							bad[i].end, bad[i].size));
	KUNIT_EXPECT_EQ(test, -ENOMEM,
			hmm_dma_map_alloc_range(s->dev, &map, 0, 1ul << 62, PAGE_SIZE));
#ifdef CONFIG_HMM_KUNIT_HAS_DMA_PFN
	KUNIT_EXPECT_EQ(test, -EINVAL,
			hmm_dma_map_alloc(s->dev, &map, 1ul << 62, PAGE_SIZE));
#endif

	/* A device that cannot reach all of memory, and more than there are IOVA. */
	*s->dev->dma_mask = DMA_BIT_MASK(24);
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			hmm_dma_map_alloc_range(s->dev, &map, addr, s->range.end, PAGE_SIZE));
	*s->dev->dma_mask = mask;
	if (has_iommu(s->dev))
		KUNIT_EXPECT_EQ(test, -ENOMEM,
				hmm_dma_map_alloc_range(s->dev, &map, 0, 1ul << 50, PUD_SIZE));

	/* Not registered; registered, and changed since */
	range.mirror = NULL;
	KUNIT_EXPECT_EQ(test, -EINVAL, map_range(s, &range));
	s->range.end -= PAGE_SIZE;
	expect_map_fails(s, -EINVAL);
	s->range.end += PAGE_SIZE;

	/* Before the map, behind it, and on both sides */
	hmm_dma_map_free(s->dev, &s->map);
	KUNIT_ASSERT_EQ(test, 0, hmm_dma_map_alloc_range(s->dev, &s->map, addr + 2 * PAGE_SIZE,
							 addr + 4 * PAGE_SIZE, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, -EINVAL, map_pages(s, 0, 1));
	KUNIT_EXPECT_EQ(test, -EINVAL, map_pages(s, 1, 2));
	KUNIT_EXPECT_EQ(test, -EINVAL, map_pages(s, 3, 2));
	KUNIT_EXPECT_EQ(test, -EINVAL, map_pages(s, 4, 1));
	expect_map_fails(s, -EINVAL);
	KUNIT_EXPECT_EQ(test, 0, s->map.nr_mapped);
	hmm_dma_map_free(s->dev, &s->map);

	/* Pages of 4K, and a range of them, where the device has none; without an array */
	KUNIT_ASSERT_EQ(test, 0, hmm_dma_map_alloc_range(s->dev, &s->map, addr, s->range.end,
							 PMD_SIZE));
	expect_map_fails(s, -EINVAL);
	KUNIT_EXPECT_EQ(test, -EINVAL, map_pages(s, 0, 3));
	expect_unmapped(s, 0, 2);
	pfns = s->range.hmm_pfns;
	s->range.hmm_pfns = NULL;
	expect_map_fails(s, -EINVAL);
	s->range.hmm_pfns = pfns;

	/* Where there is no memory any more. */
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(addr + PAGE_SIZE, PAGE_SIZE));
	expect_map_fails(s, -EFAULT);
}

/* Map all, after a part that begins at @kept: only that is mapped when it fails. */
static int map_behind(struct subject *s, unsigned long kept, unsigned long nr)
{
	int ret;

	KUNIT_EXPECT_EQ(s->test, 0, map_pages(s, kept, nr));
	/* The DMA API warns of memory that the device cannot reach. */
	kunit_warning_suppress(s->test)
		ret = subject_map(s);
	return ret;
}

/* Something is at the page where it is to be mapped. */
static int map_to_taken(struct subject *s, unsigned long page, unsigned long kept,
			unsigned long nr)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(s->dev);
	dma_addr_t addr = s->map.state.addr + s->map.bias + page * PAGE_SIZE;
	int ret;

	KUNIT_ASSERT_EQ(s->test, 0, iommu_map(domain, addr, page_to_phys(ZERO_PAGE(0)),
					      PAGE_SIZE, IOMMU_READ, GFP_KERNEL));
	ret = map_behind(s, kept, nr);
	KUNIT_EXPECT_EQ(s->test, PAGE_SIZE, iommu_unmap(domain, addr, PAGE_SIZE));
	return ret;
}

/* The device cannot reach it. */
static int map_out_of_reach(struct subject *s, unsigned long page, unsigned long kept,
			    unsigned long nr)
{
	u64 mask = *s->dev->dma_mask;
	int ret;

	*s->dev->dma_mask = hmm_pfn_to_phys(s->range.hmm_pfns[page]);
	ret = map_behind(s, kept, nr);
	*s->dev->dma_mask = mask;
	return ret;
}

/* Map the array, in which one page has been replaced. The range is valid. */
static int map_with(struct subject *s, unsigned long page, struct page *other)
{
	unsigned long entry = s->range.hmm_pfns[page];
	int ret;

	s->range.hmm_pfns[page] = page_to_pfn(other) | HMM_PFN_VALID | HMM_PFN_WRITE;
	ret = subject_map(s);
	s->range.hmm_pfns[page] = entry;
	return ret;
}

/* Memory of another device, which can be reached by its address on the bus, or not. */
static void peer(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, NPAGES), entry;
	struct subject *s = subject(test, addr, NPAGES, REQ_WRITE);
	u64 bus_addr;
	struct page *page = hmm_kunit_edu_peer(test, true, &bus_addr);

	KUNIT_ASSERT_EQ(test, 0, subject_fault(s));
	for (unsigned int again = 0; again < 2; again++) {
		KUNIT_ASSERT_EQ(test, 0, map_with(s, TABLE, page));
		entry = s->map.pfn_list[TABLE];
		KUNIT_EXPECT_EQ(test, entry, page_to_pfn(page) | HMM_PFN_VALID | HMM_PFN_WRITE |
				HMM_PFN_DMA_MAPPED | HMM_PFN_P2PDMA_BUS);
		KUNIT_EXPECT_EQ(test, dma_addr(s, TABLE), bus_addr);
		if (has_iommu(s->dev))
			KUNIT_EXPECT_EQ(test, 0, translate(s->dev, dma_addr(s, 0) +
							   TABLE * PAGE_SIZE));
		expect_mapped(s, 0, TABLE);
	}
	subject_unmap(s);
	KUNIT_EXPECT_EQ(test, 0, s->map.pfn_list[TABLE]);
	expect_unmapped(s, 0, NPAGES);

	page = hmm_kunit_edu_peer(test, false, &bus_addr);
	KUNIT_EXPECT_EQ(test, -EREMOTEIO, map_with(s, TABLE, page));
	expect_unmapped(s, 0, NPAGES);
}

/* Device private memory, behind pages that could be mapped, and before others. */
static void device_private(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, NPAGES);
	struct subject *s = subject(test, addr, NPAGES, REQ_WRITE);
	struct hmm_kunit_pgmap *pgmap = hmm_kunit_pgmap(test, MEMORY_DEVICE_PRIVATE, PMD_SIZE, 0);

	KUNIT_ASSERT_EQ(test, 0, subject_fault(s));
	KUNIT_EXPECT_EQ(test, -EREMOTEIO,
			map_with(s, TABLE, phys_to_page(pgmap->pgmap.range.start)));
	expect_unmapped(s, 0, NPAGES);
	KUNIT_EXPECT_EQ(test, 0, subject_map(s));
	expect_mapped(s, 0, NPAGES);
}

/*
 * Somebody who has the lock for @ms, and then kills a thread that waits for it, if it is
 * told to
 */
struct holder {
	struct subject *s;
	unsigned int ms;
	struct task_struct *kill;
	struct completion taken, end, done;
};

static int holder_thread(void *data)
{
	struct holder *holder = data;
	struct subject *s = holder->s;

	mutex_lock(&s->lock);
	complete(&holder->taken);
	msleep(holder->ms);
	if (holder->kill) {
		hmm_kunit_kill_task(holder->kill);
		wait_for_completion(&holder->end);
	}
	mutex_unlock(&s->lock);
	complete(&holder->done);
	return 0;
}

static void hold(struct kunit *test, struct holder *holder)
{
	init_completion(&holder->taken);
	init_completion(&holder->end);
	init_completion(&holder->done);
	KUNIT_ASSERT_FALSE(test, IS_ERR(kthread_run(holder_thread, holder, "holder")));
	wait_for_completion(&holder->taken);
}

/* Takes the first page away */
struct taker {
	struct subject *s;
	struct completion done;
};

static int taker_thread(void *data)
{
	struct taker *taker = data;

	kthread_use_mm(taker->s->mirror.notifier.mm);
	hmm_kunit_try_madvise(current->mm, taker->s->start, 1, MADV_DONTNEED);
	kthread_unuse_mm(taker->s->mirror.notifier.mm);
	complete(&taker->done);
	return 0;
}

/*
 * A page that is taken away before the lock is free is not mapped, but found again: the
 * event waits for the lock first, and the range is valid until it gets it.
 */
static void not_confirmed(struct kunit *test)
{
	struct subject *s = subject(test, hmm_kunit_anon(test, NPAGES), NPAGES, REQ_WRITE);
	struct holder holder = { .s = s, .ms = 500 };
	struct taker taker = { .s = s };

	init_completion(&taker.done);
	KUNIT_ASSERT_EQ(test, 0, subject_fault(s));
	hold(test, &holder);
	KUNIT_ASSERT_FALSE(test, IS_ERR(kthread_run(taker_thread, &taker, "taker")));
	msleep(200);
	KUNIT_EXPECT_EQ(test, 0, s->generations[0]);
	KUNIT_EXPECT_EQ(test, 0, subject_map(s));
	wait_for_completion(&holder.done);
	wait_for_completion(&taker.done);
	KUNIT_EXPECT_EQ(test, 1, s->generations[0]);
	expect_mapped(s, 0, NPAGES);
}

/* A thread that is killed does not wait for the lock of the driver any longer. */
static void killed(struct kunit *test)
{
	struct subject *s = subject(test, hmm_kunit_anon(test, NPAGES), NPAGES, REQ_WRITE);
	struct holder holder = { .s = s, .ms = 100, .kill = current };

	KUNIT_ASSERT_EQ(test, 0, subject_fault(s));
	hold(test, &holder);
	KUNIT_EXPECT_EQ(test, -EINTR, subject_map(s));
	hmm_kunit_kill(false);
	complete(&holder.end);
	wait_for_completion(&holder.done);
	expect_unmapped(s, 0, NPAGES);
	KUNIT_EXPECT_EQ(test, 0, subject_map(s));
	expect_mapped(s, 0, NPAGES);
}

/* A page that is mapped has become another, though nobody has unmapped it. */
static void changed(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, NPAGES);
	struct subject *s = subject(test, addr, NPAGES, REQ_WRITE);

	KUNIT_ASSERT_EQ(test, 0, subject_map(s));
	unmap(s, addr, addr + PAGE_SIZE);
	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test, -EINVAL, map_with(s, TABLE, ZERO_PAGE(0)));
		KUNIT_EXPECT_GT(test, KUNIT_SUPPRESSED_WARNING_COUNT(), 0);
	}
	expect_unmapped(s, 0, 1);
	expect_mapped(s, 1, NPAGES - 1);
	KUNIT_EXPECT_EQ(test, 0, subject_map(s));
	expect_mapped(s, 0, NPAGES);
}

/*
 * One page cannot be mapped: to the IOMMU because something is there, or because the
 * device cannot reach it. Pages that were mapped before stay, and no others are.
 */
static void link_fails(struct kunit *test)
{
	static const unsigned long at[] = { 0, 1, TABLE, NPAGES - 1 };
	const struct memory *memory = test->param_value;
	unsigned long addr = memory->map(test), kept, i;
	struct subject *s = subject(test, addr, NPAGES, REQ_WRITE);
	unsigned long *pfns = s->range.hmm_pfns, highest = 0;

	KUNIT_ASSERT_EQ(test, 0, subject_fault(s));
	for (i = 0; i < NPAGES; i++)
		if (hmm_pfn_to_phys(pfns[i]) > hmm_pfn_to_phys(pfns[highest]))
			highest = i;
	for (unsigned int k = 0; k < ARRAY_SIZE(at); k++) {
		unsigned long page = has_iommu(s->dev) ? at[k] : highest;

		kept = ALIGN_DOWN(page ^ TABLE, memory->leaf);
		KUNIT_EXPECT_LT(test, has_iommu(s->dev) ?
				map_to_taken(s, page, kept, memory->leaf) :
				map_out_of_reach(s, page, kept, memory->leaf), 0);
		expect_unmapped(s, 0, kept);
		expect_mapped(s, kept, memory->leaf);
		expect_unmapped(s, kept + memory->leaf, NPAGES - kept - memory->leaf);

		KUNIT_EXPECT_EQ(test, 0, subject_map(s));
		expect_mapped(s, 0, NPAGES);
		subject_unmap(s);
		expect_unmapped(s, 0, NPAGES);
	}
}

/* Allocations fail, one after another: of the map, and of page tables of the IOMMU. */
static void no_memory(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, NPAGES);
	struct subject *s = subject(test, addr, NPAGES, REQ_WRITE);
	unsigned int nth = 1;
	bool failed;
	int ret;

	hmm_kunit_inject(test);
	KUNIT_ASSERT_EQ(test, 0, subject_fault(s));
	hmm_dma_map_free(s->dev, &s->map);
	do {
		hmm_kunit_fail_nth(nth++);
		ret = hmm_dma_map_alloc_range(s->dev, &s->map, addr, s->range.end, PAGE_SIZE);
		failed = hmm_kunit_has_failed();
		KUNIT_EXPECT_TRUE(test, !ret || ret == -ENOMEM);
		if (!ret && failed)
			hmm_dma_map_free(s->dev, &s->map);
	} while (failed);
	KUNIT_ASSERT_EQ(test, 0, ret);
	KUNIT_EXPECT_GT(test, nth, 2);

	nth = 1;
	do {
		hmm_kunit_fail_nth(nth++);
		ret = subject_map(s);
		failed = hmm_kunit_has_failed();
		if (ret) {
			KUNIT_EXPECT_EQ(test, -ENOMEM, ret);
			expect_unmapped(s, 0, NPAGES);
		}
	} while (failed);
	KUNIT_EXPECT_EQ(test, 0, ret);
	KUNIT_EXPECT_GT(test, nth, 2);
	expect_mapped(s, 0, NPAGES);
}

/* Wherever the memory begins, a huge page of the CPU is one of the IOMMU. */
static void huge_leaf(struct kunit *test)
{
	unsigned long addr = hmm_kunit_hugetlb(test, NPAGES, PMD_SHIFT - PAGE_SHIFT);
	const unsigned long first = TABLE - 3, npages = NPAGES - first;
	struct iommu_domain *domain;
	struct subject *s;
	dma_addr_t iova;

	s = subject(test, addr + first * PAGE_SIZE, npages, REQ_WRITE);
	domain = iommu_get_domain_for_dev(s->dev);
	KUNIT_ASSERT_EQ(test, 0, subject_map(s));
	expect_mapped(s, 0, npages);
	iova = dma_addr(s, 3);
	KUNIT_EXPECT_TRUE(test, IS_ALIGNED(iova, PMD_SIZE));
	/* Of a huge page nobody can unmap less than all; IOMMU_DEBUG_PAGEALLOC warns of it. */
	kunit_warning_suppress(test)
		KUNIT_EXPECT_EQ(test, PMD_SIZE, iommu_unmap(domain, iova, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 0, iommu_map(domain, iova,
					   hmm_pfn_to_phys(s->map.pfn_list[3]), PMD_SIZE,
					   IOMMU_READ | IOMMU_WRITE, GFP_KERNEL));
}

/* Entries of a whole huge page each, or of a part of one. */
static void huge_entries(struct kunit *test, size_t size)
{
	unsigned long addr = hmm_kunit_hugetlb(test, NPAGES, PMD_SHIFT - PAGE_SHIFT);
	struct subject *s = subject_of(test, addr, NPAGES, REQ_WRITE, size);
	const unsigned long nr = PMD_SIZE / size;
	struct hmm_kunit_leaf leaf;

	KUNIT_ASSERT_EQ(test, 0, subject_map(s));
	for (unsigned int i = 0; i < 2 * nr; i++) {
		KUNIT_ASSERT_TRUE(test, hmm_kunit_leaf(addr + i * size, &leaf));
		KUNIT_EXPECT_EQ(test, s->map.pfn_list[i],
				hmm_kunit_leaf_entry(&leaf) | HMM_PFN_DMA_MAPPED);
		for (unsigned long at = 0; at < size; at += 5 * PAGE_SIZE)
			KUNIT_EXPECT_EQ(test, translate(s->dev, dma_addr(s, i) + at),
					PFN_PHYS(leaf.pfn) + at);
	}
	/* A page of the second huge page is unmapped, and so all of that. */
	unmap(s, addr + PMD_SIZE + PAGE_SIZE, addr + PMD_SIZE + 2 * PAGE_SIZE);
	expect_unmapped(s, nr, nr);
	for (unsigned int i = 0; i < nr; i++)
		KUNIT_EXPECT_TRUE(test, s->map.pfn_list[i] & HMM_PFN_DMA_MAPPED);
	KUNIT_EXPECT_EQ(test, 0, subject_map(s));
	for (unsigned int i = 0; i < 2 * nr; i++)
		KUNIT_EXPECT_TRUE(test, s->map.pfn_list[i] & HMM_PFN_DMA_MAPPED);
}

static void entries_2m(struct kunit *test)
{
	huge_entries(test, PMD_SIZE);
}

static void entries_64k(struct kunit *test)
{
	huge_entries(test, SZ_64K);
}

#ifdef CONFIG_HMM_KUNIT_HAS_DMA_PFN
/* A driver may map both by entries and by ranges. */
static void by_pages(struct kunit *test)
{
	const struct memory *memory = test->param_value;
	unsigned long addr = memory->map(test), i;
	struct subject *s = subject(test, addr, NPAGES, REQ_WRITE);
	struct pci_p2pdma_map_state p2pdma_state = {};

	KUNIT_ASSERT_EQ(test, 0, subject_fault(s));
	mutex_lock(&s->lock);
	KUNIT_EXPECT_EQ(test, 0, hmm_dma_map_store(&s->map, 0, &s->range));
	for (i = 0; i < NPAGES; i++) {
		dma_addr_t mapped = hmm_dma_map_pfn(s->dev, &s->map, i, &p2pdma_state);

		KUNIT_EXPECT_EQ(test, mapped, dma_addr(s, i));
		KUNIT_EXPECT_EQ(test, mapped,
				hmm_dma_map_pfn(s->dev, &s->map, i, &p2pdma_state));
		KUNIT_EXPECT_EQ(test, translate(s->dev, mapped),
				hmm_pfn_to_phys(s->range.hmm_pfns[i]));
	}
	/* Stored again, that is still mapped page by page. */
	KUNIT_EXPECT_EQ(test, 0, hmm_dma_map_store(&s->map, 0, &s->range));
	for (i = 0; i < NPAGES; i += 2) {
		KUNIT_EXPECT_TRUE(test, hmm_dma_unmap_pfn(s->dev, &s->map, i));
		KUNIT_EXPECT_FALSE(test, hmm_dma_unmap_pfn(s->dev, &s->map, i));
		s->map.pfn_list[i] = 0;
	}
	for (i = 0; i < NPAGES; i++)
		KUNIT_EXPECT_EQ(test, i % 2, !!(s->map.pfn_list[i] & HMM_PFN_DMA_MAPPED));

	mutex_unlock(&s->lock);

	/* Missing entries come with the range, and go with the leaf. */
	KUNIT_EXPECT_EQ(test, 0, subject_map(s));
	mutex_lock(&s->lock);
	for (i = 0; i < NPAGES; i++)
		KUNIT_EXPECT_EQ(test, translate(s->dev, dma_addr(s, i)),
				hmm_pfn_to_phys(s->range.hmm_pfns[i]));
	mutex_unlock(&s->lock);
	unmap(s, addr, addr + PAGE_SIZE);
	expect_unmapped(s, 0, memory->leaf);

	/* A page of a leaf that was mapped as a whole cannot be unmapped by itself. */
	subject_unmap(s);
	KUNIT_EXPECT_EQ(test, 0, subject_map(s));
	kunit_warning_suppress(test) {
		mutex_lock(&s->lock);
		KUNIT_EXPECT_TRUE(test, hmm_dma_unmap_pfn(s->dev, &s->map, 1));
		s->map.pfn_list[1] = 0;
		mutex_unlock(&s->lock);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, memory->leaf > 1);
	}
	expect_unmapped(s, 1, memory->leaf > 1 ? memory->leaf - 1 : 1);
	expect_mapped(s, memory->leaf > 1 ? memory->leaf : 2, TABLE);
}

/* Twice, and unmap it, if it can be: it is at @want then. */
static void store_and_map(struct subject *s, unsigned long idx, struct page *page, dma_addr_t want)
{
	const unsigned long entry = page_to_pfn(page) | HMM_PFN_VALID | HMM_PFN_WRITE;
	struct pci_p2pdma_map_state p2pdma_state = {};
	bool mapped = want != DMA_MAPPING_ERROR;

	mutex_lock(&s->lock);
	s->map.pfn_list[idx] = entry;
	for (unsigned int again = 0; again < 2; again++) {
		KUNIT_EXPECT_EQ(s->test, want,
				hmm_dma_map_pfn(s->dev, &s->map, idx, &p2pdma_state));
		KUNIT_EXPECT_EQ(s->test, s->map.pfn_list[idx],
				mapped ? entry | HMM_PFN_DMA_MAPPED | HMM_PFN_P2PDMA_BUS : entry);
	}
	KUNIT_EXPECT_EQ(s->test, mapped, hmm_dma_unmap_pfn(s->dev, &s->map, idx));
	KUNIT_EXPECT_EQ(s->test, entry, s->map.pfn_list[idx]);
	s->map.pfn_list[idx] = 0;
	mutex_unlock(&s->lock);
	KUNIT_EXPECT_EQ(s->test, 0, s->map.nr_mapped);
}

/* Memory of another device, entry by entry: on the bus, out of reach, and private. */
static void peer_by_pages(struct kunit *test)
{
	struct subject *s = subject(test, hmm_kunit_anon(test, NPAGES), NPAGES, REQ_WRITE);
	struct hmm_kunit_pgmap *pgmap = hmm_kunit_pgmap(test, MEMORY_DEVICE_PRIVATE, PMD_SIZE, 0);
	u64 bus_addr;
	struct page *page = hmm_kunit_edu_peer(test, true, &bus_addr);

	store_and_map(s, TABLE, page, bus_addr);
	page = hmm_kunit_edu_peer(test, false, &bus_addr);
	store_and_map(s, TABLE, page, DMA_MAPPING_ERROR);
	page = phys_to_page(pgmap->pgmap.range.start);
	store_and_map(s, TABLE, page, DMA_MAPPING_ERROR);
}
#endif /* CONFIG_HMM_KUNIT_HAS_DMA_PFN */

/* Takes pages away: often in the second 2M, and now and then anywhere. */
static int storm_thread(void *data)
{
	struct subject *s = data;

	kthread_use_mm(s->mirror.notifier.mm);
	while (!kthread_should_stop()) {
		unsigned long first = get_random_u32_below(32) ? TABLE : 0;
		unsigned long nr = 1 + get_random_u32_below(64);

		first += get_random_u32_below(NPAGES - first - nr + 1);
		/* Of hugetlbfs nothing less goes away. */
		if (!get_random_u32_below(16)) {
			first = ALIGN_DOWN(first, TABLE);
			nr = TABLE;
		}
		hmm_kunit_try_madvise(current->mm, s->start + first * PAGE_SIZE, nr,
				      MADV_DONTNEED);
		usleep_range(1, 2000);
	}
	kthread_unuse_mm(s->mirror.notifier.mm);
	return 0;
}

/* How often the device has read, written, and been kept from writing. */
struct storm {
	unsigned long read;
	unsigned long written;
	unsigned long blocked;
};

static bool is_as_before(struct subject *s, unsigned long page, unsigned long generation)
{
	bool ret;

	mutex_lock(&s->lock);
	ret = s->generations[page] == generation;
	mutex_unlock(&s->lock);
	return ret;
}

/* The device reads and writes a page, which may be taken away meanwhile. */
static void storm_access(struct subject *s, unsigned long page, u64 *data,
			 struct storm *storm)
{
	u64 __user *user = (u64 __user *)(s->start + page * PAGE_SIZE);
	u64 tag = get_random_u64();
	unsigned long generation;
	dma_addr_t addr;
	struct page *kept;

	mutex_lock(&s->lock);
	if (!(s->map.pfn_list[page] & HMM_PFN_DMA_MAPPED)) {
		mutex_unlock(&s->lock);
		return;
	}
	generation = s->generations[page];
	addr = dma_addr(s, page);
	kept = hmm_pfn_to_page(s->map.pfn_list[page]);
	get_page(kept);
	mutex_unlock(&s->lock);

	fill(data, tag);
	KUNIT_EXPECT_EQ(s->test, 0, copy_to_user(user, data, HMM_KUNIT_EDU_BYTES));
	if (is_as_before(s, page, generation)) {
		hmm_kunit_edu_read(s->test, addr, data);
		if (is_as_before(s, page, generation)) {
			KUNIT_EXPECT_TRUE(s->test, is_filled(data, tag));
			storm->read++;
		}
	}
	if (is_as_before(s, page, generation)) {
		fill(data, ~tag);
		hmm_kunit_edu_write(s->test, addr, data);
		if (!copy_from_user(data, user, HMM_KUNIT_EDU_BYTES) &&
		    is_as_before(s, page, generation)) {
			KUNIT_EXPECT_TRUE(s->test, is_filled(data, ~tag));
			storm->written++;
		}
	}
	/* Nobody but this thread maps it again. */
	if (has_iommu(s->dev) && !is_as_before(s, page, generation)) {
		u64 *old = kmap_local_page(kept), before = READ_ONCE(*old);

		fill(data, ~before);
		hmm_kunit_edu_write(s->test, addr, data);
		KUNIT_EXPECT_EQ(s->test, before, READ_ONCE(*old));
		kunmap_local(old);
		storm->blocked++;
	}
	put_page(kept);
}

/*
 * A thread takes pages away while others are mapped, and accessed by the device. At any
 * time the mapped pages are those of the CPU; and the device reads and writes these, for
 * as long as they are mapped.
 */
static void storm(struct kunit *test)
{
	const struct memory *memory = test->param_value;
	unsigned long addr = memory->map(test), rounds = 0;
	struct subject *s = subject(test, addr, NPAGES, REQ_WRITE);
	u64 *data = kunit_kmalloc(test, HMM_KUNIT_EDU_BYTES, GFP_KERNEL);
	u64 end = ktime_get_ns() + hmm_kunit_rounds * (NSEC_PER_SEC / 200);
	struct storm storm = {};
	struct task_struct *thread;
	int ret;

	KUNIT_ASSERT_NOT_NULL(test, data);
	thread = kthread_run(storm_thread, s, "storm");
	KUNIT_ASSERT_FALSE(test, IS_ERR(thread));
	do {
		reset_hung_task_detector();
		ret = subject_map(s);
		/* A fault of a file may meet a page table that is just freed: -ENOMEM. */
		if (ret) {
			KUNIT_EXPECT_TRUE(test, ret == -EBUSY || ret == -ENOMEM);
			continue;
		}
		/* Callbacks wait for the lock: mapped pages are still those of the CPU. */
		mutex_lock(&s->lock);
		for (unsigned long i = 0; i < NPAGES; i++) {
			unsigned long entry = s->map.pfn_list[i];
			struct hmm_kunit_leaf leaf;

			if (entry & HMM_PFN_DMA_MAPPED &&
			    (!hmm_kunit_leaf(addr + i * PAGE_SIZE, &leaf) ||
			     (entry & ~HMM_PFN_FLAGS) != leaf.pfn ||
			     translate(s->dev, dma_addr(s, i)) != PFN_PHYS(leaf.pfn)))
				s->nr_stale++;
		}
		mutex_unlock(&s->lock);
		if (!(rounds++ % 8))
			storm_access(s, get_random_u32_below(NPAGES), data, &storm);
	} while (ktime_get_ns() < end);
	kthread_stop(thread);
	KUNIT_EXPECT_GT(test, rounds, 0);
	KUNIT_EXPECT_EQ(test, 0, s->nr_stale);
	kunit_info(test, "%lu rounds; the device has read %lu pages, written %lu, and has been kept from %lu",
		   rounds, storm.read, storm.written, storm.blocked);
}

/* Calls of the IOMMU driver: one for each leaf, and one for all that is unmapped. */
static void expect_counts(struct kunit *test, const char *what,
			  const struct hmm_kunit_edu_counts *counts, unsigned long maps,
			  unsigned long unmaps, unsigned long flushes)
{
	KUNIT_EXPECT_EQ_MSG(test, maps, counts->maps, "%s", what);
	KUNIT_EXPECT_EQ_MSG(test, unmaps, counts->unmaps, "%s", what);
	KUNIT_EXPECT_EQ_MSG(test, flushes, counts->flushes, "%s", what);
}

static void counts(struct kunit *test)
{
	const struct memory *memory = test->param_value;
	unsigned long addr = memory->map(test);
	struct subject *s = subject(test, addr, NPAGES, REQ_WRITE);
	struct hmm_kunit_edu_counts counts;
	unsigned long i;

	/* Page tables that are left there from before go, or stay. */
	KUNIT_ASSERT_EQ(test, 0, subject_map(s));
	subject_unmap(s);

	hmm_kunit_edu_count_begin(test, &counts);
	KUNIT_EXPECT_EQ(test, 0, subject_map(s));
	hmm_kunit_edu_count_end(&counts);
	expect_counts(test, "map", &counts, NPAGES / memory->leaf, 0, 1);

	hmm_kunit_edu_count_begin(test, &counts);
	KUNIT_EXPECT_EQ(test, 0, subject_map(s));
	hmm_kunit_edu_count_end(&counts);
	expect_counts(test, "again", &counts, 0, 0, 0);

	hmm_kunit_edu_count_begin(test, &counts);
	unmap(s, addr, s->range.end);
	hmm_kunit_edu_count_end(&counts);
	expect_counts(test, "unmap", &counts, 0, 1, 1);

	/* With a hole in it that is a page or a leaf, in the first half. */
	KUNIT_EXPECT_EQ(test, 0, subject_map(s));
	unmap(s, addr + PAGE_SIZE, addr + 2 * PAGE_SIZE);
	hmm_kunit_edu_count_begin(test, &counts);
	unmap(s, addr, s->range.end);
	hmm_kunit_edu_count_end(&counts);
	i = memory->leaf > 1 ? 1 : 2;
	expect_counts(test, "unmap with a hole", &counts, 0, i, i);

	/* Pages are missing on both sides of those that are mapped. */
	KUNIT_EXPECT_EQ(test, 0, subject_map(s));
	unmap(s, addr, addr + PAGE_SIZE);
	if (memory->leaf == 1)
		unmap(s, s->range.end - PAGE_SIZE, s->range.end);
	hmm_kunit_edu_count_begin(test, &counts);
	KUNIT_EXPECT_EQ(test, 0, subject_map(s));
	hmm_kunit_edu_count_end(&counts);
	expect_counts(test, "fill holes", &counts, i, 0, i);
	subject_unmap(s);
}

#ifdef CONFIG_HMM_KUNIT_HAS_DMA_PFN
static void counts_by_pages(struct kunit *test)
{
	const struct memory *memory = test->param_value;
	struct subject *s = subject(test, memory->map(test), NPAGES, REQ_WRITE);
	struct pci_p2pdma_map_state p2pdma_state = {};
	struct hmm_kunit_edu_counts counts;
	unsigned long i;

	KUNIT_ASSERT_EQ(test, 0, subject_map(s));
	subject_unmap(s);
	mutex_lock(&s->lock);
	KUNIT_EXPECT_EQ(test, 0, hmm_dma_map_store(&s->map, 0, &s->range));
	mutex_unlock(&s->lock);
	hmm_kunit_edu_count_begin(test, &counts);
	mutex_lock(&s->lock);
	for (i = 0; i < NPAGES; i++)
		hmm_dma_map_pfn(s->dev, &s->map, i, &p2pdma_state);
	mutex_unlock(&s->lock);
	hmm_kunit_edu_count_end(&counts);
	expect_counts(test, "map pages", &counts, NPAGES, 0, NPAGES);
	hmm_kunit_edu_count_begin(test, &counts);
	mutex_lock(&s->lock);
	for (i = 0; i < NPAGES; i++)
		hmm_dma_unmap_pfn(s->dev, &s->map, i);
	mutex_unlock(&s->lock);
	hmm_kunit_edu_count_end(&counts);
	expect_counts(test, "unmap pages", &counts, 0, NPAGES, NPAGES);
}
#endif /* CONFIG_HMM_KUNIT_HAS_DMA_PFN */

/* Nothing is mapped for a device that would be given copies. */
static void copies(struct kunit *test)
{
	struct device *dev = hmm_kunit_edu(test);
	struct hmm_dma_map map;

	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			hmm_dma_map_alloc_range(dev, &map, PMD_SIZE, 2 * PMD_SIZE, PAGE_SIZE));
#ifdef CONFIG_HMM_KUNIT_HAS_DMA_PFN
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP, hmm_dma_map_alloc(dev, &map, TABLE, PAGE_SIZE));
#endif
}

static const struct kunit_attributes slow = { .speed = KUNIT_SPEED_SLOW };

static int hmm_dma_case(struct kunit *test)
{
	if (!has_iommu(hmm_kunit_edu(test)))
		kunit_skip(test, "no IOMMU");
	return 0;
}

static struct kunit_case hmm_dma_cases[] = {
	KUNIT_CASE_PARAM_ATTR(map, memory_gen_params, slow),
	KUNIT_CASE_PARAM(unmap_part, memory_gen_params),
	KUNIT_CASE_PARAM(map_part, memory_gen_params),
	KUNIT_CASE(upgrade),
	KUNIT_CASE(holes),
	KUNIT_CASE(no_device),
	KUNIT_CASE(refused),
	KUNIT_CASE(device_private),
	KUNIT_CASE(peer),
	KUNIT_CASE(changed),
	KUNIT_CASE(killed),
	KUNIT_CASE(not_confirmed),
	KUNIT_CASE_PARAM(link_fails, memory_gen_params),
	KUNIT_CASE(no_memory),
	KUNIT_CASE(entries_2m),
	KUNIT_CASE(entries_64k),
#ifdef CONFIG_HMM_KUNIT_HAS_DMA_PFN
	KUNIT_CASE_PARAM(by_pages, memory_gen_params),
	KUNIT_CASE(peer_by_pages),
#endif
	KUNIT_CASE_PARAM_ATTR(storm, memory_gen_params, slow),
	KUNIT_CASE(huge_leaf),
	KUNIT_CASE_PARAM(counts, memory_gen_params),
#ifdef CONFIG_HMM_KUNIT_HAS_DMA_PFN
	KUNIT_CASE_PARAM(counts_by_pages, memory_gen_params),
#endif
	{ }
};

static struct kunit_suite hmm_dma_suite = {
	.name = "hmm_dma",
	.suite_init = hmm_kunit_edu_init,
	.suite_exit = hmm_kunit_edu_exit,
	.init = hmm_dma_case,
	.test_cases = hmm_dma_cases,
};

static int direct_hmm_dma_case(struct kunit *test)
{
	struct device *dev = hmm_kunit_edu(test);

	if (has_iommu(dev) || is_swiotlb_force_bounce(dev))
		kunit_skip(test, "boot with intel_iommu=off");
	return 0;
}

static struct kunit_case direct_hmm_dma_cases[] = {
	KUNIT_CASE_PARAM_ATTR(map, memory_gen_params, slow),
	KUNIT_CASE_PARAM(unmap_part, memory_gen_params),
	KUNIT_CASE_PARAM(map_part, memory_gen_params),
	KUNIT_CASE(upgrade),
	KUNIT_CASE(holes),
	KUNIT_CASE(no_device),
	KUNIT_CASE(refused),
	KUNIT_CASE(device_private),
	KUNIT_CASE(peer),
	KUNIT_CASE(changed),
	KUNIT_CASE(killed),
	KUNIT_CASE(not_confirmed),
	KUNIT_CASE_PARAM(link_fails, memory_gen_params),
	KUNIT_CASE(no_memory),
	KUNIT_CASE(entries_2m),
	KUNIT_CASE(entries_64k),
#ifdef CONFIG_HMM_KUNIT_HAS_DMA_PFN
	KUNIT_CASE_PARAM(by_pages, memory_gen_params),
	KUNIT_CASE(peer_by_pages),
#endif
	KUNIT_CASE_PARAM_ATTR(storm, memory_gen_params, slow),
	{ }
};

static struct kunit_suite direct_hmm_dma_suite = {
	.name = "direct_hmm_dma",
	.suite_init = hmm_kunit_edu_init,
	.suite_exit = hmm_kunit_edu_exit,
	.init = direct_hmm_dma_case,
	.test_cases = direct_hmm_dma_cases,
};

static int swiotlb_hmm_dma_case(struct kunit *test)
{
	struct device *dev = hmm_kunit_edu(test);

	if (has_iommu(dev) || !is_swiotlb_force_bounce(dev))
		kunit_skip(test, "boot with intel_iommu=off swiotlb=force");
	return 0;
}

static struct kunit_case swiotlb_hmm_dma_cases[] = {
	KUNIT_CASE(copies),
	{ }
};

static struct kunit_suite swiotlb_hmm_dma_suite = {
	.name = "swiotlb_hmm_dma",
	.suite_init = hmm_kunit_edu_init,
	.suite_exit = hmm_kunit_edu_exit,
	.init = swiotlb_hmm_dma_case,
	.test_cases = swiotlb_hmm_dma_cases,
};

kunit_test_suites(&hmm_dma_suite, &direct_hmm_dma_suite, &swiotlb_hmm_dma_suite);
