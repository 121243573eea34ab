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
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/mempolicy.h>
#include <linux/mman.h>
#include <infiniband/verbs.h>

#include "kselftest_harness.h"
#include "common.h"

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
static int transfer(struct ibv_cq *cq, struct ibv_qp **qp, struct ibv_mr **mr, enum how how,
		    size_t from, size_t size)
{
	struct ibv_sge source = { (unsigned long)mr[SOURCE]->addr + from, size, mr[SOURCE]->lkey };
	struct ibv_sge target = { (unsigned long)mr[TARGET]->addr + from, size, mr[TARGET]->lkey };
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
	ASSERT_EQ(transfer(self->cq, self->qp, self->mr, how, from, size), 0)

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
	ASSERT_EQ(transfer(self->cq, self->qp, self->mr, WRITE, HUGE, PAGE), IBV_WC_REM_ACCESS_ERR);
	ASSERT_TRUE(filled(self->buffer[TARGET], 0, HUGE, 2));
}

/* How often something has happened since the boot. */
static unsigned long events_of(const char *name)
{
	FILE *file = fopen("/proc/vmstat", "r");
	char line[256];
	unsigned long n = 0;
	size_t length = strlen(name);

	while (file && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, name, length) && line[length] == ' ')
			n = strtoul(line + length, NULL, 10);
	}
	if (file)
		fclose(file);
	return n;
}

/* What another process does to the buffers, and how often it succeeded. */
enum { PAGEOUT, MOVE, SPLIT, COLLAPSE, MIGRATE, DISTURBANCES };

static const char * const disturbance[] = {
	"written back", "moved", "split", "collapsed", "migrated"
};

static void disturb(pid_t pid, char **buffer, unsigned long *done)
{
	int split = open("/sys/kernel/debug/split_huge_pages", O_WRONLY);
	int pidfd = syscall(SYS_pidfd_open, pid, 0);
	unsigned int round;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (round = 0; getppid() == pid; round++) {
		char *huge = buffer[rand() % 2] + rand() % 2 * HUGE;
		char *at = huge + rand() % (512 - 16) * PAGE;
		struct iovec part = { at, (1 + rand() % 16) * PAGE };
		unsigned long node[2] = { 1, 2 };
		int nodes[16], status[16], i;
		void *pages[16];
		char line[128];
		long ret = 0;
		int what = rand() % DISTURBANCES;

		switch (what) {
		case PAGEOUT:
			ret = syscall(SYS_process_madvise, pidfd, &part, 1, MADV_PAGEOUT, 0);
			break;
		case MOVE:
			for (i = 0; i < 16; i++) {
				pages[i] = at + i * PAGE;
				nodes[i] = round & 1;
			}
			ret = syscall(SYS_move_pages, pid, 16, pages, nodes, status, MPOL_MF_MOVE);
			break;
		case SPLIT:
			snprintf(line, sizeof(line), "%d,%#lx,%#lx,0", pid, (unsigned long)at,
				 (unsigned long)at + 16 * PAGE);
			ret = write(split, line, strlen(line));
			break;
		case COLLAPSE:
			part = (struct iovec) { huge, HUGE };
			ret = syscall(SYS_process_madvise, pidfd, &part, 1, MADV_COLLAPSE, 0);
			break;
		case MIGRATE:
			ret = syscall(SYS_migrate_pages, pid, 64, &node[round & 1],
				      &node[!(round & 1)]);
			break;
		}
		if (ret >= 0)
			done[what]++;
		usleep(1000);
	}
	_exit(0);
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

/* What has to have happened since, for a storm to be one. */
struct storm {
	unsigned long *done;	/* by disturb() */
	struct neighbour neighbour;
	unsigned int transfers;
	unsigned long before[3];
};

static const char * const event[] = { "pswpout", "pgmigrate_success", "thp_split_page" };

static bool raged(const struct storm *storm, bool swaps, bool splits)
{
	if (storm->transfers < 16 || !storm->neighbour.rounds || !storm->done[MOVE] ||
	    !storm->done[MIGRATE] || events_of(event[1]) == storm->before[1])
		return false;
	if (swaps && (!storm->done[PAGEOUT] || events_of(event[0]) == storm->before[0]))
		return false;
	return !splits || (storm->done[SPLIT] && storm->done[COLLAPSE] &&
			   events_of(event[2]) > storm->before[2]);
}

/* As long as --seconds says, and until all has happened that can; else it times out. */
TEST_F_TIMEOUT(buffers, storm, 600)
{
	struct storm storm = { .neighbour.buffer = self->buffer };
	bool splits = variant->advice == MADV_HUGEPAGE, swaps = !variant->mmap_flags;
	time_t end = time(NULL) + seconds();
	unsigned int generation = 1, i;
	pthread_t thread;
	char *want[2];
	pid_t child;

	storm.done = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(storm.done, MAP_FAILED);
	for (i = 0; i < 3; i++)
		storm.before[i] = events_of(event[i]);
	for (i = 0; i < 2; i++) {
		want[i] = malloc(SIZE);
		ASSERT_NE(want[i], NULL);
		fill(want[i], 0, SIZE, generation);
		fill(self->buffer[i], 0, SIZE, generation);
	}
	srand(1);
	child = fork();
	ASSERT_GE(child, 0);
	if (!child)
		disturb(getppid(), self->buffer, storm.done);
	ASSERT_EQ(pthread_create(&thread, NULL, unmap_beside, &storm.neighbour), 0);
	while (time(NULL) < end || !raged(&storm, swaps, splits)) {
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
		if (++storm.transfers % 16 == 0)
			ASSERT_TRUE(all_is(self->buffer, want));
	}
	storm.neighbour.stop = true;
	ASSERT_EQ(pthread_join(thread, NULL), 0);
	ASSERT_EQ(kill(child, SIGKILL), 0);
	ASSERT_EQ(waitpid(child, NULL, 0), child);
	ASSERT_TRUE(all_is(self->buffer, want));
	printf("# %u transfers, %lu neighbours", storm.transfers, storm.neighbour.rounds);
	for (i = 0; i < DISTURBANCES; i++)
		printf(", %lu %s", storm.done[i], disturbance[i]);
	for (i = 0; i < 3; i++)
		printf(", %lu %s", events_of(event[i]) - storm.before[i], event[i]);
	printf("\n");
}

/* The program of others: two processes, a message back and forth, validated. */
#define PINGPONG "ibv_rc_pingpong -d rxe0 -g 1 -o -c -s 65536 -n 20"

TEST(pingpong)
{
	/* The client comes again while the server does not listen yet. */
	ASSERT_EQ(system(PINGPONG " & until " PINGPONG " localhost; do kill -0 $! || exit 1; "
			 "sleep 0.1; done; wait $!"), 0);
}

TEST_HARNESS_MAIN
