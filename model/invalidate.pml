/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Faults on a range of a mirror (mm/hmm.c) and invalidations (mm/mmu_notifier.c):
 * can a driver find a range valid and use a stale entry of it? scripts/model verifies
 * this file, and lists the options that go together.
 *
 * Modelled
 *
 *	One mm, one mirror with its driver's lock; owners of ranges; events. A step is a
 *	section of mirror->lock, a change of the driver's lock with a test under it, or an
 *	access to one word. Memory is sequentially consistent; sequence and generation do
 *	not wrap.
 *
 *	An owner faults, or takes a snapshot, until it finds the range valid under the
 *	driver's lock. Then it uses the array under that lock. After that it uses the array
 *	again, starts the next call, or ends.
 *
 *	An event takes the driver's lock, marks its pages stale, sets the sequence of the
 *	mirror, calls invalidate() and unlocks; then its pages change, unless invalidate()
 *	has refused. An event of 0 pages is marked in other ranges, or nowhere: it is one of
 *	another notifier, one that is refused before the lock, or exclusive access for the
 *	owner of the mirror. finish() touches no range, and is left out.
 *
 *	A page that changes gets a state that it has never had. So has[] is enough to tell
 *	whether an entry is true: a step of a walk sets it, a change clears it. But no event
 *	tells that a page has come: a fault needs FAULTED where a snapshot stores SEEN. A
 *	call with other flags or another owner is like the change from one to the other.
 *
 * Checked
 *
 *	Entries that are used, of an array or a copy, are true until the driver's lock is
 *	released; those of an array are enough for the last call. No owner waits for ever.
 *	With the option NP of pan: no owner loops for ever, unless its calls fail or its
 *	walks are broken off for ever.
 *
 * Bounds, and why they suffice
 *
 *	Two pages: IT, whose entry is checked, and REST, which stands for all others: they
 *	decide only whether anything is stale, and how far a walk is. IT may be any page, as
 *	takes and walks have any order. An event changes its pages in one step, which is the
 *	last of its changes.
 *	One owner of each range: a thread leaves nothing behind but the range. It may start
 *	late, so a range is registered at any time: all of it is stale until then.
 *	One range: ranges share only the sequence and the driver's lock, so events of 0
 *	pages stand for other ranges. RANGES=2 does not rely on that.
 *	EVENTS: two that overlap share a sequence; a third overlaps one of them or both, or
 *	has a sequence of its own. scripts/model says where there are two or four.
 *	Calls, uses, and walks that are broken off are not bounded.
 *
 * Options of the right design
 *
 *	FAIL		a wait or a walk may end the call; the driver may look at the range
 *	SNAPSHOT	a call may be a snapshot
 *	OTHER		a thread that does not own the range looks whether it is valid, or
 *			keeps a copy of the array with the generation of the range
 *	UNREGISTERED	events do not mark the range: it is valid while the sequence is the
 *			same
 *
 * Wrong designs
 *
 *	WRONG_TAKE_FIRST	take, then wait; the call ends if the sequence is the same
 *	WRONG_SHARED		two ranges have one set of stale pages
 *	WRONG_NO_SEQ		take whatever the sequence is
 *	WRONG_REGISTER		take by the sequence at registration, without a wait
 *	WRONG_DEADLINE		take by a sequence whose wait has failed
 *	WRONG_PUT_BACK		pages of a walk that is broken off do not get stale again
 *	WRONG_REST		UNREGISTERED, and a new sequence makes nothing stale
 *	WRONG_SEQ		valid while the sequence is that of the last wait
 *	WRONG_BOOLEAN		valid while no event goes on
 *	WRONG_WAIT		a wait makes the range valid
 *	WRONG_WALKING		valid if nothing is stale, though a walk goes on
 *	WRONG_SNAPSHOT		a fault after a snapshot walks stale pages only
 *	WRONG_LOOK		a snapshot walks stale pages only
 *	WRONG_COPY		a copy without a generation
 *	WRONG_GENERATION	the generation is read after the owner has let go
 *	WRONG_ORDER		the generation is compared before the range is found valid
 *	WRONG_IGNORE		some events are marked without the driver's lock
 *	WRONG_FILTER		some events are not marked
 *	WRONG_MIGRATE		some events set the sequence, but are not marked
 */

