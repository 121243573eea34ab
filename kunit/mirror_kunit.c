// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suite hmm_mirror: the lifetime of a mirror, rule by rule as "Lifetime of a mirror"
 * in mm/hmm.c numbers them.
 */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/nmi.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "device.h"

/* Another process, which has not been mirrored yet. */
static struct mm_struct *other_mm(struct kunit *test)
{
	if (!current->mm)
		hmm_kunit_anon(test, 1);
	return hmm_kunit_fork(test);
}

/* It mirrors two pages, of which the first one is there. */
static struct hmm_kunit_device *device_of(struct kunit *test, unsigned long *addr)
{
	*addr = hmm_kunit_mmap(test, NULL, 2, MAP_PRIVATE | MAP_ANONYMOUS, PAGE_SIZE);
	hmm_kunit_write(test, *addr, 1);
	return hmm_kunit_device_of(test, *addr, 2);
}

/* Rules 1, 2 and 5: from the first to the last call. */
static void registered(struct kunit *test)
{
	unsigned long addr;
	struct hmm_kunit_device *device = device_of(test, &addr);

	KUNIT_EXPECT_PTR_EQ(test, device->mirror.notifier.mm, current->mm);
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(addr, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 1, device->nr_callbacks);
	fsleep(20000);
	hmm_kunit_expect_released(device, 0);

	hmm_mirror_put(&device->mirror);
	hmm_kunit_synchronize(device);
	hmm_kunit_expect_released(device, 1);
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(addr + PAGE_SIZE, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 1, device->nr_callbacks);
}

/* Rule 1: what cannot be registered, and that it leaves nothing. */
static void refused(struct kunit *test)
{
	unsigned long addr;
	struct hmm_kunit_device *device = device_of(test, &addr);
	struct hmm_mirror_ops good = device->ops, half = good, no_release = good,
			      no_count = good;
	const struct {
		unsigned long start;
		unsigned long length;
		const struct hmm_mirror_ops *ops;
		bool mutex;
		bool rwsem;
		int ret;
	} calls[] = {
		{ addr, 0, &good, true, false, -EINVAL },
		{ addr + 1, PAGE_SIZE, &good, true, false, -EINVAL },
		{ addr, PAGE_SIZE + 1, &good, true, false, -EINVAL },
		{ PAGE_MASK, 2 * PAGE_SIZE, &good, true, false, -EINVAL },
		{ addr, PAGE_SIZE, NULL, true, false, -EINVAL },
		{ addr, PAGE_SIZE, &half, true, false, -EINVAL },
		{ addr, PAGE_SIZE, &no_release, true, false, -EINVAL },
		{ addr, PAGE_SIZE, &no_count, true, false, -EINVAL },
		{ addr, PAGE_SIZE, &good, false, false, -EINVAL },
		{ addr, PAGE_SIZE, &good, true, true, -EINVAL },
		{ addr, PAGE_SIZE, &good, false, true, 0 },
		/* The last page there is, and all there are but one. */
		{ PAGE_MASK, PAGE_SIZE, &good, true, false, 0 },
		{ 0, PAGE_MASK, &good, true, false, 0 },
	};
	struct rw_semaphore rwsem;

	half.invalidate = NULL;
	no_release.release = NULL;
	no_count.nr_mirrors = NULL;
	init_rwsem(&rwsem);
	for (int i = 0; i < ARRAY_SIZE(calls); i++) {
		struct hmm_kunit_device *other = hmm_kunit_device(test);
		struct hmm_mirror *mirror = &other->mirror;
		int ret;

		good.nr_mirrors = &other->nr_mirrors;
		mirror->ops = calls[i].ops;
		mirror->mutex = calls[i].mutex ? &other->lock : NULL;
		mirror->rwsem = calls[i].rwsem ? &rwsem : NULL;
		ret = hmm_mirror_register(mirror, current->mm, calls[i].start,
					  calls[i].length);
		KUNIT_EXPECT_EQ_MSG(test, ret, calls[i].ret, "call %d", i);
		KUNIT_EXPECT_EQ(test, !ret, atomic_read(&other->nr_mirrors));
		if (!ret)
			hmm_mirror_put(mirror);
		hmm_kunit_synchronize(other);
		hmm_kunit_expect_released(other, !ret);
		KUNIT_EXPECT_EQ(test, 0, other->nr_callbacks);
	}

	KUNIT_EXPECT_EQ(test, -EBUSY, hmm_kunit_device_register(device, current->mm, addr, 1));
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(addr, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 1, device->nr_callbacks);
	hmm_mirror_put(&device->mirror);
	hmm_kunit_synchronize(device);
	hmm_kunit_expect_released(device, 1);
	/* Nor can it be used again. */
	KUNIT_EXPECT_EQ(test, -EBUSY, hmm_kunit_device_register(device, current->mm, addr, 1));
}

