// SPDX-License-Identifier: GPL-2.0-only
/*
 * RDMA with explicit on-demand paging: a device (rxe) that moves data between two
 * buffers of this process while their pages come and go: never there before, written
 * back to swap, split, collapsed, moved to the other node, shared with a child and
 * dropped. Each transfer must bring exactly the bytes that the source holds to exactly
 * where they belong, and must not touch what is beside.
 *
 * Runs in the machine of scripts/vm, with rxe0, swap, and two nodes.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <infiniband/verbs.h>

#include "kselftest_harness.h"
#include "common.h"
#include "storm.h"

#define SIZE	(2 * HUGE)	/* of each buffer */
#define ACCESS	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE)

enum { SOURCE, TARGET };

FIXTURE(buffers)
{
	struct ibv_context *context;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_qp *qp[2];	/* connected with each other */
	struct ibv_mr *mr[2];
	char *buffer[2];	/* the source, the target */
	unsigned long iova[2];	/* where the device has them */
};

FIXTURE_VARIANT(buffers)
{
	int mmap_flags;
	int advice;
};

FIXTURE_VARIANT_ADD(buffers, small)
{
	.advice = MADV_NOHUGEPAGE,
};

FIXTURE_VARIANT_ADD(buffers, thp)
{
	.advice = MADV_HUGEPAGE,
};

FIXTURE_VARIANT_ADD(buffers, hugetlb)
{
	.mmap_flags = MAP_HUGETLB,
};

/* A buffer with room on both sides, where a neighbour comes and goes. */
static char *map_buffer(int flags, int advice)
{
	const int private = MAP_PRIVATE | MAP_ANONYMOUS;
	char *p = mmap(NULL, SIZE + 4 * HUGE, PROT_NONE, private, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	p = (char *)(((unsigned long)p + 2 * HUGE - 1) & ~(HUGE - 1));
	p = mmap(p, SIZE, PROT_READ | PROT_WRITE, private | MAP_FIXED | flags, -1, 0);
	if (p == MAP_FAILED || (advice && madvise(p, SIZE, advice)))
		return NULL;
	return p;
}

/* Reset, initialised, ready to receive, ready to send: to the queue pair @other. */
static int connect_qp(struct ibv_qp *qp, struct ibv_qp *other, union ibv_gid *gid)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT,
		.port_num = 1,
		.qp_access_flags = ACCESS,
	};

	if (ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
			  IBV_QP_ACCESS_FLAGS))
		return -1;
	attr = (struct ibv_qp_attr) {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = IBV_MTU_4096,	/* a page a packet */
		.dest_qp_num = other->qp_num,
		.max_dest_rd_atomic = 1,
		.min_rnr_timer = 12,
		.ah_attr = {
			.is_global = 1,
			.port_num = 1,
			.grh = { .dgid = *gid, .sgid_index = 1, .hop_limit = 1 },
		},
	};
	if (ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
			  IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER))
		return -1;
	attr = (struct ibv_qp_attr) {
		.qp_state = IBV_QPS_RTS,
		.timeout = 18,	/* 4.096 us times 2^18: a second */
		.retry_cnt = 6,	/* 7 is for ever */
		.rnr_retry = 7,
		.max_rd_atomic = 1,
	};
	return ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
			     IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
}

