// SPDX-License-Identifier: GPL-2.0-only
/*
 * Suite hmm_invalidate: which pages of a registered range a call walks again, and when the
 * range is valid.
 *
 * Entries that a call has stored are replaced by sentinels, which name another page. A
 * sentinel that is still there was not walked; all other entries must agree with the page
 * tables.
 */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/nmi.h>
#include <linux/random.h>
#include <linux/sched/mm.h>

#include "device.h"

/* Pages of a range, and the first one that is missing: what is before is stored first. */
#define NPAGES 64
#define AT 40
/* The page that comes while a walk goes on. */
#define COMES 30
/* Pages of the mirror before the range, and behind it. */
#define BESIDE 8

struct subject {
	struct kunit *test;
	struct hmm_kunit_device *device;
	struct hmm_kunit_file *hf;
	unsigned long npages;
	struct hmm_range range;
	unsigned long *pfns;
	const struct events *events;
	unsigned int nr_stored;
};

static void subject_unregister(void *data)
{
	struct subject *s = data;

	if (s->range.mirror)
		hmm_range_unregister(&s->range);
}

/* A range of @npages from @addr on of a mirror, which may be longer. */
static struct subject *subject(struct kunit *test, struct hmm_kunit_device *device,
			       unsigned long addr, unsigned long npages)
{
	struct subject *s = kunit_kzalloc(test, sizeof(*s), GFP_KERNEL);
	struct hmm_range *range;

	KUNIT_ASSERT_NOT_NULL(test, s);
	s->pfns = kunit_kmalloc_array(test, npages, sizeof(*s->pfns), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, s->pfns);
	for (unsigned long i = 0; i < npages; i++)
		s->pfns[i] = HMM_KUNIT_POISON;
	s->test = test;
	s->device = device;
	s->npages = npages;
	range = &s->range;
	range->start = addr;
	range->end = addr + npages * PAGE_SIZE;
	range->hmm_pfns = s->pfns;
	range->default_flags = REQ_WRITE;
	KUNIT_ASSERT_EQ(test, 0, hmm_range_register(range, &device->mirror));
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, subject_unregister, s));
	return s;
}

/* The flags stay: how large an entry is, is told by them. */
static unsigned long sentinel(unsigned long entry)
{
	return (entry & HMM_PFN_FLAGS) | 0x5a5a5a;
}

static unsigned int plant(struct subject *s)
{
	unsigned int i;

	for (i = 0; i < s->npages && s->pfns[i] != HMM_KUNIT_POISON; i++)
		s->pfns[i] = sentinel(s->pfns[i]);
	return i;
}

static bool is_sentinel(const struct subject *s, unsigned long i)
{
	return s->pfns[i] == sentinel(s->pfns[i]);
}

static bool is_true(const struct subject *s, unsigned long i)
{
	struct hmm_kunit_leaf leaf;

	return hmm_kunit_leaf(s->range.start + i * PAGE_SIZE, &leaf) &&
	       s->pfns[i] == hmm_kunit_leaf_entry(&leaf);
}

static bool valid(struct subject *s)
{
	bool ret;

	mutex_lock(&s->device->lock);
	ret = hmm_range_valid(&s->range);
	mutex_unlock(&s->device->lock);
	return ret;
}

static int fault_unlocked(struct hmm_range *range)
{
	return hmm_range_fault_unlocked_timeout(range, 0);
}

/* Or, where it is absent, a call without a request. */
static int snapshot_of(struct hmm_range *range)
{
	unsigned long flags = range->default_flags;
	int ret;

	if (IS_ENABLED(CONFIG_HMM_KUNIT_HAS_SNAPSHOT))
		return hmm_range_snapshot(range, 0);
	range->default_flags = 0;
	ret = fault_unlocked(range);
	range->default_flags = flags;
	return ret;
}

/*
 * What happens while a fault goes on, after pages before AT have been stored: events,
 * which all begin before the first one ends. Pages [first, end) of the range are to be
 * walked again; with @sparse only those of events.
 */
struct events {
	const char *name;
	bool sparse;
	unsigned int nr;
	struct {
		int page;
		int npages;
	} events[12];
	unsigned int first;
	unsigned int end;
};

static const struct events in_calls[] = {
	{ "none", .first = 0, .end = 0 },
	{ "one", .nr = 1, .events = { { 3, 1 } }, .first = 3, .end = 4 },
	{ "same", .nr = 2, .events = { { 3, 1 }, { 3, 1 } }, .first = 3, .end = 4 },
	{ "adjacent", .nr = 2, .events = { { 4, 1 }, { 3, 1 } }, .first = 3, .end = 5 },
	{ "nested", .nr = 2, .events = { { 3, 9 }, { 5, 2 } }, .first = 3, .end = 12 },
	{ "widened", .nr = 3, .events = { { 5, 2 }, { 4, 4 }, { 2, 9 } }, .first = 2, .end = 11 },
	{ "before", .nr = 1, .events = { { -BESIDE, BESIDE } }, .first = 0, .end = 0 },
	{ "behind", .nr = 1, .events = { { NPAGES, BESIDE } }, .first = 0, .end = 0 },
	{ "from_before", .nr = 1, .events = { { -2, 5 } }, .first = 0, .end = 3 },
	{ "all", .nr = 1, .events = { { -BESIDE, NPAGES + 2 * BESIDE } }, .first = 0, .end = AT },
	{ "many", .sparse = true, .nr = 12, .events = {
		{ 20, 1 }, { 4, 1 }, { 12, 1 }, { 32, 1 }, { 8, 1 }, { 24, 1 },
		{ 28, 1 }, { 16, 1 }, { 6, 1 }, { 14, 1 }, { 34, 1 }, { 10, 1 } },
		.first = 4, .end = 35 },
};

KUNIT_ARRAY_PARAM_DESC(in_call, in_calls, name);

