// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suite hmm_range: ranges of a mirror, what they refuse, how long they wait, and what
 * they miss: nothing. Times are measured with some room for a slow machine.
 */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/mman.h>
#include <linux/sched/signal.h>

#include "device.h"

#define NPAGES 8
#define TIMEOUT (HZ / 2)
/* Later than this is not when the timeout passed, but when something else ended. */
#define LATE_MS 10000

/* A range of a mirror of its own, which is all of it, and of pages that are there. */
struct subject {
	struct hmm_kunit_device *device;
	struct hmm_range range;
	unsigned long pfns[NPAGES];
};

static void subject_unregister(void *data)
{
	struct subject *subject = data;

	if (subject->range.mirror)
		hmm_range_unregister(&subject->range);
}

static struct subject *subject(struct kunit *test)
{
	struct subject *subject = kunit_kzalloc(test, sizeof(*subject), GFP_KERNEL);
	unsigned long addr = hmm_kunit_anon(test, NPAGES);
	struct hmm_range *range;

	KUNIT_ASSERT_NOT_NULL(test, subject);
	for (int i = 0; i < NPAGES; i++)
		hmm_kunit_write(test, addr + i * PAGE_SIZE, i);
	subject->device = hmm_kunit_device_of(test, addr, NPAGES);
	range = &subject->range;
	range->start = addr;
	range->end = addr + NPAGES * PAGE_SIZE;
	range->hmm_pfns = subject->pfns;
	range->default_flags = REQ_READ;
	KUNIT_ASSERT_EQ(test, 0, hmm_range_register(range, &subject->device->mirror, NULL));
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, subject_unregister,
							   subject));
	return subject;
}

static bool valid(struct subject *subject)
{
	bool ret;

	mutex_lock(&subject->device->lock);
	ret = hmm_range_valid(&subject->range);
	mutex_unlock(&subject->device->lock);
	return ret;
}

/* The range has a reference, also when it has the last one. */
static void keeps_mirror(struct kunit *test)
{
	struct subject *s = subject(test);

	KUNIT_EXPECT_PTR_EQ(test, s->range.notifier, &s->device->mirror.notifier);
	hmm_mirror_put(&s->device->mirror);
	hmm_mirror_synchronize();
	hmm_kunit_expect_released(s->device, 0);
	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault_unlocked_timeout(&s->range, TIMEOUT));
	KUNIT_EXPECT_TRUE(test, valid(s));

	hmm_range_unregister(&s->range);
	KUNIT_EXPECT_PTR_EQ(test, s->range.notifier, NULL);
	hmm_mirror_synchronize();
	hmm_kunit_expect_released(s->device, 1);
}

static void refused(struct kunit *test)
{
	struct subject *s = subject(test);
	struct hmm_mirror *mirror = &s->device->mirror;
	unsigned long start = s->range.start, end = s->range.end;
	const struct {
		unsigned long start;
		unsigned long end;
		int ret;
	} ranges[] = {
		{ start, start, -EINVAL },
		{ end, start, -EINVAL },
		{ start + 1, end, -EINVAL },
		{ start, end - 1, -EINVAL },
		{ start - PAGE_SIZE, end, -EINVAL },
		{ start, end + PAGE_SIZE, -EINVAL },
		{ start, 0, -EINVAL },
		{ start, PAGE_MASK, -EINVAL },
		{ start, end, 0 },
		{ end - PAGE_SIZE, end, 0 },
	};

	for (int i = 0; i < ARRAY_SIZE(ranges); i++) {
		struct hmm_range range = {
			.start = ranges[i].start,
			.end = ranges[i].end,
		};

		KUNIT_EXPECT_EQ_MSG(test, hmm_range_register(&range, mirror, NULL),
				    ranges[i].ret, "range %d", i);
		if (ranges[i].ret)
			KUNIT_EXPECT_PTR_EQ(test, range.notifier, NULL);
		else
			hmm_range_unregister(&range);
	}

	KUNIT_EXPECT_EQ(test, -EBUSY, hmm_range_register(&s->range, mirror, NULL));
	hmm_range_unregister(&s->range);
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_range_wait_until_valid(&s->range, TIMEOUT));
	kunit_warning_suppress(test) {
		KUNIT_EXPECT_FALSE(test, hmm_range_valid(&s->range));
		hmm_range_unregister(&s->range);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 2);
	}
	/* Had any of these put or kept a reference, it would be too few or too many. */
	KUNIT_EXPECT_EQ(test, 1, kref_read(&mirror->kref));
}

