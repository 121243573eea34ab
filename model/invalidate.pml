/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How faults on a mirror (mm/hmm.c) and invalidations (mm/mmu_notifier.c) go
 * together: whether an array that the driver's check finds valid can be stale.
 * scripts/model verifies this file, and lists the options that go together.
 *
 * Modelled
 *
 *	One mm; one mirror, the only notifier in the page of interest, with a record
 *	for each of two faulters; invalidators, whose events nest and overlap. Each
 *	step that locks make indivisible is one atomic step, as what is written in it
 *	is read by others under the same lock, or is one word. The driver's lock is a
 *	variable where something may happen while it is held.
 *
 *	An entry of the page tables that changes gets a value that it has never had.
 *	So "the array has what the page tables have" is one bit for each faulter and
 *	page, which a step of a walk sets and a change clears: has[].
 *
 *	Events that a walk causes itself are those of an invalidator that happen
 *	between two of its steps.
 *
 * Checked
 *
 *	What the driver uses under its lock is true, until it gives the lock back.
 *	All processes come to their end. With the option NP of pan: there is no
 *	endless run without a walk that is broken off.
 *
 * Bounds, and why they suffice
 *
 *	Two pages: no decision depends on has[], and no page on another one but by
 *	whether a record is empty and how far a walk is. An array is stale for one
 *	page; the other stands for all the rest, before or behind it.
 *	For the same reason all pages of an event may change in one step, and once.
 *	Two faulters: they meet in log_seq and in the driver's lock only.
 *	CALLS calls for each, as a second one tells what the first left behind.
 *	EVENTS events for each of two invalidators: two that overlap share a sequence,
 *	a third may overlap one of them, or follow with a sequence of its own.
 *	Sequences do not wrap. Walks are broken off any number of times.
 *
 * Options
 *
 *	REUSE		record and array live on from call to call
 *	PLAIN		callbacks use mmu_interval_set_seq()
 *	CATCH_UP	a take brings log_seq up to date, for all records
 *	PARTS		a take may leave pages in the record, for the next take
 *	OTHERS		events also of another notifier, and of none
 *	FILTER		the driver migrates, and ignores the events of that
 *
 *	Those that begin with WRONG_ are designs that must be found wrong. Each
 *	changes the text where it is named.
 */

#ifndef CALLS
#ifdef REUSE
#define CALLS 2
#else
#define CALLS 1
#endif
#endif
#ifndef EVENTS
#define EVENTS 3
#endif
#define IT 1
#define REST 2
#define ALL (IT | REST)

#ifdef WRONG_FILTER
#define REUSE
#define FILTER
#endif
#ifdef WRONG_MUTEX
#define REUSE
#define FILTER
#endif
#ifdef WRONG_PLAIN
#define PLAIN
#endif
#ifdef WRONG_CATCH_UP
#define PLAIN
#define CATCH_UP
#endif

/* The mm: odd while an event goes on that a notifier has to know of. */
byte subs_seq = 2;
byte active_events;

/* The mirror: inv == log_seq unless a callback has used mmu_interval_set_seq(). */
byte inv = 1;
byte log_seq = 1;
byte pending[2] = ALL;

bool has[2];
bool user_lock;
byte events;

/* Calls go on, or a migration does, not both. */
unsigned callers : 2;
bool migrating;

#ifdef WRONG_SHARED
#define RECORD 0
#else
#define RECORD me
#endif

/* Whether seq is no longer that of the mirror. */
#ifdef WRONG_BOOLEAN
#define RETRY (active_events != 0)
#else
#define RETRY (inv != seq)
#endif

/*
 * When a round is over. That pages are pending is no reason for another one in the
 * right design, with whole takes: RETRY tells it. It is what would save TAKE_FIRST.
 */
#if defined(WRONG_TAKE_FIRST) || defined(WRONG_BOOLEAN)
#define ROUND_IS_VOID RETRY
#else
#define ROUND_IS_VOID (RETRY || pending[RECORD])
#endif

inline record_all(pages)
{
	pending[0] = pending[0] | pages;
	pending[1] = pending[1] | pages
}

inline inv_start(seq)
{
	active_events++;
	subs_seq = subs_seq | 1;
	seq = subs_seq
}

inline inv_end()
{
	active_events--;
	if
	:: active_events == 0 && (subs_seq & 1) -> subs_seq++
	:: else
	fi
}

inline set_seq(seq, pages)
{
#ifndef PLAIN
	if
	:: inv != log_seq -> record_all(ALL)
	:: else
	fi;
	record_all(pages);
	log_seq = seq;
#endif
	inv = seq
}