FIXTURE_SETUP(buffers)
{
	struct ibv_qp_init_attr attr = {
		.cap = { .max_send_wr = 4, .max_recv_wr = 4, .max_send_sge = 1, .max_recv_sge = 1 },
		.qp_type = IBV_QPT_RC,
		.sq_sig_all = 1,
	};
	struct ibv_device **devices;
	union ibv_gid gid;
	int i;

	devices = ibv_get_device_list(NULL);
	ASSERT_NE(devices, NULL);
	ASSERT_NE(devices[0], NULL);
	self->context = ibv_open_device(devices[0]);
	ASSERT_NE(self->context, NULL);
	ibv_free_device_list(devices);
	ASSERT_EQ(ibv_query_gid(self->context, 1, 1, &gid), 0);
	self->pd = ibv_alloc_pd(self->context);
	ASSERT_NE(self->pd, NULL);
	self->cq = ibv_create_cq(self->context, 16, NULL, NULL, 0);
	ASSERT_NE(self->cq, NULL);
	attr.send_cq = self->cq;
	attr.recv_cq = self->cq;
	for (i = 0; i < 2; i++) {
		self->qp[i] = ibv_create_qp(self->pd, &attr);
		ASSERT_NE(self->qp[i], NULL);
		self->buffer[i] = map_buffer(variant->mmap_flags, variant->advice);
		ASSERT_NE(self->buffer[i], NULL);
		self->mr[i] = ibv_reg_mr(self->pd, self->buffer[i], SIZE,
					 ACCESS | IBV_ACCESS_ON_DEMAND);
		ASSERT_NE(self->mr[i], NULL);
		self->iova[i] = (uintptr_t)self->buffer[i];
	}
	ASSERT_EQ(connect_qp(self->qp[0], self->qp[1], &gid), 0);
	ASSERT_EQ(connect_qp(self->qp[1], self->qp[0], &gid), 0);
}

FIXTURE_TEARDOWN(buffers)
{
}

/*
 * Wait a minute for @number completions; the status of the first that is no success,
 * else 0.
 */
static int complete(struct ibv_cq *cq, int number)
{
	time_t end = time(NULL) + 60;
	struct ibv_wc wc;

	while (number) {
		int n = ibv_poll_cq(cq, 1, &wc);

		if (n < 0 || time(NULL) > end)
			return -1;
		if (n && wc.status != IBV_WC_SUCCESS) {
			printf("# %s\n", ibv_wc_status_str(wc.status));
			return wc.status;
		}
		number -= n;
		if (!n)
			sched_yield();
	}
	return 0;
}

enum how { WRITE, READ, SEND, HOW };

/*
 * Move @size bytes from @from of the source to the same place of the target; 0, or the
 * status of the completion.
 */
static int transfer(struct ibv_cq *cq, struct ibv_qp **qp, struct ibv_mr **mr,
		    const unsigned long *iova, enum how how, size_t from, size_t size)
{
	struct ibv_sge source = { iova[SOURCE] + from, size, mr[SOURCE]->lkey };
	struct ibv_sge target = { iova[TARGET] + from, size, mr[TARGET]->lkey };
	struct ibv_send_wr send = { .sg_list = &source, .num_sge = 1, .opcode = IBV_WR_SEND };
	struct ibv_recv_wr receive = { .sg_list = &target, .num_sge = 1 }, *bad_receive;
	struct ibv_send_wr *bad;

	switch (how) {
	case WRITE:
		send.opcode = IBV_WR_RDMA_WRITE;
		send.wr.rdma.remote_addr = target.addr;
		send.wr.rdma.rkey = mr[TARGET]->rkey;
		break;
	case READ:
		send.opcode = IBV_WR_RDMA_READ;
		send.sg_list = &target;
		send.wr.rdma.remote_addr = source.addr;
		send.wr.rdma.rkey = mr[SOURCE]->rkey;
		break;
	default:
		if (ibv_post_recv(qp[1], &receive, &bad_receive))
			return -1;
	}
	if (ibv_post_send(qp[0], &send, &bad))
		return -1;
	return complete(cq, how == SEND ? 2 : 1);
}

#define ASSERT_TRANSFER(how, from, size)						\
	ASSERT_EQ(transfer(self->cq, self->qp, self->mr, self->iova, how, from, size), 0)

/* All of both buffers, in every way, first without a page and then with all. */
TEST_F_TIMEOUT(buffers, quiet, 300)
{
	unsigned int generation;

	for (generation = 1; generation <= 2 * HOW; generation++) {
		fill(self->buffer[SOURCE], 0, SIZE, generation);
		if (generation <= HOW)
			ASSERT_EQ(madvise(self->buffer[TARGET], SIZE, MADV_DONTNEED), 0);
		ASSERT_TRANSFER(generation % HOW, 0, SIZE);
		ASSERT_TRUE(filled(self->buffer[TARGET], 0, SIZE, generation));
		ASSERT_TRUE(filled(self->buffer[SOURCE], 0, SIZE, generation));
	}
	/* A source that was never written is zero. */
	ASSERT_EQ(madvise(self->buffer[SOURCE], SIZE, MADV_DONTNEED), 0);
	ASSERT_TRANSFER(WRITE, 0, SIZE);
	ASSERT_TRUE(filled(self->buffer[TARGET], 0, SIZE, 0));
}

