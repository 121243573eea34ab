/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the programs here share: sizes, how long a storm lasts, and what they fill
 * memory with. Each 8 bytes tell the generation that was written and where, so that
 * a page that is stale, lost or misplaced shows as such. Offsets are in bytes from
 * the start of the buffer or file, multiples of 8; a generation of 0 stands for
 * memory that was never written, all zero.
 */
#ifndef VM_COMMON_H
#define VM_COMMON_H

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <linux/types.h>

#define PAGE		4096UL
#define HUGE		(2UL << 20)

#define WHERE_MASK	((1ULL << 40) - 1)

/* What scripts/vm --seconds says. */
static inline unsigned int seconds(void)
{
	const char *s = getenv("seconds");

	return s ? atoi(s) : 5;
}

static inline __u64 pattern(size_t offset, unsigned int generation)
{
	return generation ? (__u64)generation << 40 | (offset + 1) : 0;
}

static inline void fill(void *buffer, size_t offset, size_t size, unsigned int generation)
{
	__u64 *p = buffer;
	size_t i;

	for (i = 0; i < size / 8; i++)
		p[i] = pattern(offset + i * 8, generation);
}

/* Whether @buffer is as fill() leaves it; tells the first difference if it is not. */
static inline int filled(const void *buffer, size_t offset, size_t size, unsigned int generation)
{
	const atomic_ullong *p = buffer;
	size_t i;

	for (i = 0; i < size / 8; i++) {
		__u64 got = atomic_load(p + i);

		if (got == pattern(offset + i * 8, generation))
			continue;
		printf("# offset %#zx: generation %u of %#llx, expected generation %u\n",
		       offset + i * 8, (unsigned int)(got >> 40),
		       (unsigned long long)(got & WHERE_MASK) - 1, generation);
		return 0;
	}
	return 1;
}

/* Whether each 8 bytes are zero, or of generation @oldest or later and where they belong. */
static inline int in_place(const void *buffer, size_t offset, size_t size, unsigned int oldest)
{
	const atomic_ullong *p = buffer;
	size_t i;

	for (i = 0; i < size / 8; i++) {
		__u64 got = atomic_load(p + i);

		if (!got || ((got & WHERE_MASK) == offset + i * 8 + 1 && got >> 40 >= oldest))
			continue;
		printf("# offset %#zx: %#llx does not belong there, expected generation %u\n",
		       offset + i * 8, (unsigned long long)got, oldest);
		return 0;
	}
	return 1;
}

#endif