static void expect_untouched(struct hmm_kunit_device *device)
{
	hmm_kunit_synchronize(device);
	hmm_kunit_expect_released(device, 0);
	KUNIT_EXPECT_EQ(device->test, 0, device->nr_callbacks);
	KUNIT_EXPECT_EQ(device->test, 0, atomic_read(&device->nr_mirrors));
}

/* Rule 1: each allocation that fails leaves nothing either; some may fail unnoticed. */
static void register_fails(struct kunit *test)
{
	unsigned int nth, failed = 0;
	int ret;

	hmm_kunit_inject(test);
	for (nth = 1; nth < 100; nth++) {
		struct hmm_kunit_device *device = hmm_kunit_device(test);
		struct mm_struct *mm = other_mm(test);
		bool end;

		hmm_kunit_fail_nth(nth);
		ret = hmm_kunit_device_register(device, mm, 0, 1);
		end = !hmm_kunit_has_failed();
		if (ret) {
			KUNIT_EXPECT_EQ(test, ret, -ENOMEM);
			expect_untouched(device);
			/* With memory it can be registered. */
			KUNIT_EXPECT_EQ(test, 0, hmm_kunit_device_register(device, mm, 0, 1));
			failed++;
		}
		hmm_mirror_put(&device->mirror);
		hmm_kunit_synchronize(device);
		hmm_kunit_expect_released(device, 1);
		if (end)
			break;
	}
	KUNIT_EXPECT_GT(test, failed, 0);
	KUNIT_ASSERT_EQ(test, ret, 0);
}

/* Any signal, but only where the mm has no notifier yet. */
static void register_signalled(struct kunit *test)
{
	struct hmm_kunit_device *device = hmm_kunit_device(test);
	struct mm_struct *mm = other_mm(test);
	int ret;

	set_thread_flag(TIF_SIGPENDING);
	ret = hmm_kunit_device_register(device, mm, 0, 1);
	clear_thread_flag(TIF_SIGPENDING);
	KUNIT_EXPECT_EQ(test, ret, -EINTR);
	expect_untouched(device);

	KUNIT_ASSERT_EQ(test, 0, hmm_kunit_device_register(device, mm, 0, 1));
	device = hmm_kunit_device(test);
	set_thread_flag(TIF_SIGPENDING);
	ret = hmm_kunit_device_register(device, mm, 0, 1);
	clear_thread_flag(TIF_SIGPENDING);
	KUNIT_EXPECT_EQ(test, ret, 0);
}

/* Who maps memory registers it before he lets go of the mmap lock. */
static void register_locked(struct kunit *test)
{
	struct hmm_kunit_device *device = hmm_kunit_device(test);
	struct mm_struct *mm = other_mm(test);

	mmap_write_lock(mm);
	KUNIT_EXPECT_EQ(test, 0, hmm_mirror_register_locked(&device->mirror, mm, 0, PAGE_SIZE));
	mmap_write_unlock(mm);
	hmm_mirror_put(&device->mirror);
	hmm_kunit_synchronize(device);
	hmm_kunit_expect_released(device, 1);
}

/* Rule 1: a process that is gone; the same mirror can have another. */
static void register_after_exit(struct kunit *test)
{
	struct hmm_kunit_device *device = hmm_kunit_device(test);
	struct mm_struct *mm = other_mm(test);

	mmgrab(mm);
	hmm_kunit_reap(test, mm);
	KUNIT_EXPECT_EQ(test, -ESRCH, hmm_kunit_device_register(device, mm, 0, 1));
	mmdrop(mm);
	expect_untouched(device);
	KUNIT_EXPECT_EQ(test, 0, hmm_kunit_device_register(device, current->mm, 0, 1));
	hmm_mirror_put(&device->mirror);
	hmm_kunit_synchronize(device);
	hmm_kunit_expect_released(device, 1);
}

struct exit {
	struct kunit *test;
	struct mm_struct *mm;
	struct completion done;
};

static int exit_beside(void *data)
{
	struct exit *exit = data;

	hmm_kunit_reap(exit->test, exit->mm);
	complete(&exit->done);
	return 0;
}