static void events_happen(void *data)
{
	struct mmu_notifier_range events[ARRAY_SIZE(((struct events *)0)->events)];
	struct subject *s = data;
	unsigned int i;

	s->nr_stored = plant(s);
	for (i = 0; i < s->events->nr; i++)
		hmm_kunit_event_begin(s->test, &events[i], current->mm,
				      s->range.start + s->events->events[i].page * PAGE_SIZE,
				      s->events->events[i].npages);
	while (i--)
		hmm_kunit_event_end(&events[i]);
}

static bool has_event(const struct events *events, int page)
{
	for (unsigned int i = 0; i < events->nr; i++)
		if (page >= events->events[i].page &&
		    page < events->events[i].page + events->events[i].npages)
			return true;
	return false;
}

static void in_call(struct kunit *test)
{
	const struct events *events = test->param_value;
	struct hmm_kunit_file *hf = hmm_kunit_file(test, NPAGES + 2 * BESIDE);
	unsigned long addr, i, start;
	struct subject *s;

	hmm_kunit_needs_events(test);
	hmm_kunit_file_fill(test, hf, 0, 1);
	addr = hmm_kunit_file_map(test, hf, MAP_SHARED);
	start = addr + BESIDE * PAGE_SIZE;
	for (i = 0; i < AT; i++)
		hmm_kunit_write(test, start + i * PAGE_SIZE, i);
	s = subject(test, hmm_kunit_device_of(test, addr, NPAGES + 2 * BESIDE), start, NPAGES);
	s->events = events;
	hf->at = BESIDE + AT;
	hf->times = 1;
	hf->call = events_happen;
	hf->data = s;

	KUNIT_EXPECT_EQ(test, 0, fault_unlocked(&s->range));
	KUNIT_EXPECT_TRUE(test, valid(s));
	KUNIT_EXPECT_EQ(test, 0, hf->times);
	KUNIT_ASSERT_EQ(test, AT, s->nr_stored);
	for (i = 0; i < NPAGES; i++) {
		bool again = i >= AT || (i >= events->first && i < events->end);

		if (events->sparse && i < AT)
			again = has_event(events, i);
		if (again ? !is_true(s, i) : !is_sentinel(s, i))
			KUNIT_FAIL(test, "page %lu: entry %lx, expected %s", i, s->pfns[i],
				   again ? "the page that is mapped" : "a sentinel");
	}
}

/* Breaking COW makes an event of each page, but none before it is looked at again. */
static void cow(struct kunit *test)
{
	const unsigned long npages = 2 * HMM_KUNIT_TABLE;
	unsigned long addr = hmm_kunit_anon(test, npages), i;
	struct hmm_kunit_device *device;
	struct subject *s;

	for (i = 0; i < npages; i++)
		KUNIT_ASSERT_EQ(test, hmm_kunit_read(test, addr + i * PAGE_SIZE), 0);
	device = hmm_kunit_device_of(test, addr, npages);
	s = subject(test, device, addr, npages);
	KUNIT_EXPECT_EQ(test, 0, fault_unlocked(&s->range));
	KUNIT_EXPECT_TRUE(test, valid(s));
	KUNIT_EXPECT_GE(test, device->nr_callbacks, npages);
	for (i = 0; i < npages; i++)
		if (!is_true(s, i)) {
			KUNIT_FAIL(test, "page %lu: entry %lx", i, s->pfns[i]);
			break;
		}
}

/* The fault of a page takes all others away, as if there were memory for no more. */
static void take_others(void *data)
{
	struct hmm_kunit_file *hf = data;

	unmap_mapping_pages(hf->file->f_mapping, 0, 0, true);
}

/* A call under the mmap lock ends, and the next goes on. */
static void in_turns(struct kunit *test)
{
	struct hmm_kunit_file *hf = hmm_kunit_file(test, 2);
	unsigned long addr;
	struct subject *s;

	hmm_kunit_file_fill(test, hf, 0, 1);
	addr = hmm_kunit_file_map(test, hf, MAP_SHARED);
	s = subject(test, hmm_kunit_device_of(test, addr, 2), addr, 2);
	hf->at = ULONG_MAX;
	hf->times = 100;
	hf->call = take_others;
	hf->data = hf;

	mmap_read_lock(current->mm);
	KUNIT_EXPECT_EQ(test, -EBUSY, hmm_range_fault(&s->range));
	mmap_read_unlock(current->mm);
	KUNIT_EXPECT_GT(test, hf->times, 90);
	hf->times = 0;
	KUNIT_EXPECT_EQ(test, 0, hmm_kunit_fault_locked(&s->range, 0));
	KUNIT_EXPECT_TRUE(test, valid(s));
	for (int i = 0; i < 2; i++)
		KUNIT_EXPECT_TRUE(test, is_true(s, i));
}

/* Anonymous memory that is there, and a range of it. */
static struct subject *keeper(struct kunit *test)
{
	unsigned long addr = hmm_kunit_anon(test, NPAGES);

	for (int i = 0; i < NPAGES; i++)
		hmm_kunit_write(test, addr + i * PAGE_SIZE, i);
	return subject(test, hmm_kunit_device_of(test, addr, NPAGES + 1), addr, NPAGES);
}

/* Only pages [first, end) have been looked at. */
static void expect_looked_at(struct subject *s, unsigned long first, unsigned long end)
{
	for (unsigned long i = 0; i < s->npages; i++) {
		bool in = i >= first && i < end;

		if (in ? !is_true(s, i) : !is_sentinel(s, i)) {
			KUNIT_FAIL(s->test, "page %lu: entry %lx, expected %s", i,
				   s->pfns[i], in ? "the page that is mapped" : "a sentinel");
			return;
		}
	}
}

static int fault_locked(struct hmm_range *range)
{
	return hmm_kunit_fault_locked(range, 0);
}

