// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suite hmm_range: registration of ranges, how long calls wait, and the generation of an
 * array. Times are measured with some room for a slow machine.
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

/* A range of a mirror of its own, which it covers, and of pages that are there. */
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
	KUNIT_ASSERT_EQ(test, 0, hmm_range_register(range, &subject->device->mirror));
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

/* The range has no reference to its mirror (R8). */
static void keeps_no_mirror(struct kunit *test)
{
	struct subject *s = subject(test);

	KUNIT_EXPECT_PTR_EQ(test, s->range.notifier, &s->device->mirror.notifier);
	KUNIT_EXPECT_EQ(test, 1, kref_read(&s->device->mirror.kref));
	hmm_range_unregister(&s->range);
	KUNIT_EXPECT_PTR_EQ(test, s->range.notifier, NULL);
	KUNIT_EXPECT_EQ(test, 1, kref_read(&s->device->mirror.kref));
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
	/* Not registered, it may not either */
	struct hmm_range beyond = {
		.notifier = &mirror->notifier,
		.start = start,
		.end = end + PAGE_SIZE,
		.default_flags = REQ_READ,
	};

	for (int i = 0; i < ARRAY_SIZE(ranges); i++) {
		struct hmm_range range = {
			.start = ranges[i].start,
			.end = ranges[i].end,
		};

		KUNIT_EXPECT_EQ_MSG(test, hmm_range_register(&range, mirror),
				    ranges[i].ret, "range %d", i);
		if (ranges[i].ret)
			KUNIT_EXPECT_PTR_EQ(test, range.notifier, NULL);
		else
			hmm_range_unregister(&range);
	}

	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_range_fault_unlocked(&beyond, 0));
	KUNIT_EXPECT_EQ(test, -EBUSY, hmm_range_register(&s->range, mirror));
	hmm_range_unregister(&s->range);
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_range_wait(&s->range, 0));
	hmm_range_unregister(&s->range);
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_range_fault_unlocked(&s->range, 0));
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_range_snapshot(&s->range, 0));
	kunit_warning_suppress(test) {
		KUNIT_EXPECT_FALSE(test, hmm_range_valid(&s->range));
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	/* Had any of these put or kept a reference, it would be too few or too many. */
	KUNIT_EXPECT_EQ(test, 1, kref_read(&mirror->kref));
}

/* An event that began and ended since the last call is seen. */
static void event_is_seen(struct kunit *test)
{
	struct subject *s = subject(test);
	struct hmm_range *range = &s->range;
	unsigned long begun;

	hmm_kunit_needs_events(test);
	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault_unlocked(range, 0));
	KUNIT_EXPECT_TRUE(test, valid(s));
	hmm_kunit_event(test, current->mm, range->start, 1);
	KUNIT_EXPECT_FALSE(test, valid(s));

	/* So it is after a snapshot. */
	KUNIT_EXPECT_EQ(test, 0, hmm_range_snapshot(range, 0));
	KUNIT_EXPECT_TRUE(test, valid(s));
	hmm_kunit_event(test, current->mm, range->end - PAGE_SIZE, 1);
	KUNIT_EXPECT_FALSE(test, valid(s));

	/* A wait makes nothing valid (R1). */
	KUNIT_EXPECT_EQ(test, 0, hmm_range_wait(range, 0));
	KUNIT_EXPECT_FALSE(test, valid(s));
	/* With nothing to wait for, it lets others run. */
	begun = jiffies;
	KUNIT_EXPECT_EQ(test, 0, hmm_range_wait(range, 0));
	KUNIT_EXPECT_TRUE(test, time_after(jiffies, begun));
	KUNIT_EXPECT_FALSE(test, valid(s));
	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault_unlocked(range, 0));
	KUNIT_EXPECT_TRUE(test, valid(s));
}

/* Calls that wait while something happens to the range. */
static int fault_timeout(struct hmm_range *range, unsigned long deadline)
{
	return hmm_range_fault_unlocked_timeout(range, deadline ? deadline - jiffies : 0);
}

struct waiter {
	const char *name;
	int (*wait)(struct hmm_range *range, unsigned long deadline);
	bool walks;
};