inline change(pages)
{
	if
	:: pages & IT -> has[0] = false; has[1] = false
	:: else
	fi
}

/* Callbacks without set_seq() are missed here, whoever they are of. */
inline catch_up()
{
#if defined(WRONG_PLAIN)
	skip
#elif defined(WRONG_CATCH_UP)
	if
	:: inv != log_seq -> pending[me] = ALL; log_seq = inv
	:: else
	fi
#elif defined(CATCH_UP)
	if
	:: inv != log_seq -> record_all(ALL); log_seq = inv
	:: else
	fi
#else
	if
	:: inv != log_seq -> pending[RECORD] = ALL
	:: else
	fi
#endif
}

inline take()
{
	catch_up();
#ifdef PARTS
	pending[me] = pending[me] | todo;
	if
	:: todo = pending[me]
	:: pending[me] == ALL -> todo = IT
	:: pending[me] == ALL -> todo = REST
	fi;
	pending[me] = pending[me] & ~todo
#else
	todo = todo | pending[RECORD];
	pending[RECORD] = 0
#endif
}

active [2] proctype faulter()
{
	byte me = _pid;
	byte seq;
	byte calls;
	unsigned todo : 2;

#ifdef WRONG_SHARED
	todo = ALL;
#endif
call:
	atomic {
#ifdef FILTER
		!migrating;
		callers++;
#endif
#ifndef REUSE
#ifdef WRONG_SHARED
		todo = ALL;
#else
		todo = 0;
		pending[me] = ALL;
#endif
		has[me] = false;
#endif
		skip
	}

begin:
#ifdef WRONG_TAKE_FIRST
	atomic {
		take()
	}
#endif
#ifdef WRONG_BOOLEAN
	active_events == 0;
#else
	seq = inv;
	/* subs_seq does not come back to seq: that it was another one is no matter. */
	subs_seq != seq;
#endif

again:
#ifndef WRONG_TAKE_FIRST
	atomic {
#if !defined(WRONG_NO_SEQ) && !defined(WRONG_BOOLEAN)
		if
		:: inv != seq -> goto begin
		:: else
		fi;
#endif
		take()
	}
#endif

	do
	:: atomic { todo & IT -> has[me] = true; todo = todo & ~IT }
	:: atomic { todo & REST -> todo = todo & ~REST }
	:: todo -> goto broken_off
	:: !todo && ROUND_IS_VOID ->
#ifdef PARTS
		goto again
#else
		goto begin
#endif
	:: !todo && !ROUND_IS_VOID -> break
	od;
#ifdef WRONG_MUTEX
	callers--;
#endif

	atomic {
		!user_lock;
		if
		:: RETRY ->
#if defined(FILTER) && !defined(WRONG_MUTEX)
			callers--;
#endif
			goto call
		:: else -> user_lock = true
		fi
	}
	atomic {
		assert(has[me]);
		user_lock = false;
#if defined(FILTER) && !defined(WRONG_MUTEX)
		callers--;
#endif
		seq = 0;
		calls++;
		if
		:: calls < CALLS -> goto call
		:: else -> goto done
		fi
	}

broken_off:
progress:
	if
	:: goto begin
#ifdef FILTER
	/* The call may fail for it, and there is another one some time. */
	:: atomic { callers--; goto call }
#endif
	fi;

done:
	skip
}

active [2] proctype invalidator()
{
	byte seq;
	unsigned pages : 2;

	do
	:: atomic {
		events < EVENTS && (_pid == 2 || events) ->
		events++;
		if
		:: pages = IT
		:: pages = REST
		:: pages = ALL
#ifdef OTHERS
		:: pages = 0
#endif
		fi;
#ifdef OTHERS
		if
		:: inv_start(seq)
		:: pages == 0 -> active_events++
		fi
#else
		inv_start(seq)
#endif
	   }
	   if
	   :: atomic { pages && !user_lock -> set_seq(seq, pages); seq = 0 }
	      atomic { change(pages); pages = 0 }
	   :: pages == 0
	   fi;
	   atomic { inv_end(); seq = 0 }
	:: events == EVENTS -> break
	od
}

#ifdef FILTER
/*
 * Its entries change in the event, and once more when the migration is final,
 * without an event.
 */
active proctype migrator()
{
	byte seq;
	unsigned pages : 2;

	atomic {
		callers == 0 -> migrating = true;
		if
		:: pages = IT
		:: pages = REST
		:: pages = ALL
		fi
	}
	atomic { inv_start(seq); seq = 0 }
	atomic { change(pages) }
	atomic { inv_end() }
	atomic { change(pages) }
	atomic {
#ifndef WRONG_FILTER
		record_all(pages);
#endif
		migrating = false
	}
}
#endif