static const struct fault {
	const char *name;
	int (*fault)(struct hmm_range *range);
} faults[] = {
	{ "unlocked", fault_unlocked },
	{ "locked", fault_locked },
};

KUNIT_ARRAY_PARAM_DESC(fault, faults, name);

/* Fault it, and what was stored is sentinels. */
static void fault_all(struct subject *s, int (*fault)(struct hmm_range *range))
{
	KUNIT_ASSERT_EQ(s->test, 0, fault(&s->range));
	KUNIT_ASSERT_TRUE(s->test, valid(s));
	for (unsigned long i = 0; i < s->npages; i++)
		KUNIT_ASSERT_TRUE_MSG(s->test, is_true(s, i), "page %lu", i);
	KUNIT_ASSERT_EQ(s->test, s->npages, plant(s));
}

static void kept(struct kunit *test)
{
	const struct fault *fault = test->param_value;
	struct subject *s = keeper(test);
	unsigned long addr = s->range.start;

	hmm_kunit_needs_events(test);
	fault_all(s, fault->fault);
	KUNIT_EXPECT_EQ(test, 0, fault->fault(&s->range));
	KUNIT_EXPECT_TRUE(test, valid(s));
	expect_looked_at(s, 0, 0);

	/* An event elsewhere in the mirror changes nothing. */
	hmm_kunit_event(test, current->mm, s->range.end, 1);
	KUNIT_EXPECT_TRUE(test, valid(s));
	KUNIT_EXPECT_EQ(test, 0, fault->fault(&s->range));
	expect_looked_at(s, 0, 0);

	hmm_kunit_event(test, current->mm, addr + 3 * PAGE_SIZE, 1);
	KUNIT_EXPECT_FALSE(test, valid(s));
	KUNIT_EXPECT_EQ(test, 0, fault->fault(&s->range));
	KUNIT_EXPECT_TRUE(test, valid(s));
	expect_looked_at(s, 3, 4);

	/* However many there were, and what really goes is faulted. */
	plant(s);
	for (int i = 0; i < 1000; i++)
		hmm_kunit_event(test, current->mm, addr + (10 + i % 3) * PAGE_SIZE, 1);
	hmm_kunit_madvise(test, addr + 11 * PAGE_SIZE, 3, MADV_DONTNEED);
	KUNIT_EXPECT_EQ(test, 0, fault->fault(&s->range));
	KUNIT_EXPECT_TRUE(test, valid(s));
	expect_looked_at(s, 10, 14);
}

/* After these a fault looks at everything. */
static void other_flags(struct subject *s)
{
	s->range.default_flags = REQ_READ;
}

static void other_owner(struct subject *s)
{
	s->range.dev_private_owner = s;
}

static void snapshot(struct subject *s)
{
	KUNIT_EXPECT_EQ(s->test, 0, snapshot_of(&s->range));
	KUNIT_EXPECT_TRUE(s->test, valid(s));
	KUNIT_EXPECT_EQ(s->test, NPAGES, plant(s));
}

/* While that waits for an event, others of the same sequence begin and end. */
struct overlap {
	struct subject *s;
	struct task_struct *waiter;
	unsigned long last;
	struct mmu_notifier_range event;
	struct completion done;
};

static int overlap_thread(void *data)
{
	struct overlap *overlap = data;

	while (task_is_running(overlap->waiter))
		msleep(20);
	hmm_kunit_event(overlap->s->test, overlap->waiter->mm,
			overlap->s->range.start + 2 * PAGE_SIZE, 1);
	hmm_kunit_event_end(&overlap->event);
	complete(&overlap->done);
	return 0;
}

static void snapshot_overlapped(struct subject *s)
{
	struct overlap overlap = { .s = s, .waiter = current };

	init_completion(&overlap.done);
	hmm_kunit_event_begin(s->test, &overlap.event, current->mm, s->range.start, 1);
	KUNIT_ASSERT_FALSE(s->test, IS_ERR(kthread_run(overlap_thread, &overlap, "overlap")));
	snapshot(s);
	wait_for_completion(&overlap.done);
}

static void look(struct subject *s)
{
	s->range.default_flags = 0;
	KUNIT_EXPECT_EQ(s->test, 0, fault_unlocked(&s->range));
	KUNIT_EXPECT_TRUE(s->test, valid(s));
	/* Of pages that have come nobody is told, so all of it is looked at again. */
	KUNIT_EXPECT_EQ(s->test, NPAGES, plant(s));
	KUNIT_EXPECT_EQ(s->test, 0, fault_unlocked(&s->range));
	KUNIT_EXPECT_TRUE(s->test, valid(s));
	expect_looked_at(s, 0, s->npages);
	KUNIT_EXPECT_EQ(s->test, NPAGES, plant(s));
	s->range.default_flags = REQ_WRITE;
}

static void registered_again(struct subject *s)
{
	hmm_range_unregister(&s->range);
	KUNIT_ASSERT_EQ(s->test, 0, hmm_range_register(&s->range, &s->device->mirror));
}

static void smaller(struct subject *s)
{
	hmm_range_unregister(&s->range);
	s->range.end -= PAGE_SIZE;
	s->npages--;
	KUNIT_ASSERT_EQ(s->test, 0, hmm_range_register(&s->range, &s->device->mirror));
}

static void just_event(struct subject *s)
{
	hmm_kunit_event(s->test, current->mm, s->range.start, 1);
}

/*
 * An event begins after a walk has got its sequence and before it walks, and ends later,
 * when a page has come for which there is no event.
 */