/* Rules 1 and 6: at the same time as the exit it is before, and sees that, or after. */
static void register_beside_exit(struct kunit *test)
{
	unsigned int before = 0, round;

	for (round = 0; round < hmm_kunit_rounds; round++) {
		struct hmm_kunit_device *device = hmm_kunit_device(test);
		struct mm_struct *mm = other_mm(test);
		struct exit exit = { .test = test, .mm = mm };
		int ret;

		mmgrab(mm);
		init_completion(&exit.done);
		KUNIT_ASSERT_FALSE(test, IS_ERR(kthread_run(exit_beside, &exit, "exit")));
		udelay(round % 200);
		ret = hmm_kunit_device_register(device, mm, 0, 1);
		wait_for_completion(&exit.done);
		mmdrop(mm);
		if (ret) {
			KUNIT_EXPECT_EQ(test, ret, -ESRCH);
			expect_untouched(device);
			continue;
		}
		hmm_kunit_wait_for_exit(device);
		hmm_mirror_put(&device->mirror);
		hmm_kunit_synchronize(device);
		hmm_kunit_expect_released(device, 1);
		before++;
	}
	kunit_info(test, "%u of %u before the exit", before, round);
}

/* Holds the mmap lock until the other reference has been put, which is not the last. */
static int hold_and_exit(void *data)
{
	struct exit *exit = data;

	mmap_write_lock(exit->mm);
	complete(&exit->done);
	msleep(50);
	hmm_kunit_let_go(exit->test, exit->mm);
	mmap_write_unlock(exit->mm);
	complete(&exit->done);
	return 0;
}

/* Rule 1: the end of the address space is not here, where somebody may hold a lock. */
static void register_last_user(struct kunit *test)
{
	struct hmm_kunit_device *device = hmm_kunit_device(test);
	struct mm_struct *mm = other_mm(test);
	struct exit exit = { .test = test, .mm = mm };
	int ret;

	/* The child that made it has let go. */
	for (int ms = 0; atomic_read(&mm->mm_users) > 1 && ms < 10000; ms++)
		fsleep(1000);
	mmgrab(mm);
	init_completion(&exit.done);
	KUNIT_ASSERT_FALSE(test, IS_ERR(kthread_run(hold_and_exit, &exit, "exit")));
	wait_for_completion(&exit.done);
	ret = hmm_kunit_device_register(device, mm, 0, 1);
	wait_for_completion(&exit.done);
	mmdrop(mm);
	KUNIT_ASSERT_EQ(test, ret, 0);
	hmm_kunit_wait_for_exit(device);
	KUNIT_EXPECT_TRUE(test, device->exit_by_worker);
}

/*
 * Rules 1 and 5: while an event goes on, for which it comes too late. A mirror that is put
 * before it has come into the tree is released at once.
 */
static void register_beside_event(struct kunit *test)
{
	unsigned long addr;
	struct hmm_kunit_device *device = device_of(test, &addr);
	struct hmm_kunit_device *other;
	struct hmm_kunit_held_event event;

	hmm_kunit_begin_event(device, &event, addr);
	other = hmm_kunit_device_of(test, addr, 1);
	hmm_mirror_put(&other->mirror);
	hmm_kunit_synchronize(other);
	hmm_kunit_expect_released(other, 1);
	other = hmm_kunit_device_of(test, addr, 1);
	hmm_kunit_end_event(&event);
	KUNIT_EXPECT_EQ(test, 0, other->nr_callbacks);
	hmm_kunit_event(test, current->mm, addr, 1);
	KUNIT_EXPECT_EQ(test, 1, other->nr_callbacks);
	KUNIT_EXPECT_EQ(test, 2, device->nr_callbacks);
}

/* Rule 2: callbacks go on after the last reference was put. */
static void callback_after_put(struct kunit *test)
{
	unsigned long addr;
	struct hmm_kunit_device *device = device_of(test, &addr);
	struct hmm_kunit_held_event event;

	hmm_kunit_begin_event(device, &event, addr);
	hmm_mirror_put(&device->mirror);
	/* It stays until the end of the first, so the second is not missed. */
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(addr + PAGE_SIZE, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 2, device->nr_callbacks);
	fsleep(20000);
	hmm_kunit_expect_released(device, 0);
	hmm_kunit_end_event(&event);
	hmm_kunit_synchronize(device);
	hmm_kunit_expect_released(device, 1);
	hmm_kunit_event(test, current->mm, addr, 2);
	KUNIT_EXPECT_EQ(test, 2, device->nr_callbacks);
}