/* A transfer that begins and ends within pages brings nothing else, and nowhere else. */
TEST_F(buffers, unaligned)
{
	const size_t size = 2 * PAGE + 16;
	size_t from;
	enum how how;

	fill(self->buffer[SOURCE], 0, SIZE, 1);
	for (how = WRITE; how < HOW; how++) {
		for (from = HUGE - PAGE - 1032; from < HUGE; from += 1000) {
			memset(self->buffer[TARGET], 0, SIZE);
			ASSERT_TRANSFER(how, from, size);
			ASSERT_TRUE(filled(self->buffer[TARGET], 0, from, 0));
			ASSERT_TRUE(filled(self->buffer[TARGET] + from, from, size, 1));
			ASSERT_TRUE(filled(self->buffer[TARGET] + from + size, from + size,
					   SIZE - from - size, 0));
		}
	}
}

/* The device has the buffers elsewhere than the process. */
TEST_F(buffers, iova)
{
	struct ibv_mr *mr[2];
	enum how how;
	int i;

	for (i = 0; i < 2; i++) {
		self->iova[i] += HUGE;
		mr[i] = ibv_reg_mr_iova(self->pd, self->buffer[i], SIZE, self->iova[i],
					ACCESS | IBV_ACCESS_ON_DEMAND);
		ASSERT_NE(mr[i], NULL);
	}
	fill(self->buffer[SOURCE], 0, SIZE, 1);
	for (how = WRITE; how < HOW; how++) {
		memset(self->buffer[TARGET], 0, SIZE);
		ASSERT_EQ(transfer(self->cq, self->qp, mr, self->iova, how, 0, HUGE), 0);
		ASSERT_TRUE(filled(self->buffer[TARGET], 0, HUGE, 1));
		ASSERT_TRUE(filled(self->buffer[TARGET] + HUGE, HUGE, SIZE - HUGE, 0));
	}
}

/* A process with pages of its own at the same place; each write here is a copy. */
TEST_F_TIMEOUT(buffers, forked, 300)
{
	int status, to_child[2];
	pid_t child;
	char c;

	fill(self->buffer[SOURCE], 0, SIZE, 1);
	ASSERT_TRANSFER(WRITE, 0, SIZE);
	ASSERT_EQ(pipe(to_child), 0);
	child = fork();
	ASSERT_GE(child, 0);
	if (!child) {
		close(to_child[1]);
		_exit(read(to_child[0], &c, 1) == 0 &&
		      filled(self->buffer[SOURCE], 0, SIZE, 1) &&
		      filled(self->buffer[TARGET], 0, SIZE, 1) ? 0 : 1);
	}
	fill(self->buffer[SOURCE], 0, SIZE, 2);
	ASSERT_TRANSFER(WRITE, 0, SIZE);
	ASSERT_TRUE(filled(self->buffer[TARGET], 0, SIZE, 2));
	ASSERT_EQ(close(to_child[1]), 0);
	ASSERT_EQ(waitpid(child, &status, 0), child);
	ASSERT_EQ(status, 0);
}

/* Without the memory there is an error and no data. */
TEST_F_TIMEOUT(buffers, unmapped, 300)
{
	fill(self->buffer[SOURCE], 0, SIZE, 1);
	ASSERT_TRANSFER(WRITE, 0, SIZE);
	ASSERT_EQ(munmap(self->buffer[TARGET] + HUGE, HUGE), 0);
	fill(self->buffer[SOURCE], 0, SIZE, 2);
	ASSERT_TRANSFER(WRITE, 0, HUGE);
	ASSERT_TRUE(filled(self->buffer[TARGET], 0, HUGE, 2));
	ASSERT_EQ(transfer(self->cq, self->qp, self->mr, self->iova, WRITE, HUGE, PAGE),
		  IBV_WC_REM_ACCESS_ERR);
	ASSERT_TRUE(filled(self->buffer[TARGET], 0, HUGE, 2));
}