static int event_thread(void *data)
{
	struct overlap *overlap = data;
	struct mm_struct *mm = overlap->waiter->mm;
	struct subject *s = overlap->s;

	mmap_write_lock(mm);
	/* So that the lock of the VMA does not do. */
	vma_start_write(vma_lookup(mm, s->range.start));
	complete(&overlap->done);
	while (!mmap_lock_is_contended(mm))
		msleep(20);
	hmm_kunit_event_begin(s->test, &overlap->event, mm, s->range.start, 1);
	mmap_write_unlock(mm);
	while (READ_ONCE(s->pfns[NPAGES - 1]) == overlap->last)
		msleep(20);
	kthread_use_mm(mm);
	KUNIT_EXPECT_EQ(s->test, 0,
			put_user(1, (u8 __user *)(s->range.start + COMES * PAGE_SIZE)));
	kthread_unuse_mm(mm);
	hmm_kunit_event_end(&overlap->event);
	complete(&overlap->done);
	return 0;
}

static void event_beside(struct subject *s, int (*walk)(struct hmm_range *range))
{
	struct overlap overlap = { .s = s, .waiter = current, .last = s->pfns[NPAGES - 1] };

	hmm_kunit_madvise(s->test, s->range.start + COMES * PAGE_SIZE, 1, MADV_DONTNEED);
	init_completion(&overlap.done);
	KUNIT_ASSERT_FALSE(s->test, IS_ERR(kthread_run(event_thread, &overlap, "event")));
	wait_for_completion(&overlap.done);
	KUNIT_EXPECT_EQ(s->test, 0, walk(&s->range));
	wait_for_completion(&overlap.done);
}

static void beside_snapshot(struct subject *s)
{
	event_beside(s, snapshot_of);
	KUNIT_EXPECT_TRUE(s->test, valid(s));
	KUNIT_EXPECT_EQ(s->test, NPAGES, plant(s));
}

/* All of it is looked at again after the event. */
static void beside_look(struct subject *s)
{
	s->range.default_flags = 0;
	event_beside(s, fault_unlocked);
	KUNIT_EXPECT_TRUE(s->test, valid(s));
	KUNIT_EXPECT_TRUE(s->test, is_true(s, COMES));
	KUNIT_EXPECT_EQ(s->test, NPAGES, plant(s));
	s->range.default_flags = REQ_WRITE;
}

static const struct drop {
	const char *name;
	void (*drop)(struct subject *s);
} drops[] = {
	{ "other_flags", other_flags },
	{ "other_owner", other_owner },
	{ "snapshot", snapshot },
	{ "snapshot_overlapped", snapshot_overlapped },
	{ "look", look },
	{ "beside_snapshot", beside_snapshot },
	{ "beside_look", beside_look },
	{ "registered_again", registered_again },
	{ "smaller", smaller },
};

KUNIT_ARRAY_PARAM_DESC(drop, drops, name);

static void dropped(struct kunit *test)
{
	const struct drop *drop = test->param_value;
	struct subject *s = keeper(test);

	hmm_kunit_needs_events(test);
	fault_all(s, fault_unlocked);
	drop->drop(s);
	KUNIT_EXPECT_EQ(test, 0, fault_unlocked(&s->range));
	KUNIT_EXPECT_TRUE(test, valid(s));
	expect_looked_at(s, 0, s->npages);
}

/* An event goes on for longer than a snapshot may wait, so that it walks nothing. */
static void before_snapshot(struct subject *s)
{
	struct mmu_notifier_range event;

	hmm_kunit_event_begin(s->test, &event, current->mm, s->range.start, 1);
	if (IS_ENABLED(CONFIG_HMM_KUNIT_HAS_WAIT))
		KUNIT_EXPECT_EQ(s->test, -EBUSY,
				hmm_range_snapshot(&s->range, hmm_deadline(1)));
	hmm_kunit_event_end(&event);
}

/* It begins to walk, and fails. */
static void killed_snapshot(struct subject *s)
{
	int ret;

	hmm_kunit_kill(true);
	ret = snapshot_of(&s->range);
	hmm_kunit_kill(false);
	KUNIT_EXPECT_EQ(s->test, -EINTR, ret);
}

static void before_look(struct subject *s)
{
	struct mmu_notifier_range event;

	s->range.default_flags = 0;
	hmm_kunit_event_begin(s->test, &event, current->mm, s->range.start, 1);
	if (IS_ENABLED(CONFIG_HMM_KUNIT_HAS_WAIT)) {
		mmap_read_lock(current->mm);
		KUNIT_EXPECT_EQ(s->test, -EBUSY, hmm_range_fault(&s->range));
		mmap_read_unlock(current->mm);
	}
	hmm_kunit_event_end(&event);
	s->range.default_flags = REQ_WRITE;
}

static const struct stale {
	const char *name;
	void (*event)(struct subject *s);
} stales[] = {
	{ "event", just_event },
	{ "before_snapshot", before_snapshot },
	{ "killed_snapshot", killed_snapshot },
	{ "before_look", before_look },
};

KUNIT_ARRAY_PARAM_DESC(stale, stales, name);

/* A page that has not been walked since is not valid, however long one waits (R1). */
static void stale(struct kunit *test)
{
	const struct stale *stale = test->param_value;
	struct subject *s = keeper(test);

	hmm_kunit_needs_events(test);
	fault_all(s, fault_unlocked);
	stale->event(s);
	KUNIT_EXPECT_FALSE(test, valid(s));
	KUNIT_EXPECT_EQ(test, 0, hmm_kunit_wait(&s->range, 0));
	KUNIT_EXPECT_FALSE(test, valid(s));
	snapshot(s);
	KUNIT_EXPECT_EQ(test, 0, hmm_kunit_wait(&s->range, 0));
	KUNIT_EXPECT_EQ(test, 0, fault_unlocked(&s->range));
	KUNIT_EXPECT_TRUE(test, valid(s));
	expect_looked_at(s, 0, s->npages);
}