/* Rule 3: each reference counts. */
static void references(struct kunit *test)
{
	unsigned long addr;
	struct hmm_kunit_device *device = device_of(test, &addr);

	hmm_mirror_get(&device->mirror);
	hmm_mirror_get(&device->mirror);
	for (int i = 0; i < 2; i++)
		hmm_mirror_put(&device->mirror);
	fsleep(20000);
	hmm_kunit_expect_released(device, 0);
	hmm_mirror_put(&device->mirror);
	hmm_kunit_synchronize(device);
	hmm_kunit_expect_released(device, 1);
}

/*
 * Rule 4: a callback puts the reference of a caller whose hmm_mirror_register() may not
 * have returned. Nobody uses the mirror then.
 */
struct before_return {
	struct kunit *test;
	struct mm_struct *mm;
	unsigned long addr;
	bool stop;
	struct completion done;
};

static int events_beside(void *data)
{
	struct before_return *beside = data;

	while (!READ_ONCE(beside->stop))
		hmm_kunit_event(beside->test, beside->mm, beside->addr, 1);
	complete(&beside->done);
	return 0;
}

static void put_before_return(struct kunit *test)
{
	struct before_return beside = { .test = test, .mm = current->mm };

	hmm_kunit_needs_events(test);
	beside.addr = hmm_kunit_anon(test, 1);
	beside.mm = current->mm;
	init_completion(&beside.done);
	/* The mm has a notifier then. */
	hmm_kunit_device_of(test, beside.addr, 1);
	KUNIT_ASSERT_FALSE(test, IS_ERR(kthread_run(events_beside, &beside, "events")));
	for (unsigned int round = 0; round < hmm_kunit_rounds; round++) {
		struct hmm_kunit_device *device = hmm_kunit_device(test);

		device->put = true;
		KUNIT_EXPECT_EQ(test, 0, hmm_kunit_device_register(device, beside.mm,
								   beside.addr, 1));
		hmm_kunit_synchronize(device);
		hmm_kunit_expect_released(device, 1);
		KUNIT_EXPECT_GE(test, device->nr_callbacks, 1);
	}
	WRITE_ONCE(beside.stop, true);
	wait_for_completion(&beside.done);
}

/* Rule 4: in a callback, under the lock that it takes. */
static void put_in_callback(struct kunit *test)
{
	unsigned long addr;
	struct hmm_kunit_device *device = device_of(test, &addr);

	device->put = true;
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(addr, PAGE_SIZE));
	hmm_kunit_synchronize(device);
	KUNIT_EXPECT_EQ(test, 1, device->nr_callbacks);
	hmm_kunit_expect_released(device, 1);
}

/* Rule 4: in a callback that may not wait, is called again, and once more. */
static void put_in_nonblocking(struct kunit *test)
{
	unsigned long addr;
	struct hmm_kunit_device *device = device_of(test, &addr);

	hmm_kunit_needs_events(test);
	device->put = true;
	device->busy = true;
	KUNIT_EXPECT_FALSE(test, hmm_kunit_event_try(test, current->mm, addr, 1));
	device->busy = false;
	KUNIT_EXPECT_EQ(test, 0, device->nr_callbacks);
	KUNIT_EXPECT_TRUE(test, hmm_kunit_event_try(test, current->mm, addr, 1));
	KUNIT_EXPECT_EQ(test, 1, device->nr_callbacks);
	hmm_kunit_synchronize(device);
	hmm_kunit_expect_released(device, 1);
	KUNIT_EXPECT_TRUE(test, hmm_kunit_event_try(test, current->mm, addr, 1));
	KUNIT_EXPECT_EQ(test, 1, device->nr_callbacks);
}

/* Rule 4: in the callback that the exit of the process calls. */
static void put_at_exit(struct kunit *test)
{
	struct hmm_kunit_device *device = hmm_kunit_device(test);
	struct mm_struct *mm = other_mm(test);

	KUNIT_ASSERT_EQ(test, 0, hmm_kunit_device_register(device, mm, 0, 1));
	device->put = true;
	mmgrab(mm);
	hmm_kunit_reap(test, mm);
	mmdrop(mm);
	for (int ms = 0; !atomic_read(&device->nr_released) && ms < 10000; ms++)
		fsleep(1000);
	KUNIT_EXPECT_EQ(test, 1, device->nr_exits);
	hmm_kunit_expect_released(device, 1);
}

/* Rule 4: under the lock that callbacks and release() take, and with interrupts off. */
static void put_locked(struct kunit *test)
{
	unsigned long addr;
	struct hmm_kunit_device *device = device_of(test, &addr);

	mutex_lock(&device->lock);
	hmm_mirror_put(&device->mirror);
	fsleep(20000);
	hmm_kunit_expect_released(device, 0);
	mutex_unlock(&device->lock);
	hmm_kunit_synchronize(device);
	hmm_kunit_expect_released(device, 1);
}