static const struct waiter waiters[] = {
	{ "wait", hmm_range_wait, false },
	{ "fault", hmm_range_fault_unlocked, true },
	{ "fault_timeout", fault_timeout, true },
	{ "wait_and_fault", hmm_kunit_fault_locked, true },
	{ "snapshot", hmm_range_snapshot, true },
};

KUNIT_ARRAY_PARAM_DESC(waiter, waiters, name);

/* Those with an absolute deadline. */
static const struct waiter budgets[] = {
	{ "wait", hmm_range_wait, false },
	{ "fault", hmm_range_fault_unlocked, true },
	{ "wait_and_fault", hmm_kunit_fault_locked, true },
	{ "snapshot", hmm_range_snapshot, true },
};

KUNIT_ARRAY_PARAM_DESC(budget, budgets, name);

/* The end of the wait: 100 ms later, by a thread of its own. */
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

/* It ends when the event does, and the range is valid if it has been walked. */
static void wait_for_event(struct kunit *test)
{
	const struct waiter *waiter = test->param_value;
	const unsigned long deadlines[] = { 0, hmm_deadline(60 * HZ), hmm_deadline(ULONG_MAX) };

	for (int i = 0; i < ARRAY_SIZE(deadlines); i++) {
		struct subject *s = subject(test);
		struct hmm_kunit_held_event event;
		struct end end = { .event = &event };
		ktime_t ended;
		s64 ms;

		hmm_kunit_begin_event(s->device, &event, s->range.start);
		end_later(test, &end);
		KUNIT_EXPECT_EQ(test, 0, waiter->wait(&s->range, deadlines[i]));
		ended = ktime_get();
		wait_for_completion(&end.done);
		ms = ktime_ms_delta(ended, end.at);
		KUNIT_EXPECT_GE(test, ms, 0);
		KUNIT_EXPECT_LT(test, ms, LATE_MS);
		KUNIT_EXPECT_EQ(test, waiter->walks, valid(s));
	}
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
	KUNIT_EXPECT_EQ(test, -EBUSY, waiter->wait(&s->range, hmm_deadline(TIMEOUT)));
	ms = ktime_ms_delta(ktime_get(), begun);
	KUNIT_EXPECT_GE(test, ms, jiffies_to_msecs(TIMEOUT - 1));
	KUNIT_EXPECT_LT(test, ms, LATE_MS);
	KUNIT_EXPECT_FALSE(test, valid(s));
	hmm_kunit_end_event(&event);
	KUNIT_EXPECT_FALSE(test, valid(s));
	KUNIT_EXPECT_EQ(test, 0, waiter->wait(&s->range, hmm_deadline(TIMEOUT)));
	KUNIT_EXPECT_EQ(test, waiter->walks, valid(s));
}

/* A deadline that has passed does not wait at all, and one that comes too late does. */
static void passed(struct kunit *test)
{
	const struct waiter *waiter = test->param_value;
	struct subject *s = subject(test);
	struct hmm_kunit_held_event event;
	unsigned long deadline = hmm_deadline(1);
	ktime_t begun;

	msleep(50);
	hmm_kunit_begin_event(s->device, &event, s->range.start);
	begun = ktime_get();
	KUNIT_EXPECT_EQ(test, -EBUSY, waiter->wait(&s->range, deadline));
	KUNIT_EXPECT_LT(test, ktime_ms_delta(ktime_get(), begun), LATE_MS);
	hmm_kunit_end_event(&event);
	/* If nothing is stale nothing has to be waited for. */
	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault_unlocked(&s->range, 0));
	if (waiter->wait != hmm_range_snapshot)
		KUNIT_EXPECT_EQ(test, 0, waiter->wait(&s->range, deadline));
}

