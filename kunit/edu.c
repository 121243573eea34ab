// SPDX-License-Identifier: GPL-2.0-only
/*
 * The edu device of qemu (docs/specs/edu.rst there), described in edu.h.
 */
#include <linux/console.h>
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/io.h>
#include <linux/pci.h>
#include <linux/pci-p2pdma.h>
#include <linux/tracepoint.h>

#include "edu.h"

#define EDU_DMA_SOURCE	0x80
#define EDU_DMA_DEST	0x88
#define EDU_DMA_COUNT	0x90
#define EDU_DMA_COMMAND	0x98
#define EDU_DMA_RUN	BIT(0)
#define EDU_DMA_TO_RAM	BIT(1)
#define EDU_BUFFER	0x40000

/* Of one device; suites run one after another. */
static struct edu {
	struct pci_dev *pdev;
	void __iomem *regs;
	/* The CPU gets the data that the device has read from here, and the reverse. */
	void *data;
	dma_addr_t data_addr;
} edu;

static int edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	int ret;

	if (edu.pdev)
		return -EBUSY;
	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (ret)
		return ret;
	pci_set_master(pdev);
	edu.regs = pcim_iomap(pdev, 0, 0);
	if (!edu.regs)
		return -ENOMEM;
	edu.data = dmam_alloc_coherent(&pdev->dev, HMM_KUNIT_EDU_BYTES, &edu.data_addr,
				       GFP_KERNEL);
	if (!edu.data)
		return -ENOMEM;
	edu.pdev = pdev;
	return 0;
}

static void edu_remove(struct pci_dev *pdev)
{
	pci_clear_master(pdev);
	edu.pdev = NULL;
}

static const struct pci_device_id edu_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },
	{ }
};

static struct pci_driver edu_driver = {
	.name = "hmm_kunit_edu",
	.id_table = edu_ids,
	.probe = edu_probe,
	.remove = edu_remove,
};

/* The second BAR is memory: these devices offer all of it to others. */
#define PEER_BAR 2

static struct edu_peer {
	struct pci_dev *pdev;
	void *page;
} edu_peers[2];

static int peer_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct edu_peer *peer = edu_peers;
	int ret;

	if (peer->pdev)
		peer++;
	if (peer->pdev)
		return -EBUSY;
	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	ret = pci_p2pdma_add_resource(pdev, PEER_BAR, 0, 0);
	if (ret)
		return ret;
	peer->page = pci_alloc_p2pmem(pdev, PAGE_SIZE);
	if (!peer->page)
		return -ENOMEM;
	peer->pdev = pdev;
	return 0;
}

static void peer_remove(struct pci_dev *pdev)
{
	struct edu_peer *peer = edu_peers;

	if (peer->pdev != pdev)
		peer++;
	pci_free_p2pmem(pdev, peer->page, PAGE_SIZE);
	peer->pdev = NULL;
}

static const struct pci_device_id peer_ids[] = {
	{ PCI_DEVICE(0x1af4, 0x1110) },
	{ }
};

static struct pci_driver peer_driver = {
	.name = "hmm_kunit_peer",
	.id_table = peer_ids,
	.probe = peer_probe,
	.remove = peer_remove,
};

struct page *hmm_kunit_edu_peer(struct kunit *test, bool reachable, u64 *bus_addr)
{
	struct pci_bus *above;

	hmm_kunit_edu(test);
	above = edu.pdev->bus->parent;
	for (int i = 0; i < ARRAY_SIZE(edu_peers); i++) {
		struct edu_peer *peer = &edu_peers[i];
		phys_addr_t offset;

		if (!peer->pdev || (above && peer->pdev->bus->parent == above) != reachable)
			continue;
		offset = page_to_phys(virt_to_page(peer->page)) -
			 pci_resource_start(peer->pdev, PEER_BAR);
		*bus_addr = pci_bus_address(peer->pdev, PEER_BAR) + offset;
		return virt_to_page(peer->page);
	}
	kunit_skip(test, "no ivshmem device");
}

/* The driver of the IOMMU says so in the log only. */
static atomic_long_t edu_nr_blocked;

static void edu_log(struct console *console, const char *text, unsigned int len)
{
	if (strnstr(text, "DMAR: [DMA ", len))
		atomic_long_inc(&edu_nr_blocked);
}

static struct console edu_console = {
	.name = "hmm_kunit",
	.write = edu_log,
	.flags = CON_ENABLED,
	.index = -1,
};