static void put_atomic(struct kunit *test)
{
	unsigned long addr, flags;
	struct hmm_kunit_device *device = device_of(test, &addr);

	local_irq_save(flags);
	hmm_mirror_put(&device->mirror);
	local_irq_restore(flags);
	hmm_kunit_synchronize(device);
	hmm_kunit_expect_released(device, 1);
}

/*
 * Rule 4: in both callbacks of an event, of which the second comes when each mirror has had
 * its first. If a mirror still has the second of another event to come, it comes at once.
 */
struct two_passes {
	struct hmm_mirror mirror;
	struct mutex lock;	/* of the mirror */
	bool put_first;
	bool put_second;
	unsigned int nr_begun;
	unsigned int nr_finished;
	unsigned int nr_begun_of_all;
	bool locked;
	unsigned int nr_released;
};

static unsigned int nr_begun;
static atomic_t nr_two_passes;

static bool two_passes_begin(struct hmm_mirror *mirror,
			     const struct mmu_notifier_range *event)
{
	struct two_passes *device = container_of(mirror, struct two_passes, mirror);

	nr_begun++;
	device->nr_begun++;
	if (device->put_first)
		hmm_mirror_put(mirror);
	return true;
}

static void two_passes_finish(struct hmm_mirror *mirror,
			      const struct mmu_notifier_range *event)
{
	struct two_passes *device = container_of(mirror, struct two_passes, mirror);

	device->nr_begun_of_all = nr_begun;
	device->locked = !mutex_trylock(&device->lock);
	if (!device->locked)
		mutex_unlock(&device->lock);
	msleep(20);
	if (!device->nr_released)
		device->nr_finished++;
	if (device->put_second)
		hmm_mirror_put(mirror);
}

static void two_passes_release(struct hmm_mirror *mirror)
{
	container_of(mirror, struct two_passes, mirror)->nr_released++;
}

static void put_in_two_passes(struct kunit *test)
{
	static const struct hmm_mirror_ops ops = {
		.invalidate = two_passes_begin,
		.finish = two_passes_finish,
		.release = two_passes_release,
		.nr_mirrors = &nr_two_passes,
	};
	unsigned long addr = hmm_kunit_anon(test, 2);
	struct two_passes *device = kunit_kcalloc(test, 2, sizeof(*device), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, device);
	nr_begun = 0;
	device[0].put_first = true;
	device[1].put_second = true;
	for (int i = 0; i < 2; i++) {
		mutex_init(&device[i].lock);
		device[i].mirror.ops = &ops;
		device[i].mirror.mutex = &device[i].lock;
		hmm_kunit_write(test, addr + i * PAGE_SIZE, 1);
		KUNIT_ASSERT_EQ(test, 0, hmm_mirror_register(&device[i].mirror, current->mm,
							     addr + i * PAGE_SIZE, PAGE_SIZE));
	}
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(addr, 2 * PAGE_SIZE));
	hmm_mirror_synchronize(&ops);
	for (int i = 0; i < 2; i++) {
		KUNIT_EXPECT_EQ(test, 1, device[i].nr_begun);
		KUNIT_EXPECT_EQ(test, 1, device[i].nr_finished);
		KUNIT_EXPECT_EQ(test, 2, device[i].nr_begun_of_all);
		KUNIT_EXPECT_FALSE(test, device[i].locked);
		KUNIT_EXPECT_EQ(test, 1, device[i].nr_released);
	}
}

/* An event whose finish() is held up does not hold up that of another. */
static void finish_beside_finish(struct kunit *test)
{
	unsigned long addr;
	struct hmm_kunit_device *device = device_of(test, &addr);
	struct hmm_kunit_held_event event;

	hmm_kunit_begin_event(device, &event, addr);
	hmm_kunit_event(test, current->mm, addr + PAGE_SIZE, 1);
	KUNIT_EXPECT_EQ(test, 2, device->nr_callbacks);
	KUNIT_EXPECT_EQ(test, 1, atomic_read(&device->running));
	hmm_kunit_end_event(&event);
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&device->running));
	hmm_kunit_event(test, current->mm, addr, 1);
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&device->running));
}