/* One call leaves nothing that ends another (R5). */
static void leaves_nothing(struct kunit *test)
{
	const struct waiter *waiter = test->param_value;
	struct subject *s = subject(test);
	struct hmm_kunit_held_event event;
	struct end end = { .event = &event };

	KUNIT_EXPECT_EQ(test, 0, waiter->wait(&s->range, hmm_deadline(msecs_to_jiffies(10))));
	msleep(100);
	hmm_kunit_begin_event(s->device, &event, s->range.start);
	end_later(test, &end);
	KUNIT_EXPECT_EQ(test, 0, waiter->wait(&s->range, hmm_deadline(60 * HZ)));
	wait_for_completion(&end.done);
	KUNIT_EXPECT_EQ(test, waiter->walks, valid(s));
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
	ret = waiter->wait(&s->range, 0);
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

/* A loop that repeats a call as its result is stale each time has one budget. */
static void repeated(struct kunit *test)
{
	const struct waiter *waiter = test->param_value;
	struct subject *s = subject(test);
	ktime_t begun = ktime_get();
	unsigned long deadline = hmm_deadline(TIMEOUT);
	unsigned int rounds = 0;
	s64 ms;
	int ret;

	hmm_kunit_needs_events(test);
	do {
		ret = waiter->wait(&s->range, deadline);
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
	KUNIT_EXPECT_EQ(test, 0, waiter->wait(&s->range, hmm_deadline(TIMEOUT)));
}

static bool copy_begin(struct subject *s, unsigned long *generation)
{
	bool ret;

	mutex_lock(&s->device->lock);
	ret = hmm_range_copy_begin(&s->range, generation);
	mutex_unlock(&s->device->lock);
	return ret;
}

static bool copy_valid(struct subject *s, unsigned long generation)
{
	bool ret;

	mutex_lock(&s->device->lock);
	ret = hmm_range_copy_valid(&s->range, generation);
	mutex_unlock(&s->device->lock);
	return ret;
}

/*
 * A copy of the array is true if the range is valid and has the generation that it had when
 * the copy began. Without the generation a copy of old pages passes for true.
 */
static void copies(struct kunit *test)
{
	struct subject *s = subject(test);
	struct hmm_range *range = &s->range;
	unsigned long copied, other;

	hmm_kunit_needs_events(test);
	KUNIT_EXPECT_FALSE(test, copy_begin(s, &copied));
	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault_unlocked(range, 0));
	KUNIT_EXPECT_TRUE(test, copy_begin(s, &copied));
	/* A call that walks nothing changes nothing. */
	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault_unlocked(range, 0));
	KUNIT_EXPECT_TRUE(test, copy_valid(s, copied));

	/* Another thread has faulted a page again: the range is valid, and the copy is not. */
	hmm_kunit_madvise(test, range->start, 1, MADV_DONTNEED);
	KUNIT_EXPECT_FALSE(test, copy_valid(s, copied));
	KUNIT_EXPECT_FALSE(test, copy_begin(s, &other));
	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault_unlocked(range, 0));
	KUNIT_EXPECT_TRUE(test, valid(s));
	KUNIT_EXPECT_FALSE(test, copy_valid(s, copied));

	/* So it is after each call that walks. */
	KUNIT_EXPECT_TRUE(test, copy_begin(s, &copied));
	KUNIT_EXPECT_EQ(test, 0, hmm_range_snapshot(range, 0));
	KUNIT_EXPECT_FALSE(test, copy_valid(s, copied));
	KUNIT_EXPECT_TRUE(test, copy_begin(s, &copied));
	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault_unlocked(range, 0));
	KUNIT_EXPECT_FALSE(test, copy_valid(s, copied));
}

/*
 * Two threads, one of which walks the range of the other's copy. A range that is being
 * walked is not valid: the handler of a fault looks.
 */
struct look {
	struct subject *s;
	unsigned long generation;
	bool valid;
	bool copy_valid;
	bool looked;
};

static void look_at_walk(void *data)
{
	struct look *look = data;

	look->valid = valid(look->s);
	look->copy_valid = copy_valid(look->s, look->generation);
	look->looked = true;
}

/* A range of a file whose faults can be watched, all of it faulted. */
static struct subject *file_subject(struct kunit *test, struct hmm_kunit_file **hf)
{
	struct subject *s = kunit_kzalloc(test, sizeof(*s), GFP_KERNEL);
	unsigned long addr;

