/*
 * Processes that fork.
 *
 * forks many ROUNDS       forks while other threads allocate and free large blocks; the children do the same, and check what they have
 *                         from their parent
 * forks soon ROUNDS       children fork soon after they are there
 * forks raw ROUNDS        forks by the system call, of which no library is told
 * forks idle -            frees memory, and forks; the child is idle until that is gone
 * forks vfork -           has a child allocate that has its memory, and goes on to another program; then frees memory, and is idle until it is gone
 * forks daemon THREAD     goes on in the background, frees memory, and is idle until it is gone; there is a thread of this name
 */
#include "check.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define THREADS 3
#define BLOCKS 8
#define BYTES (2 * MIB)

struct blocks {
	void *start[BLOCKS];
	uint64_t seed;
};

static _Atomic uint64_t seeds = 1;
static atomic_int ended;

static void take(struct blocks *blocks)
{
	blocks->seed = atomic_fetch_add(&seeds, BLOCKS);
	for (uint64_t i = 0; i < BLOCKS; i++) {
		CHECK((blocks->start[i] = malloc(BYTES + i * PAGE)));
		fill(blocks->start[i], BYTES + i * PAGE, blocks->seed + i);
	}
}

static void give(struct blocks *blocks)
{
	for (uint64_t i = 0; i < BLOCKS; i++) {
		check_filled(blocks->start[i], BYTES + i * PAGE, blocks->seed + i);
		free(blocks->start[i]);
	}
}

static void *churn(void *unused)
{
	struct blocks blocks;
	while (!ended) {
		take(&blocks);
		give(&blocks);
	}
	return unused;
}

/* What the child was given, and what it makes itself, and once more. */
static void live(struct blocks *inherited)
{
	/* A hang is a failure. */
	alarm(60);
	struct blocks own;
	take(&own);
	give(inherited);
	take(inherited);
	give(&own);
	sleep_ms(60);
	give(inherited);
	/* A child of the child. */
	take(&own);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		alarm(60);
		give(&own);
		_exit(0);
	}
	int status;
	CHECK(waitpid(child, &status, 0) == child);
	give(&own);
	_exit(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? 2 : status != 0);
}

static void many(size_t rounds)
{
	pthread_t threads[THREADS];
	for (size_t i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, churn, NULL) == 0);
	struct blocks blocks;
	for (size_t round = 0; round < rounds; round++) {
		take(&blocks);
		pid_t child = fork();
		CHECK(child >= 0);
		if (child == 0)
			live(&blocks);
		give(&blocks);
		int status;
		CHECK(waitpid(child, &status, 0) == child);
		if ((WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) || (WIFEXITED(status) && WEXITSTATUS(status) == 2))
			FAIL("a child hangs in round %zu\n", round);
		if (status != 0)
			FAIL("a child fails in round %zu: %x\n", round, status);
	}
	ended = 1;
	for (size_t i = 0; i < THREADS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	puts("all data stays");
}

/* The child's other threads have just begun, and are anywhere. */
static void soon(size_t rounds)
{
	struct blocks blocks;
	take(&blocks);
	for (size_t round = 0; round < rounds; round++) {
		pid_t child = fork();
		CHECK(child >= 0);
		if (child == 0) {
			alarm(60);
			sleep_ms((long)(round % 25));
			pid_t grandchild = fork();
			CHECK(grandchild >= 0);
			if (grandchild > 0) {
				int status;
				CHECK(waitpid(grandchild, &status, 0) == grandchild && status == 0);
			}
			give(&blocks);
			_exit(0);
		}
		int status;
		CHECK(waitpid(child, &status, 0) == child);
		if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
			FAIL("a child hangs in round %zu\n", round);
		CHECK(status == 0);
	}
	give(&blocks);
	puts("all data stays");
}

static void raw(size_t rounds)
{
	struct blocks blocks, own;
	take(&own);
	give(&own);
	for (size_t round = 0; round < rounds; round++) {
		take(&blocks);
		pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		CHECK(child >= 0);
		if (child == 0) {
			alarm(60);
			take(&own);
			give(&blocks);
			take(&blocks);
			give(&own);
			give(&blocks);
			_exit(0);
		}
		give(&blocks);
		int status;
		CHECK(waitpid(child, &status, 0) == child);
		if (status != 0)
			FAIL("a child fails in round %zu: %x\n", round, status);
	}
	puts("all data stays");
}

/* Parent and child have the same pages, which go when neither has them. */
static void idle(void)
{
	struct blocks blocks;
	double before = resident_mib();
	take(&blocks);
	give(&blocks);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		await_below(before + (double)(BLOCKS * BYTES) / MIB / 4);
		_exit(0);
	}
	int status;
	CHECK(waitpid(child, &status, 0) == child);
	if (status != 0)
		FAIL("the child fails: %x\n", status);
	puts("given back");
}

/* The child is the first to allocate a large block. */
static void borrow(void)
{
	struct blocks blocks;
	double before = resident_mib();
	pid_t child = vfork();
	CHECK(child >= 0);
	if (child == 0) {
		void *volatile block = malloc(BYTES);
		if (block)
			free(block);
		execl("/bin/true", "true", NULL);
		_exit(1);
	}
	int status;
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	take(&blocks);
	give(&blocks);
	await_below(before + (double)(BLOCKS * BYTES) / MIB / 4);
	puts("given back");
}

static int has_thread(const char *name)
{
	DIR *tasks = opendir("/proc/self/task");
	CHECK(tasks);
	int found = 0;
	for (struct dirent *task; (task = readdir(tasks));) {
		char path[300], text[64];
		if (task->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", task->d_name);
		text[read_file(path, text, sizeof(text)) - 1] = 0;
		found |= !strcmp(text, name);
	}
	closedir(tasks);
	return found;
}

static void go_on(const char *thread)
{
	struct blocks blocks;
	double before = resident_mib();
	take(&blocks);
	CHECK(daemon(1, 1) == 0);
	give(&blocks);
	for (int round = 0; round < 3; round++) {
		take(&blocks);
		give(&blocks);
	}
	/* It gives itself its name when it gets to run. */
	for (double until = now() + 20; !has_thread(thread); sleep_ms(5))
		CHECK(now() < until);
	await_below(before + (double)(BLOCKS * BYTES) / MIB / 4);
	puts("given back");
}

int main(int argc, char **argv)
{
	CHECK(argc == 3);
	if (!strcmp(argv[1], "daemon"))
		go_on(argv[2]);
	else if (!strcmp(argv[1], "idle"))
		idle();
	else if (!strcmp(argv[1], "vfork"))
		borrow();
	else if (!strcmp(argv[1], "soon"))
		soon(number(argv[2]));
	else if (!strcmp(argv[1], "raw"))
		raw(number(argv[2]));
	else
		many(number(argv[2]));
	return 0;
}