/* What began and ended since then is seen. */
static void event_is_seen(struct kunit *test)
{
	struct subject *s = subject(test);
	struct hmm_range *range = &s->range;

	hmm_kunit_needs_events(test);
	KUNIT_EXPECT_EQ(test, 0, hmm_range_wait_until_valid(range, TIMEOUT));
	KUNIT_EXPECT_TRUE(test, valid(s));
	hmm_kunit_event(test, current->mm, range->start, 1);
	KUNIT_EXPECT_FALSE(test, valid(s));

	/* So it is after a snapshot and a fault, both of which begin anew. */
	KUNIT_EXPECT_EQ(test, 0, hmm_range_snapshot(range));
	KUNIT_EXPECT_TRUE(test, valid(s));
	hmm_kunit_event(test, current->mm, range->end - PAGE_SIZE, 1);
	KUNIT_EXPECT_FALSE(test, valid(s));
	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault_unlocked_timeout(range, TIMEOUT));
	KUNIT_EXPECT_TRUE(test, valid(s));
	hmm_kunit_event(test, current->mm, range->start, 1);
	KUNIT_EXPECT_FALSE(test, valid(s));

	/* Beside the mirror it does not matter. */
	KUNIT_EXPECT_EQ(test, 0, hmm_range_wait_until_valid(range, TIMEOUT));
	hmm_kunit_event(test, current->mm, range->end, 1);
	KUNIT_EXPECT_TRUE(test, valid(s));
}

/* What waits while something happens to the mirror. */
static int wait_until_valid(struct hmm_range *range)
{
	return hmm_range_wait_until_valid(range, TIMEOUT);
}

static int wait_long(struct hmm_range *range)
{
	return hmm_range_wait_until_valid(range, 60 * HZ);
}

static int fault(struct hmm_range *range)
{
	return hmm_range_fault_unlocked_timeout(range, TIMEOUT);
}

static int fault_long(struct hmm_range *range)
{
	return hmm_range_fault_unlocked_timeout(range, 60 * HZ);
}

static int fault_longest(struct hmm_range *range)
{
	return hmm_range_fault_unlocked_timeout(range, ULONG_MAX);
}

static int wait_for_ever(struct hmm_range *range)
{
	return hmm_range_wait_until_valid(range, 0);
}

static int fault_for_ever(struct hmm_range *range)
{
	return hmm_range_fault_unlocked_timeout(range, 0);
}

struct waiter {
	const char *name;
	int (*wait)(struct hmm_range *range);
};

static const struct waiter waiters[] = {
	{ "wait_until_valid", wait_long },
	{ "fault", fault_long },
	{ "fault_longest", fault_longest },
	{ "wait_for_ever", wait_for_ever },
	{ "fault_for_ever", fault_for_ever },
	{ "snapshot", hmm_range_snapshot },
};

KUNIT_ARRAY_PARAM_DESC(waiter, waiters, name);

/* Those that end by themselves. */
static const struct waiter limited[] = {
	{ "wait_until_valid", wait_until_valid },
	{ "fault", fault },
};

KUNIT_ARRAY_PARAM_DESC(limited, limited, name);

/* What ends the wait: 100 ms later, in a thread of its own. */
struct end {
	struct hmm_kunit_held_event *event;	/* if it ends */
	struct task_struct *kill;		/* if that is killed */
	ktime_t at;
	struct completion done;
};

static int end_thread(void *data)
{
	struct end *end = data;

	msleep(100);
	end->at = ktime_get();
	if (end->event)
		hmm_kunit_end_event(end->event);
	if (end->kill)
		hmm_kunit_kill_task(end->kill);
	complete(&end->done);
	return 0;
}

