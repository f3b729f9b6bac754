/*
 * reentry ROUNDS
 *
 * Allocates and frees large blocks where few programs do: in handlers of fork, which run outside of those of all libraries, and in
 * destructors of thread-local data, one of which is older than those of all libraries.
 */
#include "turn.h"

#include <pthread.h>
#include <sys/wait.h>

#define DESTRUCTIONS 3

static pthread_key_t early, late;
static atomic_int ended, destroyed;

/* Sets the data again some times, so that it runs before and after the destructors of all libraries. */
static void destroy(void *data)
{
	uintptr_t left = (uintptr_t)data;
	turn();
	atomic_fetch_add(&destroyed, 1);
	if (left > 1) {
		CHECK(pthread_setspecific(early, (void *)(left - 1)) == 0);
		CHECK(pthread_setspecific(late, (void *)(left - 1)) == 0);
	}
}

static void begin(void)
{
	CHECK(pthread_key_create(&early, destroy) == 0);
}

__attribute__((section(".preinit_array"), used)) static void (*const begin_first)(void) = begin;

static void *visitor(void *unused)
{
	CHECK(pthread_setspecific(early, (void *)(uintptr_t)DESTRUCTIONS) == 0);
	CHECK(pthread_setspecific(late, (void *)(uintptr_t)DESTRUCTIONS) == 0);
	turn();
	return unused;
}

static void *churner(void *unused)
{
	while (!ended)
		turn();
	return unused;
}

static void fork_once(void)
{
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		/* A hang is a failure. */
		alarm(60);
		turn();
		_exit(0);
	}
	int status;
	CHECK(waitpid(child, &status, 0) == child);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		FAIL("a child hangs\n");
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(int argc, char **argv)
{
	CHECK(argc == 2);
	CHECK(pthread_key_create(&late, destroy) == 0);
	CHECK(pthread_atfork(before_fork, after_fork, after_fork) == 0);
	pthread_t churning;
	CHECK(pthread_create(&churning, NULL, churner, NULL) == 0);
	for (size_t round = 0; round < number(argv[1]); round++) {
		pthread_t visiting;
		CHECK(pthread_create(&visiting, NULL, visitor, NULL) == 0);
		fork_once();
		CHECK(pthread_join(visiting, NULL) == 0);
	}
	ended = 1;
	CHECK(pthread_join(churning, NULL) == 0);
	CHECK(destroyed >= (int)(2 * number(argv[1])));
	puts("all data stays");
	return 0;
}