/* A fault that has failed, and then a wait, make nothing valid (R1). */
static void failed_and_waited(struct kunit *test)
{
	struct subject *s = keeper(test);
	unsigned long addr = s->range.start + 20 * PAGE_SIZE;

	hmm_kunit_needs_events(test);
	fault_all(s, fault_unlocked);
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, -EFAULT, fault_unlocked(&s->range));
	KUNIT_EXPECT_FALSE(test, valid(s));
	KUNIT_EXPECT_EQ(test, 0, hmm_kunit_wait(&s->range, 0));
	KUNIT_EXPECT_FALSE(test, valid(s));
}

/*
 * Events that overlap have one sequence. The driver does nothing about the second, and has
 * no way to keep HMM from knowing of it (R2).
 */
static void overlapping(struct kunit *test)
{
	struct subject *s = keeper(test);
	struct mmu_notifier_range first, second;
	unsigned long addr = s->range.start;

	hmm_kunit_needs_events(test);
	fault_all(s, fault_unlocked);
	hmm_kunit_event_begin(test, &first, current->mm, addr + 3 * PAGE_SIZE, 1);
	hmm_kunit_event_begin(test, &second, current->mm, addr + 9 * PAGE_SIZE, 1);
	hmm_kunit_event_end(&first);
	KUNIT_EXPECT_FALSE(test, valid(s));
	hmm_kunit_event_end(&second);
	KUNIT_EXPECT_EQ(test, 0, fault_unlocked(&s->range));
	for (unsigned long i = 0; i < NPAGES; i++)
		KUNIT_EXPECT_TRUE_MSG(test, i == 3 || i == 9 ? is_true(s, i) : is_sentinel(s, i),
				      "page %lu: entry %lx", i, s->pfns[i]);
}

/* An event elsewhere in the mirror that goes on holds up no fault of a valid range (R3). */
static void event_elsewhere(struct kunit *test)
{
	const struct fault *fault = test->param_value;
	struct subject *s = keeper(test);
	struct mmu_notifier_range event;

	hmm_kunit_needs_events(test);
	fault_all(s, fault->fault);
	hmm_kunit_event_begin(test, &event, current->mm, s->range.end, 1);
	KUNIT_EXPECT_TRUE(test, valid(s));
	KUNIT_EXPECT_EQ(test, 0, fault->fault(&s->range));
	KUNIT_EXPECT_TRUE(test, valid(s));
	hmm_kunit_event_end(&event);
	expect_looked_at(s, 0, 0);
}

/* Events of the driver itself: its page stays, or it moves. */
static void own_events(struct kunit *test)
{
	struct subject *s = keeper(test);
	unsigned long addr = s->range.start + 3 * PAGE_SIZE;
	unsigned int nr;

	hmm_kunit_needs_events(test);
	s->device->mirror.owner = s;
	fault_all(s, fault_unlocked);
	nr = s->device->nr_callbacks;
	hmm_kunit_owner_event(test, current->mm, addr, MMU_NOTIFY_EXCLUSIVE, s);
	KUNIT_EXPECT_TRUE(test, valid(s));
	KUNIT_EXPECT_EQ(test, nr, s->device->nr_callbacks);
	hmm_kunit_owner_event(test, current->mm, addr, MMU_NOTIFY_EXCLUSIVE, test);
	KUNIT_EXPECT_FALSE(test, valid(s));
	KUNIT_EXPECT_EQ(test, 0, fault_unlocked(&s->range));
	expect_looked_at(s, 3, 4);
	plant(s);
	hmm_kunit_owner_event(test, current->mm, addr, MMU_NOTIFY_MIGRATE, s);
	KUNIT_EXPECT_FALSE(test, valid(s));
	KUNIT_EXPECT_EQ(test, 0, fault_unlocked(&s->range));
	expect_looked_at(s, 3, 4);
	/* The owner of a range is another matter. */
	s->device->mirror.owner = NULL;
	s->range.dev_private_owner = s;
	KUNIT_EXPECT_EQ(test, 0, fault_unlocked(&s->range));
	plant(s);
	hmm_kunit_owner_event(test, current->mm, addr, MMU_NOTIFY_EXCLUSIVE, s);
	KUNIT_EXPECT_FALSE(test, valid(s));
}

/* An event that must not block: a refusal before the lock marks nothing, a later one does. */
static void refused_event(struct kunit *test)
{
	struct subject *s = keeper(test);
	unsigned long addr = s->range.start + 3 * PAGE_SIZE;

	hmm_kunit_needs_events(test);
	fault_all(s, fault_unlocked);
	s->device->ops.nonblocking = false;
	KUNIT_EXPECT_FALSE(test, hmm_kunit_event_try(test, current->mm, addr, 1));
	KUNIT_EXPECT_TRUE(test, valid(s));
	s->device->ops.nonblocking = true;
	hmm_kunit_begin_lock(s->device);
	KUNIT_EXPECT_FALSE(test, hmm_kunit_event_try(test, current->mm, addr, 1));
	hmm_kunit_end_lock(s->device);
	KUNIT_EXPECT_TRUE(test, valid(s));
	s->device->busy = true;
	KUNIT_EXPECT_FALSE(test, hmm_kunit_event_try(test, current->mm, addr, 1));
	s->device->busy = false;
	KUNIT_EXPECT_FALSE(test, valid(s));
	KUNIT_EXPECT_EQ(test, 0, fault_unlocked(&s->range));
	KUNIT_EXPECT_TRUE(test, valid(s));
	expect_looked_at(s, 3, 4);
}

