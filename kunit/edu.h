/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The device whose DMA the suites look at: edu, which qemu has for teaching. It copies up
 * to 4 KiB (qemu 7.2: less than that) from a DMA address to a buffer of its own, or from
 * there to a DMA address, takes 100 ms for it, and does not say when the IOMMU has
 * blocked it. And two with memory behind a PCI bus, ivshmem: one on the switch that edu
 * is on, and one that edu cannot reach.
 */
#ifndef HMM_KUNIT_EDU_H
#define HMM_KUNIT_EDU_H

#include <kunit/test.h>
#include <linux/device.h>

#define HMM_KUNIT_EDU_BYTES 4088

/* Of a suite: the driver is there from the one to the other. */
int hmm_kunit_edu_init(struct kunit_suite *suite);
void hmm_kunit_edu_exit(struct kunit_suite *suite);

/* The device; skips the case where there is none. */
struct device *hmm_kunit_edu(struct kunit *test);

/*
 * A page of the memory of another device, and its address on the bus: of the one that
 * the device can reach, or not. It is there until the suite ends.
 */
struct page *hmm_kunit_edu_peer(struct kunit *test, bool reachable, u64 *bus_addr);

/* Have the device read HMM_KUNIT_EDU_BYTES at @addr to @data. */
void hmm_kunit_edu_read(struct kunit *test, dma_addr_t addr, void *data);
/* Have it write them. */
void hmm_kunit_edu_write(struct kunit *test, dma_addr_t addr, const void *data);

/*
 * struct hmm_kunit_edu_counts - calls of the driver of the IOMMU
 * @maps: something was mapped
 * @unmaps: something was unmapped
 * @flushes: the IOMMU was told to flush its cache of that; with caching mode
 *	on, as it is in scripts/kernel.sh, also after something was mapped
 */
struct hmm_kunit_edu_counts {
	unsigned long maps;
	unsigned long unmaps;
	unsigned long flushes;
};

void hmm_kunit_edu_count_begin(struct kunit *test, struct hmm_kunit_edu_counts *counts);
void hmm_kunit_edu_count_end(struct hmm_kunit_edu_counts *counts);

/* DMA that the IOMMU has blocked, and reported, so far. */
unsigned long hmm_kunit_edu_nr_blocked(void);

#endif /* HMM_KUNIT_EDU_H */
