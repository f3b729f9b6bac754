/*
 * signals COUNT
 *
 * Frees and allocates large blocks in a signal's handler, which runs only while the program waits for it (sigsuspend), as real programs
 * get away with it. Another thread sends the signals, and allocates and frees itself.
 */
#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#define BLOCKS 8
#define BYTES (2 * MIB)

static void *blocks[BLOCKS];
static uint64_t seeds[BLOCKS];
static atomic_int ended;
static volatile sig_atomic_t handled;

static void renew(size_t i, uint64_t seed)
{
	if (blocks[i]) {
		check_filled(blocks[i], BYTES, seeds[i]);
		free(blocks[i]);
	}
	CHECK((blocks[i] = malloc(BYTES)));
	seeds[i] = seed;
	fill(blocks[i], BYTES, seed);
}

static void handle(int signal)
{
	(void)signal;
	/* Nobody else in the process has the signal open. */
	CHECK(gettid() == getpid());
	handled++;
	for (size_t i = 0; i < BLOCKS; i += 2)
		renew(i, (uint64_t)handled * 1000 + i);
}

static void *send(void *unused)
{
	for (uint64_t round = 1; !ended; round++) {
		void *block = malloc(BYTES);
		CHECK(block);
		fill(block, BYTES, round);
		/* To the process: the kernel chooses a thread. */
		CHECK(kill(getpid(), SIGUSR1) == 0);
		check_filled(block, BYTES, round);
		free(block);
	}
	return unused;
}

int main(int argc, char **argv)
{
	CHECK(argc == 2);
	sigset_t blocked, before;
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	CHECK(pthread_sigmask(SIG_BLOCK, &blocked, &before) == 0);
	struct sigaction action = { .sa_handler = handle };
	CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
	for (size_t i = 0; i < BLOCKS; i++)
		renew(i, i + 1);
	pthread_t sending;
	CHECK(pthread_create(&sending, NULL, send, NULL) == 0);
	while ((size_t)handled < number(argv[1])) {
		sigsuspend(&before);
		for (size_t i = 1; i < BLOCKS; i += 2)
			renew(i, (uint64_t)handled * 1000 + i);
	}
	ended = 1;
	CHECK(pthread_join(sending, NULL) == 0);
	for (size_t i = 0; i < BLOCKS; i++)
		renew(i, 1);
	puts("all data stays");
	return 0;
}