/* A range that changes while it is registered is refused, and nothing is written (R7). */
static void moved(struct kunit *test)
{
	struct subject *s = keeper(test);
	struct hmm_range *range = &s->range, was;
	unsigned long pfn = HMM_KUNIT_POISON, changes = 0;

	fault_all(s, fault_unlocked);
	was = *range;
	for (int i = 0; i < 5; i++) {
		switch (i) {
		case 0:
			range->start += PAGE_SIZE;
			break;
		case 1:
			range->end -= PAGE_SIZE;
			break;
		case 2:
			range->end += PAGE_SIZE;
			break;
		case 3:
			range->hmm_pfns = &pfn;
			break;
		case 4:
			range->hmm_pfns = NULL;
			break;
		}
		KUNIT_EXPECT_FALSE(test, valid(s));
		KUNIT_EXPECT_EQ(test, -EINVAL, fault_unlocked(range));
		mmap_read_lock(current->mm);
		KUNIT_EXPECT_EQ(test, -EINVAL, hmm_range_fault(range));
		mmap_read_unlock(current->mm);
		KUNIT_EXPECT_EQ(test, -EINVAL, snapshot_of(range));
		range->start = was.start;
		range->end = was.end;
		range->hmm_pfns = was.hmm_pfns;
		changes++;
	}
	KUNIT_EXPECT_EQ(test, 5, changes);
	KUNIT_EXPECT_EQ(test, HMM_KUNIT_POISON, pfn);
	KUNIT_EXPECT_TRUE(test, valid(s));
	KUNIT_EXPECT_EQ(test, 0, fault_unlocked(range));
	expect_looked_at(s, 0, 0);
}

/* A kept range is unregistered in release(), and does not keep its mirror (R8). */
static void unregistered_in_release(struct kunit *test)
{
	struct subject *s = keeper(test);

	fault_all(s, fault_unlocked);
	s->device->range = &s->range;
	hmm_mirror_put(&s->device->mirror);
	hmm_kunit_synchronize(s->device);
	hmm_kunit_expect_released(s->device, 1);
	KUNIT_EXPECT_PTR_EQ(test, s->range.mirror, NULL);
}

/* A range that is registered while an event is in progress waits for it. */
static void registered_beside_event(struct kunit *test)
{
	struct subject *s = keeper(test), *late;
	struct mmu_notifier_range event;
	int ret;

	hmm_kunit_needs_events(test);
	hmm_kunit_event_begin(test, &event, current->mm, s->range.start, 1);
	late = subject(test, s->device, s->range.start, NPAGES);
	KUNIT_EXPECT_FALSE(test, valid(late));
	if (IS_ENABLED(CONFIG_HMM_KUNIT_HAS_WAIT)) {
		mmap_read_lock(current->mm);
		ret = hmm_range_fault(&late->range);
		mmap_read_unlock(current->mm);
		KUNIT_EXPECT_EQ(test, -EBUSY, ret);
		KUNIT_EXPECT_EQ(test, HMM_KUNIT_POISON, late->pfns[0]);
	}
	hmm_kunit_event_end(&event);
	fault_all(late, fault_unlocked);
}

/* A VMA that ends within a granule. Calls end, and each page is walked. */
static void two_vmas(struct kunit *test)
{
	const struct fault *fault = test->param_value;
	const unsigned long npages = 2 * HMM_STALE_BITS;
	unsigned long addr = hmm_kunit_anon(test, npages), i;
	struct subject *s;

	hmm_kunit_needs_events(test);
	for (i = 0; i < npages; i++)
		hmm_kunit_write(test, addr + i * PAGE_SIZE, i);
	hmm_kunit_madvise(test, addr, 3, MADV_DONTFORK);
	s = subject(test, hmm_kunit_device_of(test, addr, npages), addr, npages);
	fault_all(s, fault->fault);
	hmm_kunit_event(test, current->mm, addr, npages);
	KUNIT_EXPECT_EQ(test, 0, fault->fault(&s->range));
	expect_looked_at(s, 0, npages);
	plant(s);
	KUNIT_EXPECT_EQ(test, 0, snapshot_of(&s->range));
	KUNIT_EXPECT_TRUE(test, valid(s));
	expect_looked_at(s, 0, npages);
}

/* An event that has ended need not be waited for before the mmap lock is taken. */
static void ended_event(struct kunit *test)
{
	struct subject *s = keeper(test);

	hmm_kunit_needs_events(test);
	fault_all(s, fault_locked);
	hmm_kunit_event(test, current->mm, s->range.start + 3 * PAGE_SIZE, 1);
	mmap_read_lock(current->mm);
	KUNIT_EXPECT_EQ(test, 0, hmm_range_fault(&s->range));
	mmap_read_unlock(current->mm);
	KUNIT_EXPECT_TRUE(test, valid(s));
	expect_looked_at(s, 3, 4);
}

/*
 * A range of which granules are larger than a page: events mark whole granules, those at
 * its ends only as far as it goes, and neighbours are not walked.
 */
static void granules(struct kunit *test)
{
	const unsigned long npages = 4 * HMM_STALE_BITS + 2;
	unsigned long addr = hmm_kunit_anon(test, npages + 2), i;
	unsigned long granule = 8, first, last;
	struct subject *s;

	hmm_kunit_needs_events(test);
	for (i = 0; i < npages + 2; i++)
		hmm_kunit_write(test, addr + i * PAGE_SIZE, i);
	/* It begins and ends within a granule. */
	s = subject(test, hmm_kunit_device_of(test, addr, npages + 2), addr + PAGE_SIZE, npages);
	fault_all(s, fault_unlocked);
	for (i = 0; i < npages; i += 1 + i / 3) {
		unsigned long page = i + 1;

		hmm_kunit_event(test, current->mm, addr + page * PAGE_SIZE, 1);
		KUNIT_EXPECT_EQ(test, 0, fault_unlocked(&s->range));
		first = max(rounddown(page, granule), 1) - 1;
		last = min(rounddown(page, granule) + granule - 1, npages);
		expect_looked_at(s, first, last);
		plant(s);
	}
	/* And the last page. */
	hmm_kunit_event(test, current->mm, addr + npages * PAGE_SIZE, 1);
	KUNIT_EXPECT_EQ(test, 0, fault_unlocked(&s->range));
	expect_looked_at(s, rounddown(npages, granule) - 1, npages);
}