static void end_later(struct kunit *test, struct end *end)
{
	init_completion(&end->done);
	KUNIT_ASSERT_FALSE(test, IS_ERR(kthread_run(end_thread, end, "end")));
}

/* It ends when the event does, and the range is valid. */
static void wait_for_event(struct kunit *test)
{
	const struct waiter *waiter = test->param_value;
	struct subject *s = subject(test);
	struct hmm_kunit_held_event event;
	struct end end = { .event = &event };
	ktime_t ended;
	s64 ms;

	hmm_kunit_begin_event(s->device, &event, s->range.start);
	end_later(test, &end);
	KUNIT_EXPECT_EQ(test, 0, waiter->wait(&s->range));
	ended = ktime_get();
	wait_for_completion(&end.done);
	ms = ktime_ms_delta(ended, end.at);
	KUNIT_EXPECT_GE(test, ms, 0);
	KUNIT_EXPECT_LT(test, ms, LATE_MS);
	KUNIT_EXPECT_TRUE(test, valid(s));
}

/* It ends when the time is over, though the event does not. */
static void wait_timeout(struct kunit *test)
{
	const struct waiter *waiter = test->param_value;
	struct subject *s = subject(test);
	struct hmm_kunit_held_event event;
	ktime_t begun;
	s64 ms;

	hmm_kunit_begin_event(s->device, &event, s->range.start);
	begun = ktime_get();
	KUNIT_EXPECT_EQ(test, -EBUSY, waiter->wait(&s->range));
	ms = ktime_ms_delta(ktime_get(), begun);
	KUNIT_EXPECT_GE(test, ms, jiffies_to_msecs(TIMEOUT - 1));
	KUNIT_EXPECT_LT(test, ms, LATE_MS);
	KUNIT_EXPECT_FALSE(test, valid(s));
	hmm_kunit_end_event(&event);
	KUNIT_EXPECT_FALSE(test, valid(s));
	/* And begins anew when it is called again. */
	KUNIT_EXPECT_EQ(test, 0, waiter->wait(&s->range));
	KUNIT_EXPECT_TRUE(test, valid(s));
}

/* So does that of a snapshot for an event that begins after the range was waited for. */
static void snapshot_timeout(struct kunit *test)
{
	struct subject *s = subject(test);
	struct hmm_kunit_held_event event;
	ktime_t begun = ktime_get();
	s64 ms;

	KUNIT_EXPECT_EQ(test, 0, hmm_range_wait_until_valid(&s->range, TIMEOUT));
	hmm_kunit_begin_event(s->device, &event, s->range.start);
	KUNIT_EXPECT_EQ(test, -EBUSY, hmm_range_snapshot(&s->range));
	ms = ktime_ms_delta(ktime_get(), begun);
	KUNIT_EXPECT_GE(test, ms, jiffies_to_msecs(TIMEOUT - 1));
	KUNIT_EXPECT_LT(test, ms, LATE_MS);
	hmm_kunit_end_event(&event);
	KUNIT_EXPECT_FALSE(test, valid(s));
	KUNIT_EXPECT_EQ(test, 0, hmm_range_snapshot(&s->range));
	KUNIT_EXPECT_TRUE(test, valid(s));
}

/* It ends when the caller is killed. */
static void wait_killed(struct kunit *test)
{
	const struct waiter *waiter = test->param_value;
	struct subject *s = subject(test);
	struct hmm_kunit_held_event event;
	struct end end = { .kill = current };
	ktime_t ended;
	s64 us;
	int ret;

	hmm_kunit_begin_event(s->device, &event, s->range.start);
	end_later(test, &end);
	ret = waiter->wait(&s->range);
	ended = ktime_get();
	hmm_kunit_kill(false);
	wait_for_completion(&end.done);
	hmm_kunit_kill(false);
	us = ktime_us_delta(ended, end.at);
	KUNIT_EXPECT_EQ(test, ret, -EINTR);
	KUNIT_EXPECT_FALSE(test, valid(s));
	KUNIT_EXPECT_GE(test, us, 0);
	KUNIT_EXPECT_LT(test, us, LATE_MS * USEC_PER_MSEC);
	hmm_kunit_end_event(&event);
	kunit_info(test, "%lld us", us);
}