/* A driver is not told of its own EXCLUSIVE, and of all other events. */
static void own_events(struct kunit *test)
{
	unsigned long addr;
	struct hmm_kunit_device *device;
	const struct {
		enum mmu_notifier_event type;
		bool mirror_owner;
		bool event_owner;
		bool told;
	} events[] = {
		{ MMU_NOTIFY_EXCLUSIVE, true, true, false },
		{ MMU_NOTIFY_EXCLUSIVE, true, false, true },
		{ MMU_NOTIFY_EXCLUSIVE, false, true, true },
		{ MMU_NOTIFY_EXCLUSIVE, false, false, true },
		{ MMU_NOTIFY_MIGRATE, true, true, true },
		{ MMU_NOTIFY_MIGRATE, true, false, true },
	};

	hmm_kunit_needs_events(test);
	device = device_of(test, &addr);
	for (int i = 0; i < ARRAY_SIZE(events); i++) {
		unsigned int before = device->nr_callbacks;

		device->mirror.owner = events[i].mirror_owner ? device : NULL;
		hmm_kunit_owner_event(test, current->mm, addr, events[i].type,
				      events[i].event_owner ? device : NULL);
		KUNIT_EXPECT_EQ_MSG(test, before + events[i].told, device->nr_callbacks,
				    "event %d", i);
	}
}

/* Events that must not block: refused, tried, or told. */
static void nonblocking(struct kunit *test)
{
	unsigned long addr;
	struct hmm_kunit_device *device;

	hmm_kunit_needs_events(test);
	device = device_of(test, &addr);
	hmm_kunit_begin_lock(device);
	KUNIT_EXPECT_FALSE(test, hmm_kunit_event_try(test, current->mm, addr, 1));
	hmm_kunit_end_lock(device);
	KUNIT_EXPECT_EQ(test, 0, device->nr_callbacks);
	KUNIT_EXPECT_TRUE(test, hmm_kunit_event_try(test, current->mm, addr, 1));
	KUNIT_EXPECT_EQ(test, 1, device->nr_callbacks);
	device->ops.nonblocking = false;
	KUNIT_EXPECT_FALSE(test, hmm_kunit_event_try(test, current->mm, addr, 1));
	KUNIT_EXPECT_EQ(test, 1, device->nr_callbacks);
	hmm_kunit_event(test, current->mm, addr, 1);
	KUNIT_EXPECT_EQ(test, 2, device->nr_callbacks);
	/* An event that was refused has ended: nobody waits for it. */
	mmu_interval_read_begin(&device->mirror.notifier);
}

/*
 * A notifier of the other kind refuses an event that interval notifiers were told of. It
 * has ended for them, too.
 */
static int refuse(struct mmu_notifier *notifier, const struct mmu_notifier_range *event)
{
	return mmu_notifier_range_blockable(event) ? 0 : -EAGAIN;
}

static void refused_by_another(struct kunit *test)
{
	static const struct mmu_notifier_ops ops = { .invalidate_range_start = refuse };
	struct mmu_notifier notifier = { .ops = &ops };
	unsigned long addr;
	struct hmm_kunit_device *device;

	hmm_kunit_needs_events(test);
	device = device_of(test, &addr);
	KUNIT_ASSERT_EQ(test, 0, mmu_notifier_register(&notifier, current->mm));
	KUNIT_EXPECT_FALSE(test, hmm_kunit_event_try(test, current->mm, addr, 1));
	mmu_notifier_unregister(&notifier, current->mm);
	KUNIT_EXPECT_EQ(test, 1, device->nr_callbacks);
	hmm_mirror_put(&device->mirror);
	for (int ms = 0; !atomic_read(&device->nr_released) && ms < 10000; ms++)
		fsleep(1000);
	hmm_kunit_expect_released(device, 1);
	/* Or the test would wait for ever. */
	if (!atomic_read(&device->nr_released))
		hmm_kunit_event_end(&(struct mmu_notifier_range) { .mm = current->mm });
}

/* Rule 6: the process is gone long before the mirror. */
static void put_after_exit(struct kunit *test)
{
	struct hmm_kunit_device *device = hmm_kunit_device(test);
	struct mm_struct *mm = other_mm(test);

	KUNIT_ASSERT_EQ(test, 0, hmm_kunit_device_register(device, mm, 0, 1));
	hmm_kunit_reap(test, mm);
	hmm_kunit_wait_for_exit(device);
	hmm_kunit_expect_released(device, 0);
	/* Nobody but the mirror keeps it. */
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&device->mirror.notifier.mm->mm_users));
	hmm_mirror_put(&device->mirror);
	hmm_kunit_synchronize(device);
	hmm_kunit_expect_released(device, 1);
	KUNIT_EXPECT_GE(test, device->mm_count, 1);
}