/* An error leaves what was there, and what has not been looked at stale. */
static void failed(struct kunit *test)
{
	const struct fault *fault = test->param_value;
	struct subject *s = keeper(test);
	unsigned long addr = s->range.start + 20 * PAGE_SIZE;

	hmm_kunit_needs_events(test);
	fault_all(s, fault->fault);
	hmm_kunit_event(test, current->mm, s->range.start + 5 * PAGE_SIZE, 1);
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, -EFAULT, fault->fault(&s->range));
	KUNIT_EXPECT_FALSE(test, valid(s));
	KUNIT_ASSERT_EQ(test, addr, kunit_vm_mmap(test, NULL, addr, PAGE_SIZE,
						  PROT_READ | PROT_WRITE,
						  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0));
	KUNIT_EXPECT_EQ(test, 0, fault->fault(&s->range));
	KUNIT_EXPECT_TRUE(test, valid(s));
	for (unsigned long i = 0; i < NPAGES; i++)
		KUNIT_EXPECT_TRUE_MSG(test, i == 5 || i == 20 ? is_true(s, i) : is_sentinel(s, i),
				      "page %lu: entry %lx", i, s->pfns[i]);
}

/* What one range has looked at, another has not. */
static void two_ranges(struct kunit *test)
{
	struct subject *a = keeper(test), *b;

	hmm_kunit_needs_events(test);
	b = subject(test, a->device, a->range.start, NPAGES);
	fault_all(a, fault_unlocked);
	fault_all(b, fault_unlocked);
	hmm_kunit_event(test, current->mm, a->range.start + 9 * PAGE_SIZE, 1);
	KUNIT_EXPECT_EQ(test, 0, fault_unlocked(&a->range));
	KUNIT_EXPECT_TRUE(test, valid(a));
	KUNIT_EXPECT_FALSE(test, valid(b));
	KUNIT_EXPECT_EQ(test, 0, fault_unlocked(&b->range));
	KUNIT_EXPECT_TRUE(test, valid(b));
	expect_looked_at(a, 9, 10);
	expect_looked_at(b, 9, 10);
	/* Nobody writes to a range that has been unregistered. */
	hmm_range_unregister(&b->range);
	memset(&b->range, 0x5a, sizeof(b->range));
	hmm_kunit_event(test, current->mm, a->range.start, 1);
	KUNIT_EXPECT_PTR_EQ(test, memchr_inv(&b->range, 0x5a, sizeof(b->range)), NULL);
	memset(&b->range, 0, sizeof(b->range));
}

#ifdef MODULE

static void next_event(struct kunit *test)
{
	kunit_skip(test, "a module cannot call get_locked_pte()");
}

#else

struct next_event {
	struct subject *subject;
	struct mm_struct *mm;
	int (*fault)(struct hmm_range *range);
	int ret;
	struct completion done;
};

static int next_event_fault(void *data)
{
	struct next_event *next = data;

	kthread_use_mm(next->mm);
	next->ret = next->fault(&next->subject->range);
	kthread_unuse_mm(next->mm);
	complete(&next->done);
	return 0;
}

/*
 * A fault waits for an event to end, and when it goes on the next one has been told of,
 * but has not changed its entry yet. That page is to be looked at when it has. Returns
 * whether the fault waited for both.
 */
static bool next_event_try(struct kunit *test, struct subject *s, struct next_event *next)
{
	unsigned long addr = s->range.start + 3 * PAGE_SIZE;
	struct mmu_notifier_range first, second;
	spinlock_t *ptl;	/* of the page table */
	pte_t *ptep;
	bool begun;

	registered_again(s);
	hmm_kunit_write(test, addr, 3);
	fault_all(s, next->fault);
	init_completion(&next->done);
	KUNIT_ASSERT_TRUE(test, hmm_kunit_event_try_begin(test, &first, current->mm,
							  addr + PAGE_SIZE, 1));
	KUNIT_ASSERT_FALSE(test, IS_ERR(kthread_run(next_event_fault, next, "fault")));
	msleep(50);
	preempt_disable();
	hmm_kunit_event_end(&first);
	begun = hmm_kunit_event_try_begin(test, &second, current->mm, addr, 1);
	preempt_enable();
	if (begun) {
		msleep(50);
		ptep = get_locked_pte(current->mm, addr, &ptl);
		if (ptep) {
			set_pte_at(current->mm, addr, ptep, pte_wrprotect(ptep_get(ptep)));
			pte_unmap_unlock(ptep, ptl);
		}
		hmm_kunit_event_end(&second);
	}
	wait_for_completion(&next->done);
	KUNIT_EXPECT_EQ(test, 0, next->ret);
	return begun && valid(s);
}

static void next_event(struct kunit *test)
{
	const struct fault *fault = test->param_value;
	struct subject *s = keeper(test);
	struct next_event next = {
		.subject = s,
		.mm = current->mm,
		.fault = fault->fault,
	};
	unsigned int tries;

	s->range.default_flags = REQ_READ;
	for (tries = 0; tries < 50 && !next_event_try(test, s, &next); tries++)
		;
	KUNIT_ASSERT_LT(test, tries, 50);
	expect_looked_at(s, 3, 5);
}

#endif

/*
 * Threads that fault, and threads that take pages away, and make events within events.
 * Whatever is valid says what is mapped.
 */
struct storm {
	struct kunit *test;
	struct mm_struct *mm;
	struct hmm_kunit_device *device;
	unsigned long addr;
	bool stop;
};

struct actor {
	struct storm *storm;
	struct subject *subject;
	int (*fault)(struct hmm_range *range);
	unsigned int nr_valid;
	unsigned int nr_stale;
	unsigned int nr_wrong;
	int ret;
	struct completion done;
};