/* Who repeats what was not valid after all has what is left of the time. */
static int wait_and_fault(struct hmm_range *range)
{
	int ret = hmm_range_wait_until_valid(range, TIMEOUT);

	if (ret)
		return ret;
	mmap_read_lock(current->mm);
	ret = hmm_range_fault(range);
	mmap_read_unlock(current->mm);
	return ret;
}

static int wait_and_look(struct hmm_range *range)
{
	return hmm_range_wait_until_valid(range, TIMEOUT) ?: hmm_range_snapshot(range);
}

static const struct waiter repeaters[] = {
	{ "fault", fault },
	{ "wait_and_fault", wait_and_fault },
	{ "wait_and_look", wait_and_look },
};

KUNIT_ARRAY_PARAM_DESC(repeater, repeaters, name);

static void repeated(struct kunit *test)
{
	const struct waiter *repeater = test->param_value;
	struct subject *s = subject(test);
	ktime_t begun = ktime_get();
	unsigned int rounds = 0;
	s64 ms;
	int ret;

	hmm_kunit_needs_events(test);
	do {
		ret = repeater->wait(&s->range);
		if (ret)
			break;
		rounds++;
		msleep(20);
		hmm_kunit_event(test, current->mm, s->range.start, 1);
	} while (!valid(s) && rounds < 1000);
	ms = ktime_ms_delta(ktime_get(), begun);
	KUNIT_EXPECT_EQ(test, ret, -EBUSY);
	KUNIT_EXPECT_GT(test, rounds, 1);
	KUNIT_EXPECT_GE(test, ms, jiffies_to_msecs(TIMEOUT - 1));
	KUNIT_EXPECT_LT(test, ms, LATE_MS);

	/* An error ends it, ... */
	KUNIT_EXPECT_EQ(test, 0, repeater->wait(&s->range));
	KUNIT_EXPECT_TRUE(test, valid(s));
	/* ... being valid does, ... */
	msleep(jiffies_to_msecs(2 * TIMEOUT));
	KUNIT_EXPECT_EQ(test, 0, repeater->wait(&s->range));
	hmm_kunit_event(test, current->mm, s->range.start, 1);
	KUNIT_EXPECT_FALSE(test, valid(s));
	msleep(jiffies_to_msecs(2 * TIMEOUT));
	/* ... and who takes long, or gave up, is told so, unless he registers it again. */
	KUNIT_EXPECT_EQ(test, -EBUSY, repeater->wait(&s->range));
	KUNIT_EXPECT_EQ(test, 0, repeater->wait(&s->range));
	msleep(jiffies_to_msecs(2 * TIMEOUT));
	hmm_range_unregister(&s->range);
	KUNIT_ASSERT_EQ(test, 0, hmm_range_register(&s->range, &s->device->mirror, NULL));
	KUNIT_EXPECT_EQ(test, 0, repeater->wait(&s->range));
	KUNIT_EXPECT_TRUE(test, valid(s));
}