unsigned long hmm_kunit_edu_nr_blocked(void)
{
	return atomic_long_read(&edu_nr_blocked);
}

static void count_map(void *data, unsigned long iova, phys_addr_t phys, size_t size)
{
	((struct hmm_kunit_edu_counts *)data)->maps++;
}

static void count_unmap(void *data, unsigned long iova, size_t size, size_t unmapped)
{
	((struct hmm_kunit_edu_counts *)data)->unmaps++;
}

static void count_flush(void *data, void *iommu, u64 qw0, u64 qw1, u64 qw2, u64 qw3)
{
	/* IOTLB invalidation, and that by PASID. */
	if ((qw0 & 0xf) == 2 || (qw0 & 0xf) == 6)
		((struct hmm_kunit_edu_counts *)data)->flushes++;
}

/* Tracepoints that a module cannot name. */
static struct edu_tracepoint {
	const char *name;
	void *probe;
	struct tracepoint *tp;
} edu_tracepoints[] = {
	{ "map", count_map },
	{ "unmap", count_unmap },
	{ "qi_submit", count_flush },
};

static void find_tracepoint(struct tracepoint *tp, void *data)
{
	for (int i = 0; i < ARRAY_SIZE(edu_tracepoints); i++)
		if (!strcmp(tp->name, edu_tracepoints[i].name))
			edu_tracepoints[i].tp = tp;
}

void hmm_kunit_edu_count_begin(struct kunit *test, struct hmm_kunit_edu_counts *counts)
{
	memset(counts, 0, sizeof(*counts));
	for_each_kernel_tracepoint(find_tracepoint, NULL);
	for (int i = 0; i < ARRAY_SIZE(edu_tracepoints); i++) {
		struct edu_tracepoint *probe = &edu_tracepoints[i];

		KUNIT_ASSERT_NOT_NULL(test, probe->tp);
		KUNIT_ASSERT_EQ(test, 0, tracepoint_probe_register(probe->tp, probe->probe,
								   counts));
	}
}

void hmm_kunit_edu_count_end(struct hmm_kunit_edu_counts *counts)
{
	for (int i = 0; i < ARRAY_SIZE(edu_tracepoints); i++)
		tracepoint_probe_unregister(edu_tracepoints[i].tp,
					    edu_tracepoints[i].probe, counts);
	tracepoint_synchronize_unregister();
}

int hmm_kunit_edu_init(struct kunit_suite *suite)
{
	int ret = pci_register_driver(&edu_driver);

	if (ret)
		return ret;
	ret = pci_register_driver(&peer_driver);
	if (ret)
		pci_unregister_driver(&edu_driver);
	else
		register_console(&edu_console);
	return ret;
}

void hmm_kunit_edu_exit(struct kunit_suite *suite)
{
	unregister_console(&edu_console);
	pci_unregister_driver(&peer_driver);
	pci_unregister_driver(&edu_driver);
}

struct device *hmm_kunit_edu(struct kunit *test)
{
	if (!edu.pdev)
		kunit_skip(test, "no edu device");
	return &edu.pdev->dev;
}

static void edu_copy(struct kunit *test, u64 source, u64 dest, u64 command)
{
	writeq(source, edu.regs + EDU_DMA_SOURCE);
	writeq(dest, edu.regs + EDU_DMA_DEST);
	writeq(HMM_KUNIT_EDU_BYTES, edu.regs + EDU_DMA_COUNT);
	writeq(EDU_DMA_RUN | command, edu.regs + EDU_DMA_COMMAND);
	for (int i = 0; readq(edu.regs + EDU_DMA_COMMAND) & EDU_DMA_RUN; i++) {
		KUNIT_ASSERT_LT(test, i, 1000);
		msleep(20);
	}
}

void hmm_kunit_edu_read(struct kunit *test, dma_addr_t addr, void *data)
{
	edu_copy(test, addr, EDU_BUFFER, 0);
	edu_copy(test, EDU_BUFFER, edu.data_addr, EDU_DMA_TO_RAM);
	memcpy(data, edu.data, HMM_KUNIT_EDU_BYTES);
}

void hmm_kunit_edu_write(struct kunit *test, dma_addr_t addr, const void *data)
{
	memcpy(edu.data, data, HMM_KUNIT_EDU_BYTES);
	edu_copy(test, edu.data_addr, EDU_BUFFER, 0);
	edu_copy(test, EDU_BUFFER, addr, EDU_DMA_TO_RAM);
}