static int storm_fault(void *data)
{
	struct actor *actor = data;
	struct subject *s = actor->subject;

	kthread_use_mm(actor->storm->mm);
	while (!READ_ONCE(actor->storm->stop) && !actor->ret && !actor->nr_wrong) {
		actor->ret = actor->fault(&s->range);
		if (actor->ret)
			break;
		mutex_lock(&s->device->lock);
		if (!hmm_range_valid(&s->range)) {
			actor->nr_stale++;
		} else {
			for (unsigned long i = 0; i < NPAGES; i++)
				actor->nr_wrong += s->pfns[i] && !is_true(s, i);
			actor->nr_valid++;
		}
		mutex_unlock(&s->device->lock);
		hmm_kunit_let_run();
	}
	kthread_unuse_mm(actor->storm->mm);
	complete(&actor->done);
	return 0;
}

static int storm_take_away(struct storm *storm)
{
	u32 page = get_random_u32_below(NPAGES), npages = 1 + get_random_u32_below(4);
	unsigned long addr = storm->addr + page * PAGE_SIZE;
	struct mmu_notifier_range event;
	bool within = get_random_u32_below(2);
	int ret;

	npages = min(npages, NPAGES - page);
	if (within)
		hmm_kunit_event_begin(storm->test, &event, storm->mm, storm->addr +
				      get_random_u32_below(NPAGES) * PAGE_SIZE, 1);
	ret = hmm_kunit_try_madvise(storm->mm, addr, npages, MADV_DONTNEED);
	if (within)
		hmm_kunit_event_end(&event);
	return ret;
}

static int storm_invalidate(void *data)
{
	struct actor *actor = data;

	kthread_use_mm(actor->storm->mm);
	while (!READ_ONCE(actor->storm->stop) && !actor->ret) {
		actor->ret = storm_take_away(actor->storm);
		actor->nr_valid++;
		hmm_kunit_let_run();
	}
	kthread_unuse_mm(actor->storm->mm);
	complete(&actor->done);
	return 0;
}

static void storm_stop(void *data)
{
	((struct storm *)data)->stop = true;
}

static void storm(struct kunit *test)
{
	static const struct {
		const char *name;
		int (*run)(void *data);
		int (*fault)(struct hmm_range *range);
	} parts[] = {
		{ "faults", storm_fault, fault_unlocked },
		{ "faults under the mmap lock", storm_fault, fault_locked },
		{ "snapshots", storm_fault, snapshot_of },
		{ "invalidations", storm_invalidate },
	};
	struct storm *storm = kunit_kzalloc(test, sizeof(*storm), GFP_KERNEL);
	struct subject *s = keeper(test);
	struct actor *actors = kunit_kcalloc(test, ARRAY_SIZE(parts), sizeof(*actors),
					     GFP_KERNEL);
	unsigned long end = jiffies + hmm_kunit_rounds * HZ / 200;
	unsigned int i, nr = 0;

	hmm_kunit_needs_events(test);
	KUNIT_ASSERT_NOT_NULL(test, storm);
	KUNIT_ASSERT_NOT_NULL(test, actors);
	storm->test = test;
	storm->mm = current->mm;
	storm->device = s->device;
	storm->addr = s->range.start;
	s->device->slow = true;
	for (i = 0; i < ARRAY_SIZE(parts); i++) {
		struct actor *actor = &actors[i];

		actor->storm = storm;
		actor->fault = parts[i].fault;
		init_completion(&actor->done);
		if (actor->fault)
			actor->subject = subject(test, s->device, storm->addr, NPAGES);
	}
	for (i = 0; i < ARRAY_SIZE(parts); i++)
		if (IS_ERR(kthread_run(parts[i].run, &actors[i], "storm")))
			complete(&actors[i].done);
	while (time_before(jiffies, end) && !storm_take_away(storm)) {
		nr++;
		hmm_kunit_let_run();
		reset_hung_task_detector();
	}
	storm_stop(storm);
	for (i = 0; i < ARRAY_SIZE(parts); i++)
		wait_for_completion(&actors[i].done);

	for (i = 0; i < ARRAY_SIZE(parts); i++) {
		KUNIT_EXPECT_EQ_MSG(test, 0, actors[i].ret, "%s", parts[i].name);
		KUNIT_EXPECT_EQ_MSG(test, 0, actors[i].nr_wrong, "%s", parts[i].name);
		KUNIT_EXPECT_GT_MSG(test, actors[i].nr_valid, 0, "%s", parts[i].name);
		kunit_info(test, "%s: %u valid, %u stale", parts[i].name, actors[i].nr_valid,
			   actors[i].nr_stale);
	}
	kunit_info(test, "%u invalidations", nr);
}

static struct kunit_case hmm_invalidate_cases[] = {
	KUNIT_CASE_PARAM(in_call, in_call_gen_params),
	KUNIT_CASE(cow),
	KUNIT_CASE(in_turns),
	KUNIT_CASE_PARAM(kept, fault_gen_params),
	KUNIT_CASE_PARAM(dropped, drop_gen_params),
	KUNIT_CASE_PARAM(stale, stale_gen_params),
	KUNIT_CASE_PARAM(failed, fault_gen_params),
	KUNIT_CASE(failed_and_waited),
	KUNIT_CASE(overlapping),
	KUNIT_CASE_PARAM(event_elsewhere, fault_gen_params),
	KUNIT_CASE(own_events),
	KUNIT_CASE(refused_event),
	KUNIT_CASE(moved),
	KUNIT_CASE(unregistered_in_release),
	KUNIT_CASE(registered_beside_event),
	KUNIT_CASE_PARAM(two_vmas, fault_gen_params),
	KUNIT_CASE(ended_event),
	KUNIT_CASE(granules),
	KUNIT_CASE(two_ranges),
	KUNIT_CASE_PARAM(next_event, fault_gen_params),
	KUNIT_CASE_SLOW(storm),
	{ }
};

static struct kunit_suite hmm_invalidate_suite = {
	.name = "hmm_invalidate",
	.test_cases = hmm_invalidate_cases,
};

kunit_test_suite(hmm_invalidate_suite);