/* An error of a fault under the mmap lock ends it too. */
static void failed_late(struct kunit *test)
{
	struct subject *s = subject(test);
	struct hmm_range *range = &s->range;

	KUNIT_ASSERT_EQ(test, 0, vm_munmap(range->start, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, -EFAULT, wait_and_fault(range));
	msleep(jiffies_to_msecs(2 * TIMEOUT));
	KUNIT_EXPECT_EQ(test, -EFAULT, wait_and_fault(range));
	msleep(jiffies_to_msecs(2 * TIMEOUT));
	/* And so does a call without a limit. */
	KUNIT_EXPECT_EQ(test, 0, hmm_range_wait_until_valid(range, TIMEOUT));
	KUNIT_EXPECT_EQ(test, 0, hmm_range_wait_until_valid(range, 0));
	msleep(jiffies_to_msecs(2 * TIMEOUT));
	KUNIT_EXPECT_EQ(test, 0, hmm_range_wait_until_valid(range, TIMEOUT));
}

/* What is reported for the first time, is progress; what is again, is not. */
static void progress(struct kunit *test)
{
	struct subject *s = subject(test);
	struct hmm_range *range = &s->range;

	KUNIT_EXPECT_EQ(test, 0, hmm_range_wait_until_valid(range, TIMEOUT));
	msleep(jiffies_to_msecs(TIMEOUT) * 3 / 4);
	mmap_read_lock(current->mm);
	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault(range));
	mmap_read_unlock(current->mm);
	msleep(jiffies_to_msecs(TIMEOUT) / 2);
	KUNIT_EXPECT_EQ(test, 0, hmm_range_wait_until_valid(range, TIMEOUT));
	mmap_read_lock(current->mm);
	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault(range));
	mmap_read_unlock(current->mm);
	msleep(jiffies_to_msecs(TIMEOUT));
	KUNIT_EXPECT_EQ(test, -EBUSY, hmm_range_wait_until_valid(range, TIMEOUT));
}

/* What has failed is not valid, whatever was before; nor what is not in the mirror. */
static void failed(struct kunit *test)
{
	struct subject *s = subject(test);
	struct hmm_range *range = &s->range;
	unsigned long end = range->end;

	KUNIT_EXPECT_EQ(test, 0, fault(range));
	KUNIT_EXPECT_TRUE(test, valid(s));
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(end - PAGE_SIZE, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, -EFAULT, fault(range));
	KUNIT_EXPECT_FALSE(test, valid(s));

	KUNIT_EXPECT_EQ(test, 0, hmm_range_wait_until_valid(range, TIMEOUT));
	KUNIT_EXPECT_TRUE(test, valid(s));
	mmap_read_lock(current->mm);
	KUNIT_EXPECT_EQ(test, -EFAULT, hmm_range_fault(range));
	mmap_read_unlock(current->mm);
	KUNIT_EXPECT_FALSE(test, valid(s));

	range->end = end - PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, 0, fault(range));
	KUNIT_EXPECT_TRUE(test, valid(s));
	range->end = end + PAGE_SIZE;
	mmap_read_lock(current->mm);
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_range_fault(range));
	mmap_read_unlock(current->mm);
	KUNIT_EXPECT_FALSE(test, valid(s));
	range->end = end;
	KUNIT_EXPECT_EQ(test, 0, hmm_range_snapshot(range));
	KUNIT_EXPECT_TRUE(test, valid(s));
	range->end = end + PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, -EINVAL, fault(range));
	KUNIT_EXPECT_FALSE(test, valid(s));
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_range_snapshot(range));
	mmap_read_lock(current->mm);
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_range_fault(range));
	mmap_read_unlock(current->mm);
	range->end = end - PAGE_SIZE;
	range->hmm_pfns = NULL;
	KUNIT_EXPECT_EQ(test, IS_ENABLED(CONFIG_HMM_KUNIT_HAS_FLAGS) ? 0 : -EINVAL,
			fault(range));
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_range_snapshot(range));
	range->hmm_pfns = s->pfns;
	KUNIT_EXPECT_EQ(test, 0, fault(range));
	KUNIT_EXPECT_TRUE(test, valid(s));
}

static struct kunit_case hmm_range_cases[] = {
	KUNIT_CASE(keeps_mirror),
	KUNIT_CASE(refused),
	KUNIT_CASE(event_is_seen),
	KUNIT_CASE_PARAM(wait_for_event, waiter_gen_params),
	KUNIT_CASE_PARAM(wait_timeout, limited_gen_params),
	KUNIT_CASE(snapshot_timeout),
	KUNIT_CASE_PARAM(wait_killed, waiter_gen_params),
	KUNIT_CASE_PARAM(repeated, repeater_gen_params),
	KUNIT_CASE(failed),
	KUNIT_CASE(failed_late),
	KUNIT_CASE(progress),
	{ }
};

static struct kunit_suite hmm_range_suite = {
	.name = "hmm_range",
	.test_cases = hmm_range_cases,
};

kunit_test_suite(hmm_range_suite);
