/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A driver's device with a mirror, as the suites about mirrors and their ranges need
 * it: it counts what is called, its callbacks can be held up, and can put a reference.
 * Whatever a case that fails leaves behind is released when the case is over.
 */
#ifndef HMM_KUNIT_DEVICE_H
#define HMM_KUNIT_DEVICE_H

#include <linux/completion.h>
#include <linux/mutex.h>

#include "fixture.h"

/*
 * struct hmm_kunit_device - the structure of a driver that embeds a mirror
 * @ops: of this device alone
 * @nr_mirrors: counted by HMM
 * @lock: the lock of the mirror; release() takes it, too
 * @nr_callbacks: how many there were
 * @nr_exits: how many of those were for the exit of the process
 * @exit_by_worker: whether a work item let the memory go then
 * @nr_released: calls of release()
 * @last_event: the event that the last callback was for
 * @running: callbacks that run: from invalidate() to the end of finish()
 * @ran: how many did when release() was called
 * @busy: invalidate() refuses events that must not block
 * @put: the next callback puts a reference
 * @slow: finish() takes its time, so that page tables change later
 * @hold: finish() completes @entered and waits for @go
 * @range: release() unregisters it, if it is not NULL
 * @release_ms: how long release() takes
 * @mm_count: that of the mm_struct when release() was called
 */
struct hmm_kunit_device {
	struct hmm_mirror mirror;
	struct hmm_mirror_ops ops;
	atomic_t nr_mirrors;
	struct mutex lock;	/* see above */
	unsigned int nr_callbacks;
	unsigned int nr_exits;
	atomic_t nr_released;
	enum mmu_notifier_event last_event;
	atomic_t running;
	int ran;
	bool exit_by_worker;
	bool busy;
	bool put;
	bool slow;
	bool hold;
	struct hmm_range *range;
	unsigned int release_ms;
	int mm_count;
	struct completion entered;
	struct completion go;
	struct kunit *test;
};

/* Wait until its mirror has been released. */
void hmm_kunit_synchronize(struct hmm_kunit_device *device);

/* One with nothing registered, and one that mirrors memory of the test's own mm. */
struct hmm_kunit_device *hmm_kunit_device(struct kunit *test);
struct hmm_kunit_device *hmm_kunit_device_of(struct kunit *test, unsigned long addr,
					     unsigned long npages);
int hmm_kunit_device_register(struct hmm_kunit_device *device, struct mm_struct *mm,
			      unsigned long addr, unsigned long npages);

/* It has been released so often, and never while a callback ran. */
void hmm_kunit_expect_released(struct hmm_kunit_device *device, int times);

/* Until it has been told once that the process has exited. */
void hmm_kunit_wait_for_exit(struct hmm_kunit_device *device);

/* Others may run now, for longer or shorter. */
void hmm_kunit_let_run(void);

/* A thread of its own holds the lock from begin to end. */
void hmm_kunit_begin_lock(struct hmm_kunit_device *device);
void hmm_kunit_end_lock(struct hmm_kunit_device *device);

/* An event in a thread of its own, whose callback runs from begin to end. */
struct hmm_kunit_held_event {
	struct hmm_kunit_device *device;
	struct mm_struct *mm;
	unsigned long addr;
	struct completion done;
};

void hmm_kunit_begin_event(struct hmm_kunit_device *device,
			   struct hmm_kunit_held_event *event, unsigned long addr);
void hmm_kunit_end_event(struct hmm_kunit_held_event *event);

#endif /* HMM_KUNIT_DEVICE_H */