#ifdef WRONG_SHARED
#define RANGES 2
#endif
#if defined(WRONG_SEQ) || defined(WRONG_DEADLINE)
#define FAIL
#endif
#if defined(WRONG_SNAPSHOT) || defined(WRONG_LOOK)
#define SNAPSHOT
#endif
#if defined(WRONG_WALKING) || defined(WRONG_COPY) || defined(WRONG_GENERATION) || \
	defined(WRONG_ORDER)
#define OTHER
#endif
#ifdef WRONG_REST
#define UNREGISTERED
#endif

#ifndef RANGES
#define RANGES 1
#endif
#ifndef EVENTS
#define EVENTS 3
#endif
#define IT 1
#define REST 2
#define ALL (IT | REST)

/* The mm: mm_seq is odd while an event goes on that a notifier has to know of. */
byte mm_seq = 2;
byte active_events;
byte events;

/* The mirror. */
byte mirror_seq = 1;
bool driver_lock;

/*
 * Each range: its stale pages; whether it is valid, which an owner sets, and all that
 * makes pages stale clears; whether the last call was a snapshot.
 */
byte stale[RANGES] = ALL;
bool valid[RANGES];
bool snapshot[RANGES];

/* The entry of IT in each array, and in a copy of the first one: 0 if it is not true. */
#define SEEN 1
#define FAULTED 2
byte has[RANGES];
byte copy;

/* Whether the generation of the first range is the one that was read. */
bool same;

#ifdef WRONG_SHARED
#define MINE 0
#else
#define MINE me
#endif

#define SAME_SEQ (mirror_seq == seq)

#if defined(UNREGISTERED) || defined(WRONG_SEQ)
#define VALID SAME_SEQ
#elif defined(WRONG_BOOLEAN)
#define VALID (active_events == 0)
#else
#define VALID valid[MINE]
#endif

/* Whether a call has nothing left to do, and whether it may take stale pages. */
#if defined(WRONG_TAKE_FIRST)
#define DONE SAME_SEQ
#define MAY_TAKE false
#elif defined(UNREGISTERED)
#define DONE (SAME_SEQ && stale[me] == 0)
#define MAY_TAKE SAME_SEQ
#elif defined(WRONG_NO_SEQ)
#define DONE (stale[MINE] == 0)
#define MAY_TAKE true
#else
#define DONE (stale[MINE] == 0)
#define MAY_TAKE SAME_SEQ
#endif

inline mark_range(r)
{
	stale[r] = stale[r] | pages;
	valid[r] = valid[r] && !pages
}

inline mark()
{
#ifndef UNREGISTERED
	mark_range(0);
	mark_range(RANGES - 1);
#endif
	mirror_seq = seq
}

inline change()
{
	has[0] = has[0] * !(pages & IT);
	has[RANGES - 1] = has[RANGES - 1] * !(pages & IT);
	copy = copy * !(pages & IT)
}

inline make_all_stale()
{
	stale[MINE] = ALL;
	valid[MINE] = false
}

inline take()
{
	if
	:: todo = stale[MINE]
#ifndef WRONG_TAKE_FIRST
	:: stale[MINE] == ALL -> todo = IT
	:: stale[MINE] == ALL -> todo = REST
#endif
	fi;
	stale[MINE] = stale[MINE] & ~todo;
	same = same && me != 0
}