/* Maps and unmaps what lies beside the buffers. */
struct neighbour {
	char **buffer;
	atomic_bool stop;
	unsigned long rounds;
};

static void *unmap_beside(void *arg)
{
	struct neighbour *neighbour = arg;

	while (!neighbour->stop) {
		char *buffer = neighbour->buffer[neighbour->rounds & 1];
		char *beside = neighbour->rounds & 2 ? buffer - PAGE : buffer + SIZE;

		if (mmap(beside, PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != beside)
			break;
		atomic_store((atomic_char *)beside, 1);
		if (munmap(beside, PAGE))
			break;
		neighbour->rounds++;
		usleep(1000);
	}
	return NULL;
}

/* The buffers are what they have to be: @want, which the device does not know. */
static bool all_is(char **buffer, char **want)
{
	return !memcmp(buffer[SOURCE], want[SOURCE], SIZE) &&
		!memcmp(buffer[TARGET], want[TARGET], SIZE);
}

/* As long as --seconds says, and until all has happened that can; else it times out. */
TEST_F_TIMEOUT(buffers, storm, 600)
{
	bool splits = variant->advice == MADV_HUGEPAGE, swaps = !variant->mmap_flags;
	struct neighbour neighbour = { .buffer = self->buffer };
	unsigned int generation = 1, transfers = 0, i;
	time_t end = time(NULL) + seconds();
	char *want[2], *area[4];
	struct storm storm;
	pthread_t thread;

	for (i = 0; i < 4; i++)
		area[i] = self->buffer[i / 2] + i % 2 * HUGE;
	for (i = 0; i < 2; i++) {
		want[i] = malloc(SIZE);
		ASSERT_NE(want[i], NULL);
		fill(want[i], 0, SIZE, generation);
		fill(self->buffer[i], 0, SIZE, generation);
	}
	srand(1);
	ASSERT_TRUE(begin_storm(&storm, area, 4));
	ASSERT_EQ(pthread_create(&thread, NULL, unmap_beside, &neighbour), 0);
	while (time(NULL) < end || transfers < 16 || !neighbour.rounds ||
	       !raged(&storm, swaps, splits)) {
		size_t size = (1 + rand() % 64) * PAGE, from = rand() % (SIZE - size) & -PAGE;

		generation++;
		fill(self->buffer[SOURCE] + from, from, size, generation);
		fill(want[SOURCE] + from, from, size, generation);
		/* A target that is there, or not. */
		if (rand() % 4 == 0 && !variant->mmap_flags)
			ASSERT_EQ(madvise(self->buffer[TARGET] + from, size, MADV_DONTNEED), 0);
		ASSERT_TRANSFER(rand() % HOW, from, size);
		ASSERT_TRUE(filled(self->buffer[TARGET] + from, from, size, generation));
		fill(want[TARGET] + from, from, size, generation);
		if (++transfers % 16 == 0)
			ASSERT_TRUE(all_is(self->buffer, want));
	}
	neighbour.stop = true;
	ASSERT_EQ(pthread_join(thread, NULL), 0);
	ASSERT_TRUE(all_is(self->buffer, want));
	printf("# %u transfers, %lu neighbours", transfers, neighbour.rounds);
	ASSERT_TRUE(end_storm(&storm));
}

/* The program of others: two processes, a message back and forth, validated. */
#define PINGPONG "ibv_rc_pingpong -d rxe0 -g 1 -o -c -s 65536 -n 20"

FIXTURE(others)
{
};

FIXTURE_SETUP(others)
{
}

FIXTURE_TEARDOWN(others)
{
}

TEST_F_TIMEOUT(others, pingpong, 300)
{
	/* The client comes again while the server does not listen yet. */
	ASSERT_EQ(system(PINGPONG " & until " PINGPONG " localhost; do kill -0 $! || exit 1; "
			 "sleep 0.1; done; wait $!"), 0);
}

TEST_HARNESS_MAIN