/* Rule 7: however long release() takes, and not for the mirrors of others. */
static void synchronize(struct kunit *test)
{
	unsigned long addr;
	struct hmm_kunit_device *other = device_of(test, &addr);
	struct hmm_kunit_device *device = device_of(test, &addr);
	ktime_t begun = ktime_get();

	device->release_ms = 100;
	other->release_ms = 5000;
	hmm_mirror_put(&other->mirror);
	hmm_mirror_put(&device->mirror);
	hmm_kunit_synchronize(device);
	hmm_kunit_expect_released(device, 1);
	KUNIT_EXPECT_LT(test, ktime_ms_delta(ktime_get(), begun), 4000);
	hmm_kunit_expect_released(other, 0);
}

/* Rule 5: one that waits for an event to end does not delay another of the mm. */
static void release_beside_event(struct kunit *test)
{
	unsigned long addr;
	struct hmm_kunit_device *device = device_of(test, &addr);
	struct hmm_kunit_device *others[8];
	struct hmm_kunit_held_event event;
	struct mm_struct *mm = other_mm(test);
	struct hmm_kunit_device *elsewhere = hmm_kunit_device(test);

	KUNIT_ASSERT_EQ(test, 0, hmm_kunit_device_register(elsewhere, mm, 0, 1));
	for (int i = 0; i < ARRAY_SIZE(others); i++)
		others[i] = hmm_kunit_device_of(test, addr, 1);
	hmm_kunit_begin_event(device, &event, addr);
	for (int i = 0; i < ARRAY_SIZE(others); i++)
		hmm_mirror_put(&others[i]->mirror);
	hmm_mirror_put(&elsewhere->mirror);
	hmm_kunit_synchronize(elsewhere);
	hmm_kunit_expect_released(elsewhere, 1);
	for (int i = 0; i < ARRAY_SIZE(others); i++)
		hmm_kunit_expect_released(others[i], 0);
	hmm_kunit_end_event(&event);
	for (int i = 0; i < ARRAY_SIZE(others); i++) {
		hmm_kunit_synchronize(others[i]);
		hmm_kunit_expect_released(others[i], 1);
	}
}

/*
 * All of it at once: mirrors that are found, used and put by some, to which others
 * let things happen, and that free themselves.
 */
#define NR_SLOTS 4

struct storm {
	struct kunit *test;
	struct mm_struct *mm;
	unsigned long addr;
	spinlock_t lock;	/* of slots */
	struct storm_device *slots[NR_SLOTS];
	atomic_t nr_registered;
	atomic_t nr_released;
	atomic_t nr_found;
	atomic_t nr_callbacks;
	atomic_t nr_running;
	bool stop;
};

struct storm_device {
	struct hmm_mirror mirror;
	struct storm *storm;
	struct rw_semaphore lock;	/* of the mirror */
};

static bool storm_invalidate(struct hmm_mirror *mirror,
			     const struct mmu_notifier_range *event)
{
	struct storm_device *device = container_of(mirror, struct storm_device, mirror);

	atomic_inc(&device->storm->nr_callbacks);
	return true;
}

static void storm_release(struct hmm_mirror *mirror)
{
	struct storm_device *device = container_of(mirror, struct storm_device, mirror);
	struct storm *storm = device->storm;

	kfree(device);
	atomic_inc(&storm->nr_released);
}

static atomic_t nr_storm_devices;

static const struct hmm_mirror_ops storm_ops = {
	.invalidate = storm_invalidate,
	.release = storm_release,
	.nr_mirrors = &nr_storm_devices,
};

/* Finds one, and uses it for a while. */
static int storm_find(void *data)
{
	struct storm *storm = data;

	for (unsigned int i = 0; !READ_ONCE(storm->stop); i++) {
		struct storm_device *device;

		spin_lock(&storm->lock);
		device = storm->slots[i % NR_SLOTS];
		if (device)
			hmm_mirror_get(&device->mirror);
		spin_unlock(&storm->lock);
		if (device) {
			atomic_inc(&storm->nr_found);
			if (i % 3 == 0)
				mmu_interval_read_begin(&device->mirror.notifier);
			hmm_mirror_put(&device->mirror);
		}
		usleep_range(10, 50);
	}
	atomic_dec(&storm->nr_running);
	return 0;
}

/* One event after the other. */
static int storm_events(void *data)
{
	struct storm *storm = data;

	while (!READ_ONCE(storm->stop)) {
		hmm_kunit_event(storm->test, storm->mm, storm->addr, 1);
		usleep_range(10, 50);
	}
	atomic_dec(&storm->nr_running);
	return 0;
}

