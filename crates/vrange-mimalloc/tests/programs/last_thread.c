/*
 * last_thread main|forked
 *
 * A process ends when the last thread of its program has returned, whoever else has threads in it: one whose main thread leaves by
 * pthread_exit(3), or one that was forked by a thread that then returns.
 */
#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WAIT_TENTHS 100

/* So that something is marked. */
static void give_back(void)
{
	char *volatile block = malloc(64ul << 20);
	CHECK(block);
	memset(block, 1, 64ul << 20);
	free(block);
}

/* Waits for the child's end, and ends it if there is none: it does not hear other signals. */
static void *ends(void *number)
{
	pid_t child = (pid_t)(intptr_t)number;
	int status;
	for (int tenths = 0; waitpid(child, &status, WNOHANG) == 0; tenths++) {
		if (tenths == WAIT_TENTHS) {
			kill(child, SIGKILL);
			waitpid(child, &status, 0);
			puts("the process did not end");
			exit(1);
		}
		nanosleep(&(struct timespec){ 0, 100000000 }, NULL);
	}
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	return NULL;
}

static void *fork_here(void *nothing)
{
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		give_back();
		return nothing;
	}
	return ends((void *)(intptr_t)child);
}

int main(int count, char **arguments)
{
	CHECK(count == 2);
	if (strcmp(arguments[1], "main") == 0) {
		pid_t child = fork();
		CHECK(child >= 0);
		if (child == 0) {
			give_back();
			pthread_exit(NULL);
		}
		ends((void *)(intptr_t)child);
	} else {
		pthread_t thread;
		CHECK(pthread_create(&thread, NULL, fork_here, NULL) == 0);
		CHECK(pthread_join(thread, NULL) == 0);
	}
	puts("ended");
	return 0;
}
