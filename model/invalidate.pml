/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How faults on a mirror (mm/hmm.c) and invalidations (mm/mmu_notifier.c) go
 * together: whether an array that the driver's check finds valid can be stale.
 * scripts/model verifies this file, and lists the options that go together.
 *
 * Modelled
 *
 *	One mm; one mirror with a record for each of two faulters; two invalidators,
 *	whose events nest and overlap. What a lock makes indivisible is one step, as
 *	those who look at it have that lock too, or look at one word of it. The
 *	driver's lock is a variable, as entries may change while its holder uses the
 *	array.
 *
 *	An entry of the page tables that changes gets a value that it has never had.
 *	So whether the array says of a page what the page tables do is one bit: has[],
 *	which a step of a walk sets and a change clears.
 *
 *	The rest of a walk that is broken off stays in todo, and is in the next take.
 *	It makes no difference that it goes through the record in between.
 *
 *	Events that a walk causes itself are those of an invalidator between two of
 *	its steps. Memory is sequentially consistent.
 *
 * Checked
 *
 *	What the driver uses under its lock is true, until it gives the lock back.
 *	All processes come to their end: no faulter waits for ever.
 *	With the option NP of pan: no faulter goes round for ever, unless its walks
 *	are broken off for ever.
 *
 * Bounds, and why they suffice
 *
 *	Two pages: IT, the one for which an array gets stale, and REST. has[] decides
 *	nothing; what decides is whether a record is empty, and how far a walk is, for
 *	which one other page can stand for all. IT may be any page, as walks go in any
 *	order, and has[] is that of IT. For the same reason an event changes its pages
 *	in one step, and once: the last of the changes.
 *	Two faulters: they meet in log_seq and the driver's lock, and nowhere else.
 *	CALLS for each, not counting those whose result was not valid: two with REUSE,
 *	though one is enough with WAIT, as then calls that do not count leave something.
 *	Without, a call begins with nothing of those before: one may begin at any time.
 *	EVENTS in all: two that overlap share a sequence; a third overlaps one of them
 *	only, or both, or comes before or after with one of its own. scripts/model says
 *	where there are two.
 *	Sequences do not wrap. Walks are broken off any number of times.
 *
 * Options of the right design
 *
 *	REUSE		record and array live on from call to call
 *	PLAIN		callbacks use mmu_interval_set_seq()
 *	CATCH_UP	takes bring log_seq up to date, and then all records
 *	PARTS		takes may leave pages in the record; the next one comes at once
 *	OTHERS		also events that only another notifier has to know of, or none
 *	WAIT		with REUSE: calls may fail, and the driver may only wait, without
 *			a call, and use what is there if that is valid
 *	SNAPSHOT	with WAIT: it may also look at all pages, without a fault
 *
 * Wrong designs
 *
 *	WRONG_TAKE_FIRST	take, then read_begin; inv == seq ends the call
 *	WRONG_SHARED		one record for both faulters
 *	WRONG_NO_SEQ		take whatever the sequence is
 *	WRONG_PLAIN		PLAIN, and log_seq is not looked at
 *	WRONG_FILTER		REUSE, and callbacks that ignore events
 *	WRONG_BOOLEAN		valid if no event goes on now
 *	WRONG_CATCH_UP		PLAIN and CATCH_UP of the own record only
 *	WRONG_WAIT		PLAIN and WAIT, and log_seq is not looked at when it is used
 *	WRONG_SNAPSHOT		SNAPSHOT, and nothing is stale after it
 *	WRONG_MIXED		some callbacks are as with PLAIN, others not
 */

#ifdef WRONG_FILTER
#define REUSE
#endif
#ifdef WRONG_WAIT
#define PLAIN
#define CATCH_UP
#define WAIT
#define REUSE
#endif
#ifdef WRONG_SNAPSHOT
#define SNAPSHOT
#define WAIT
#define REUSE
#endif
#ifdef WRONG_PLAIN
#define PLAIN
#endif
#ifdef WRONG_CATCH_UP
#define PLAIN
#define CATCH_UP
#endif

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

/* What has a choice in it cannot be a d_step. */
#ifdef PARTS
#define STEP atomic
#else
#define STEP d_step
#endif

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
 * Whether there is another round. In the right design RETRY alone would do, if takes are
 * whole. What is pending would save WRONG_TAKE_FIRST, though not with PLAIN.
 */
#if defined(WRONG_TAKE_FIRST) || defined(WRONG_BOOLEAN)
#define ROUND_IS_VOID RETRY
#else
#define ROUND_IS_VOID (RETRY || pending[RECORD])
#endif