static struct storm_device *storm_register(struct storm *storm, unsigned int slot)
{
	struct storm_device *device = kzalloc(sizeof(*device), GFP_KERNEL);

	if (!device)
		return NULL;
	device->storm = storm;
	init_rwsem(&device->lock);
	device->mirror.ops = &storm_ops;
	device->mirror.rwsem = &device->lock;
	if (hmm_mirror_register(&device->mirror, storm->mm, storm->addr, PAGE_SIZE)) {
		kfree(device);
		return NULL;
	}
	spin_lock(&storm->lock);
	storm->slots[slot] = device;
	spin_unlock(&storm->lock);
	return device;
}

/* Who finds it in its slot may take a reference: the slot has one. */
static void storm_remove(struct storm *storm, unsigned int slot)
{
	struct storm_device *device = storm->slots[slot];

	if (!device)
		return;
	spin_lock(&storm->lock);
	storm->slots[slot] = NULL;
	spin_unlock(&storm->lock);
	hmm_mirror_put(&device->mirror);
}

static void storm(struct kunit *test)
{
	struct storm storm = { .test = test };
	unsigned long end = jiffies + hmm_kunit_rounds * HZ / 200;
	int nr;

	hmm_kunit_needs_events(test);
	storm.addr = hmm_kunit_anon(test, 1);
	storm.mm = current->mm;
	spin_lock_init(&storm.lock);
	for (int i = 0; i < 2; i++) {
		atomic_add(2, &storm.nr_running);
		if (IS_ERR(kthread_run(storm_find, &storm, "storm_find")))
			atomic_dec(&storm.nr_running);
		if (IS_ERR(kthread_run(storm_events, &storm, "storm_events")))
			atomic_dec(&storm.nr_running);
	}
	for (unsigned int i = 0; time_before(jiffies, end); i = (i + 1) % NR_SLOTS) {
		usleep_range(10, 50);
		reset_hung_task_detector();
		if (storm.slots[i])
			storm_remove(&storm, i);
		else if (storm_register(&storm, i))
			atomic_inc(&storm.nr_registered);
	}
	for (int i = 0; i < NR_SLOTS; i++)
		storm_remove(&storm, i);
	WRITE_ONCE(storm.stop, true);
	while (atomic_read(&storm.nr_running))
		fsleep(1000);
	hmm_mirror_synchronize(&storm_ops);
	nr = atomic_read(&storm.nr_registered);
	KUNIT_EXPECT_EQ(test, nr, atomic_read(&storm.nr_released));
	KUNIT_EXPECT_GT(test, nr, 10);
	KUNIT_EXPECT_GT(test, atomic_read(&storm.nr_found), 0);
	KUNIT_EXPECT_GT(test, atomic_read(&storm.nr_callbacks), 0);
	kunit_info(test, "%d mirrors, found %d times, %d callbacks", nr,
		   atomic_read(&storm.nr_found), atomic_read(&storm.nr_callbacks));
}

static struct kunit_case hmm_mirror_cases[] = {
	KUNIT_CASE(registered),
	KUNIT_CASE(refused),
	KUNIT_CASE(register_fails),
	KUNIT_CASE(register_signalled),
	KUNIT_CASE(register_locked),
	KUNIT_CASE(register_after_exit),
	KUNIT_CASE_SLOW(register_beside_exit),
	KUNIT_CASE(register_last_user),
	KUNIT_CASE(register_beside_event),
	KUNIT_CASE(callback_after_put),
	KUNIT_CASE(references),
	KUNIT_CASE_SLOW(put_before_return),
	KUNIT_CASE(put_in_callback),
	KUNIT_CASE(put_in_nonblocking),
	KUNIT_CASE(put_at_exit),
	KUNIT_CASE(put_locked),
	KUNIT_CASE(put_atomic),
	KUNIT_CASE(put_in_two_passes),
	KUNIT_CASE(finish_beside_finish),
	KUNIT_CASE(put_after_exit),
	KUNIT_CASE(synchronize),
	KUNIT_CASE(release_beside_event),
	KUNIT_CASE(own_events),
	KUNIT_CASE(nonblocking),
	KUNIT_CASE(refused_by_another),
	KUNIT_CASE_SLOW(storm),
	{ }
};

static struct kunit_suite hmm_mirror_suite = {
	.name = "hmm_mirror",
	.test_cases = hmm_mirror_cases,
};

kunit_test_suite(hmm_mirror_suite);
