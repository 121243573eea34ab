// SPDX-License-Identifier: GPL-2.0-only
/*
 * A device with a mirror, described in device.h.
 */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/random.h>

#include "device.h"

void hmm_kunit_let_run(void)
{
	u32 nr = get_random_u32_below(32);

	if (!nr)
		usleep_range(1, 100);
	for (; nr > 24; nr--)
		schedule();
}

static bool device_invalidate(struct hmm_mirror *mirror,
			      const struct mmu_notifier_range *event)
{
	struct hmm_kunit_device *device =
		container_of(mirror, struct hmm_kunit_device, mirror);

	lockdep_assert_held(&device->lock);
	if (device->busy && !mmu_notifier_range_blockable(event))
		return false;
	atomic_inc(&device->running);
	device->nr_callbacks++;
	device->last_event = event->event;
	if (event->event == MMU_NOTIFY_RELEASE) {
		device->exit_by_worker = current->flags & PF_WQ_WORKER;
		WRITE_ONCE(device->nr_exits, device->nr_exits + 1);
	}
	if (device->put) {
		device->put = false;
		hmm_mirror_put(&device->mirror);
	}
	return true;
}

static void device_finish(struct hmm_mirror *mirror,
			  const struct mmu_notifier_range *event)
{
	struct hmm_kunit_device *device =
		container_of(mirror, struct hmm_kunit_device, mirror);

	if (device->hold) {
		complete(&device->entered);
		wait_for_completion(&device->go);
	}
	if (device->slow)
		hmm_kunit_let_run();
	atomic_dec(&device->running);
}

static void device_release(struct hmm_mirror *mirror)
{
	struct hmm_kunit_device *device =
		container_of(mirror, struct hmm_kunit_device, mirror);

	device->ran += atomic_read(&device->running);
#ifdef CONFIG_HMM_KUNIT_HAS_RANGE
	if (device->range)
		hmm_range_unregister(device->range);
#endif
	device->mm_count = atomic_read(&mirror->notifier.mm->mm_count);
	might_sleep();
	mutex_lock(&device->lock);
	mutex_unlock(&device->lock);
	msleep(device->release_ms);
	atomic_inc(&device->nr_released);
}

void hmm_kunit_synchronize(struct hmm_kunit_device *device)
{
	hmm_mirror_synchronize(&device->ops);
}

static void device_remove(void *data)
{
	struct hmm_kunit_device *device = data;

	complete_all(&device->go);
	while (kref_read(&device->mirror.kref))
		hmm_mirror_put(&device->mirror);
	hmm_kunit_synchronize(device);
}

struct hmm_kunit_device *hmm_kunit_device(struct kunit *test)
{
	struct hmm_kunit_device *device = kunit_kzalloc(test, sizeof(*device), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, device);
	device->test = test;
	mutex_init(&device->lock);
	device->ops = (struct hmm_mirror_ops) {
		.invalidate = device_invalidate,
		.finish = device_finish,
		.release = device_release,
		.nr_mirrors = &device->nr_mirrors,
		.nonblocking = true,
	};
	device->mirror.ops = &device->ops;
	device->mirror.mutex = &device->lock;
	init_completion(&device->entered);
	init_completion(&device->go);
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, device_remove, device));
	return device;
}

int hmm_kunit_device_register(struct hmm_kunit_device *device, struct mm_struct *mm,
			      unsigned long addr, unsigned long npages)
{
	return hmm_mirror_register(&device->mirror, mm, addr, npages * PAGE_SIZE);
}

struct hmm_kunit_device *hmm_kunit_device_of(struct kunit *test, unsigned long addr,
					     unsigned long npages)
{
	struct hmm_kunit_device *device = hmm_kunit_device(test);

	KUNIT_ASSERT_EQ(test, 0, hmm_kunit_device_register(device, current->mm, addr,
							   npages));
	return device;
}

void hmm_kunit_expect_released(struct hmm_kunit_device *device, int times)
{
	KUNIT_EXPECT_EQ(device->test, times, atomic_read(&device->nr_released));
	KUNIT_EXPECT_EQ(device->test, 0, device->ran);
}

void hmm_kunit_wait_for_exit(struct hmm_kunit_device *device)
{
	for (int i = 0; !READ_ONCE(device->nr_exits) && i < 100000; i++)
		fsleep(100);
	KUNIT_ASSERT_EQ(device->test, 1, device->nr_exits);
}

static int lock_thread(void *data)
{
	struct hmm_kunit_device *device = data;

	mutex_lock(&device->lock);
	complete(&device->entered);
	wait_for_completion(&device->go);
	mutex_unlock(&device->lock);
	complete(&device->entered);
	return 0;
}

void hmm_kunit_begin_lock(struct hmm_kunit_device *device)
{
	KUNIT_ASSERT_FALSE(device->test, IS_ERR(kthread_run(lock_thread, device, "lock")));
	wait_for_completion(&device->entered);
}

void hmm_kunit_end_lock(struct hmm_kunit_device *device)
{
	complete(&device->go);
	wait_for_completion(&device->entered);
}

static int event_thread(void *data)
{
	struct hmm_kunit_held_event *event = data;

	hmm_kunit_event(event->device->test, event->mm, event->addr, 1);
	complete(&event->done);
	return 0;
}

void hmm_kunit_begin_event(struct hmm_kunit_device *device,
			   struct hmm_kunit_held_event *event, unsigned long addr)
{
	hmm_kunit_needs_events(device->test);
	*event = (struct hmm_kunit_held_event) {
		.device = device,
		.mm = current->mm,
		.addr = addr,
	};
	init_completion(&event->done);
	device->hold = true;
	KUNIT_ASSERT_FALSE(device->test, IS_ERR(kthread_run(event_thread, event, "event")));
	wait_for_completion(&device->entered);
	device->hold = false;
}

void hmm_kunit_end_event(struct hmm_kunit_held_event *event)
{
	complete(&event->device->go);
	wait_for_completion(&event->done);
}