/* What callbacks that have not used set_seq() may have changed. */
#define MISSED ((inv != log_seq) * ALL)

/* Whether the array must not be used. */
#ifndef WAIT
#define INVALID RETRY
#elif defined(WRONG_WAIT)
#define INVALID (RETRY || pending[me])
#else
#define INVALID (RETRY || pending[me] || inv != log_seq)
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
	subs_seq = subs_seq + (active_events == 0 && (subs_seq & 1))
}

inline set_seq(seq, pages)
{
#ifndef PLAIN
#ifdef WRONG_MIXED
	if
	:: _pid == 2 -> record_all(pages | MISSED); log_seq = seq
	:: else
	fi;
#else
	record_all(pages | MISSED);
	log_seq = seq;
#endif
#endif
	inv = seq
}

inline change(pages)
{
	has[0] = has[0] && !(pages & IT);
	has[1] = has[1] && !(pages & IT)
}

inline catch_up()
{
#if defined(WRONG_PLAIN)
	skip
#elif defined(WRONG_CATCH_UP)
	pending[me] = pending[me] | MISSED;
	log_seq = inv
#elif defined(CATCH_UP)
	record_all(MISSED);
	log_seq = inv
#else
	pending[RECORD] = pending[RECORD] | MISSED
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
#ifdef SNAPSHOT
	/* No call relies on what a snapshot has found. */
	bool looked;
#endif

#ifdef WRONG_SHARED
	todo = ALL;
#endif
call:
#ifdef WAIT
	if
	:: skip
	:: seq = inv; subs_seq != seq -> goto use
#ifdef SNAPSHOT
	:: goto snapshot
#endif
	fi;
#endif
#ifndef REUSE
	atomic {
#ifdef WRONG_SHARED
		todo = ALL;
#else
		todo = 0;
		pending[me] = ALL;
#endif
		has[me] = false
	}
#endif
#ifdef SNAPSHOT
	d_step { pending[me] = pending[me] | (ALL * looked); looked = false }
#endif

begin:
#ifdef WRONG_TAKE_FIRST
	atomic { take() };
#endif
#ifdef WRONG_BOOLEAN
	active_events == 0;
#else
	seq = inv;
	/* If it is another one it stays so, for it only grows: no need to compare twice. */
	subs_seq != seq;
#endif

again:
#if defined(WRONG_NO_SEQ) || defined(WRONG_BOOLEAN)
	STEP { take() };
#elif !defined(WRONG_TAKE_FIRST)
	if
	:: STEP { inv == seq -> take() }
	:: atomic {
		inv != seq ->
#ifdef CATCH_UP
		catch_up();
#endif
		goto begin
	   }
	fi;
#endif

	do
	:: d_step { todo & IT -> has[me] = true; todo = todo & ~IT }
	:: d_step { todo & REST -> todo = todo & ~REST }
	:: todo -> goto broken_off
	:: !todo && ROUND_IS_VOID ->
#ifdef PARTS
		goto again
#else
		goto begin
#endif
	:: !todo && !ROUND_IS_VOID -> break
	od;

use:
	if
	:: d_step { !user_lock && !INVALID -> user_lock = true }
	:: atomic { !user_lock && INVALID -> goto call }
	fi;
	d_step {
		assert(has[me]);
		user_lock = false;
		seq = 0;
		calls++
	}
	if
	:: calls < CALLS -> goto call
	:: calls == CALLS -> goto done
	fi;

broken_off:
#ifdef WAIT
	/* The call fails for it, or goes on. */
	if
	:: d_step { pending[me] = pending[me] | todo; todo = 0 }
	   goto call
	:: skip
	fi;
#endif
progress:
	skip;
	goto begin;

#ifdef SNAPSHOT
snapshot:
	seq = inv;
	subs_seq != seq;
	d_step {
		catch_up();
		pending[me] = ALL * (inv != seq);
		looked = true;
		todo = ALL
	}
	do
	:: d_step { todo & IT -> has[me] = true; todo = todo & ~IT }
	:: d_step { todo & REST -> todo = todo & ~REST }
	:: d_step { todo -> pending[me] = ALL; todo = 0 }
	   goto call
	:: !todo -> break
	od;
#ifdef WRONG_SNAPSHOT
	pending[me] = 0;
#endif
	goto use;
#endif
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
	   :: d_step { pages && !user_lock -> set_seq(seq, pages); seq = 0 }
	      d_step { change(pages); pages = 0 }
	   :: pages == 0
#ifdef WRONG_FILTER
	   :: pages -> d_step { change(pages); pages = 0 }
#endif
	   fi;
	   d_step { inv_end(); seq = 0 }
	:: events == EVENTS -> break
	od
}
