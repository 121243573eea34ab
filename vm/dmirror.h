/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The device that mirrors a process (test_hmm), as a program of that process sees it.
 */
#ifndef VM_DMIRROR_H
#define VM_DMIRROR_H

#include <errno.h>
#include <sys/ioctl.h>
#include <lib/test_hmm_uapi.h>

#include "common.h"

#define DMIRROR		"/dev/hmm_dmirror0"

/* Do @request for [@addr, @addr + @size): 0, or a negative errno. */
static int command(int device, unsigned long request, void *addr, void *ptr, size_t size)
{
	struct hmm_dmirror_cmd cmd = {
		.addr = (unsigned long)addr,
		.ptr = (unsigned long)ptr,
		.npages = size / PAGE,
	};

	while (ioctl(device, request, &cmd)) {
		if (errno != EINTR)
			return -errno;
	}
	return cmd.cpages == size / PAGE ? 0 : -EIO;
}

#endif