active [RANGES] proctype owner()
{
	byte me = _pid;
	byte seq;	/* 0, or one that was waited for */
	unsigned todo : 2;

#ifdef WRONG_REGISTER
	seq = mirror_seq;
#endif
call:
	if
	:: d_step {
#if defined(UNREGISTERED)
		make_all_stale();
#elif !defined(WRONG_SNAPSHOT)
		stale[MINE] = (snapshot[me] -> ALL : stale[MINE]);
		valid[MINE] = valid[MINE] && !snapshot[me];
#endif
		snapshot[me] = false
	   }
#ifdef SNAPSHOT
	:: d_step {
#ifndef WRONG_LOOK
		make_all_stale();
#endif
		has[me] = 0;	/* older entries are no answer */
		snapshot[me] = true
	   }
#endif
	fi;
#ifdef WRONG_TAKE_FIRST
	goto begin;
#endif

next:
	if
	:: d_step { DONE -> valid[MINE] = true }
	   goto use
	:: atomic { !DONE && MAY_TAKE -> take() }
	:: !DONE && !MAY_TAKE -> goto begin
	fi;
walk:
	do
	:: d_step { todo & IT -> has[me] = (snapshot[me] -> SEEN : FAULTED); todo = todo & ~IT }
	:: d_step { todo & REST -> todo = todo & ~REST }
	:: todo == 0 -> goto next
	:: d_step {	/* broken off */
#ifndef WRONG_PUT_BACK
		stale[MINE] = stale[MINE] | todo;
#endif
		todo = 0
	   }
	   break
	od;
progress_broken_off:
	if
	:: skip
#ifdef FAIL
	:: goto fail
#endif
	fi;

begin:
#ifdef WRONG_TAKE_FIRST
	atomic { take() };
#endif
	atomic {
#if defined(UNREGISTERED) && !defined(WRONG_REST)
		stale[MINE] = (SAME_SEQ -> stale[me] : ALL);
#endif
		seq = mirror_seq
	};
	/* mm_seq only grows: once it is another one it stays so. */
	if
	:: mm_seq != seq
#if defined(WRONG_DEADLINE)
	:: goto fail
#elif defined(FAIL)
	:: seq = 0; goto fail
#endif
	fi;
#ifdef WRONG_TAKE_FIRST
	goto walk;
#else
	goto next;
#endif

#ifdef FAIL
fail:
progress_fail:
#ifdef UNREGISTERED
	seq = 0;
#endif
	if
	:: goto call
	:: skip
	fi;
#endif
use:
	if
	:: d_step { !driver_lock && VALID -> driver_lock = true }
	:: atomic { !driver_lock && !VALID -> goto call }
#ifdef WRONG_WAIT
	:: seq = mirror_seq; mm_seq != seq; valid[me] = SAME_SEQ; goto use
#endif
	fi;
	d_step {
		assert(has[me] >= (snapshot[me] -> SEEN : FAULTED));
		driver_lock = false
	}
progress_used:
	if
	:: goto call
	:: goto use
	:: skip
	fi
}

active [EVENTS] proctype event()
{
	byte seq;
	unsigned pages : 2;

	atomic {
		events == _pid - RANGES ->	/* they are all alike */
		events++;
		if
		:: pages = IT
		:: pages = REST
		:: pages = ALL
		:: pages = 0
		fi;
		active_events++;
		if
		:: mm_seq = mm_seq | 1; seq = mm_seq
		:: pages == 0
		fi
	}
	if
	:: d_step { seq && !driver_lock -> driver_lock = true; mark() }
	   driver_lock = false;
	   if
	   :: d_step { pages -> change() }
	   :: true
	   fi
	:: pages == 0
#if defined(WRONG_IGNORE)
	:: d_step { pages -> mark() }; d_step { change() }
#elif defined(WRONG_FILTER)
	:: pages && !driver_lock; d_step { change() }
#elif defined(WRONG_MIGRATE)
	:: d_step { pages && !driver_lock -> mirror_seq = seq }; d_step { change() }
#endif
	fi;
	d_step {
		active_events--;
		mm_seq = mm_seq + (active_events == 0 && (mm_seq & 1));
		pages = 0;
		seq = 0
	}
}

#ifdef OTHER
#ifdef WRONG_WALKING
#define LOOKS_VALID (stale[0] == 0)
#else
#define LOOKS_VALID valid[0]
#endif
/* The copy is used if both hold; they are tested in this order. */
#if defined(WRONG_ORDER)
#define FIRST same
#define SECOND valid[0]
#elif defined(WRONG_COPY)
#define FIRST valid[0]
#define SECOND true
#else
#define FIRST valid[0]
#define SECOND same
#endif

active proctype other()
{
end:
	if
	:: d_step { !driver_lock && LOOKS_VALID -> assert(has[0]) }
	/* The owner reads the generation and lets go; then a thread copies. */
#ifdef WRONG_GENERATION
	:: valid[0];
	   same = true;
#else
	:: d_step { valid[0] -> same = true }
#endif
	   copy = has[0];
end_copy:
	   d_step { !driver_lock && FIRST -> driver_lock = true }
	   d_step { assert(copy || !SECOND); driver_lock = false }
	fi
}
#endif