	KUNIT_ASSERT_NOT_NULL(test, s);
	*hf = hmm_kunit_file(test, NPAGES);
	hmm_kunit_file_fill(test, *hf, 0, 1);
	addr = hmm_kunit_file_map(test, *hf, MAP_SHARED);
	s->device = hmm_kunit_device_of(test, addr, NPAGES);
	s->range.start = addr;
	s->range.end = addr + NPAGES * PAGE_SIZE;
	s->range.hmm_pfns = s->pfns;
	s->range.default_flags = REQ_READ;
	KUNIT_ASSERT_EQ(test, 0, hmm_range_register(&s->range, &s->device->mirror));
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, subject_unregister, s));
	KUNIT_ASSERT_EQ(test, 0, hmm_range_fault_unlocked(&s->range, 0));
	KUNIT_ASSERT_TRUE(test, valid(s));
	return s;
}

static void not_valid_in_walk(struct kunit *test)
{
	struct hmm_kunit_file *hf;
	struct subject *s = file_subject(test, &hf);
	struct look look = { .s = s };

	KUNIT_EXPECT_TRUE(test, copy_begin(s, &look.generation));

	hmm_kunit_madvise(test, s->range.start + PAGE_SIZE, 1, MADV_DONTNEED);
	hf->at = 1;
	hf->times = 1;
	hf->call = look_at_walk;
	hf->data = &look;
	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault_unlocked(&s->range, 0));
	KUNIT_EXPECT_TRUE(test, look.looked);
	KUNIT_EXPECT_FALSE(test, look.valid);
	KUNIT_EXPECT_FALSE(test, look.copy_valid);
	KUNIT_EXPECT_TRUE(test, valid(s));
	KUNIT_EXPECT_FALSE(test, copy_valid(s, look.generation));
}

/* A range whose call has failed is not valid, whatever was before. */
static void failed(struct kunit *test)
{
	const struct waiter *waiter = test->param_value;
	struct subject *s = subject(test);
	struct hmm_range *range = &s->range;

	KUNIT_EXPECT_EQ(test, 0, waiter->wait(range, 0));
	KUNIT_EXPECT_EQ(test, waiter->walks, valid(s));
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(range->end - PAGE_SIZE, PAGE_SIZE));
	KUNIT_EXPECT_FALSE(test, valid(s));
	if (!waiter->walks || waiter->wait == hmm_range_snapshot) {
		KUNIT_EXPECT_EQ(test, 0, waiter->wait(range, 0));
		return;
	}
	KUNIT_EXPECT_EQ(test, -EFAULT, waiter->wait(range, 0));
	KUNIT_EXPECT_FALSE(test, valid(s));
	KUNIT_EXPECT_EQ(test, 0, hmm_range_wait(range, 0));
	KUNIT_EXPECT_FALSE(test, valid(s));
	KUNIT_EXPECT_EQ(test, -EFAULT, waiter->wait(range, 0));
	KUNIT_EXPECT_FALSE(test, valid(s));
}

/* Without an array only faults can be had, and none of the pages has gone if it is valid. */
static void no_array(struct kunit *test)
{
	struct subject *s = subject(test);
	struct hmm_range *range = &s->range;

	hmm_range_unregister(range);
	range->hmm_pfns = NULL;
	KUNIT_ASSERT_EQ(test, 0, hmm_range_register(range, &s->device->mirror));
	if (!IS_ENABLED(CONFIG_HMM_KUNIT_HAS_FLAGS)) {
		KUNIT_EXPECT_EQ(test, -EINVAL, hmm_range_fault_unlocked(range, 0));
		return;
	}
	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault_unlocked(range, 0));
	KUNIT_EXPECT_TRUE(test, valid(s));
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_range_snapshot(range, 0));
	hmm_kunit_madvise(test, range->start, 1, MADV_DONTNEED);
	KUNIT_EXPECT_FALSE(test, valid(s));
	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault_unlocked(range, 0));
	KUNIT_EXPECT_TRUE(test, valid(s));
}

/* A registered range that is copied is not registered, whatever the copy says. */
static void copied_struct(struct kunit *test)
{
	struct subject *s = subject(test);
	struct hmm_range copy;

	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault_unlocked(&s->range, 0));
	copy = s->range;
	mutex_lock(&s->device->lock);
	KUNIT_EXPECT_FALSE(test, hmm_range_valid(&copy));
	mutex_unlock(&s->device->lock);
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_range_fault_unlocked(&copy, 0));
	kunit_warning_suppress(test) {
		hmm_range_unregister(&copy);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	KUNIT_EXPECT_TRUE(test, valid(s));
}

/* A second thread that walks a range is refused, and makes nothing valid. */
static void fault_in_walk(void *data)
{
	struct look *look = data;

	kunit_warning_suppress(look->s->device->test) {
		look->looked = hmm_range_fault_unlocked(&look->s->range, 0) == -EBUSY;
	}
	look->valid = valid(look->s);
}

static void two_threads(struct kunit *test)
{
	struct look look = { };
	struct hmm_kunit_file *hf;
	struct subject *s;

	s = file_subject(test, &hf);
	look.s = s;
	hmm_kunit_madvise(test, s->range.start + PAGE_SIZE, 1, MADV_DONTNEED);
	hf->at = 1;
	hf->times = 1;
	hf->call = fault_in_walk;
	hf->data = &look;
	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault_unlocked(&s->range, 0));
	KUNIT_EXPECT_TRUE(test, look.looked);
	KUNIT_EXPECT_FALSE(test, look.valid);
	KUNIT_EXPECT_TRUE(test, valid(s));
}

/* A range of a mirror that is released is unregistered, and none can be registered then. */
static void after_release(struct kunit *test)
{
	struct subject *s = subject(test);

	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault_unlocked(&s->range, 0));
	hmm_mirror_put(&s->device->mirror);
	hmm_kunit_synchronize(s->device);
	KUNIT_EXPECT_PTR_EQ(test, s->range.mirror, NULL);
	KUNIT_EXPECT_EQ(test, -EINVAL, hmm_range_fault_unlocked(&s->range, 0));
	kunit_warning_suppress(test) {
		KUNIT_EXPECT_EQ(test, -EINVAL,
				hmm_range_register(&s->range, &s->device->mirror));
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
}

/* A driver that looks without the lock, or for something else than it asked for. */
static void wrong_question(struct kunit *test)
{
	struct subject *s = subject(test);

	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault_unlocked(&s->range, 0));
	s->range.default_flags = REQ_WRITE;
	KUNIT_EXPECT_FALSE(test, valid(s));
	s->range.default_flags = REQ_READ;
	s->range.dev_private_owner = s;
	KUNIT_EXPECT_FALSE(test, valid(s));
	s->range.dev_private_owner = NULL;
	KUNIT_EXPECT_TRUE(test, valid(s));
	/* lockdep would warn of it, too. */
	if (!IS_ENABLED(CONFIG_LOCKDEP))
		kunit_warning_suppress(test) {
			hmm_range_valid(&s->range);
			KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
		}
}

static struct kunit_case hmm_range_cases[] = {
	KUNIT_CASE(keeps_no_mirror),
	KUNIT_CASE(refused),
	KUNIT_CASE(event_is_seen),
	KUNIT_CASE_PARAM(wait_for_event, waiter_gen_params),
	KUNIT_CASE_PARAM(wait_timeout, waiter_gen_params),
	KUNIT_CASE_PARAM(passed, budget_gen_params),
	KUNIT_CASE_PARAM(leaves_nothing, waiter_gen_params),
	KUNIT_CASE_PARAM(wait_killed, waiter_gen_params),
	KUNIT_CASE_PARAM(repeated, budget_gen_params),
	KUNIT_CASE(copies),
	KUNIT_CASE(not_valid_in_walk),
	KUNIT_CASE_PARAM(failed, waiter_gen_params),
	KUNIT_CASE(no_array),
	KUNIT_CASE(copied_struct),
	KUNIT_CASE(two_threads),
	KUNIT_CASE(after_release),
	KUNIT_CASE(wrong_question),
	{ }
};

static struct kunit_suite hmm_range_suite = {
	.name = "hmm_range",
	.test_cases = hmm_range_cases,
};

kunit_test_suite(hmm_range_suite);
