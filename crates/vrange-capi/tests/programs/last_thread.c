/* A process ends when the last thread of its program has returned; the library's own does not count. */
#define _GNU_SOURCE
#include <vrange.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BYTES ((size_t)1 << 20)
#define WAIT_TENTHS 200

static void require(int condition, const char *what)
{
	if (!condition) {
		fprintf(stderr, "%s\n", what);
		exit(1);
	}
}

/* Starts the library's thread, and returns from the only other one. */
static void leave(void)
{
	/* Not lost with the thread's stack. */
	static vrange_heap *heap;
	static vrange_buffer *buffer;
	void *data = NULL;
	require(vrange_heap_new(NULL, 0, &heap) == 0, "a heap");
	require(vrange_buffer_new(heap, BYTES, &buffer) == 0, "a buffer");
	require(vrange_buffer_pin_mut(buffer, &data) == 0, "a pin");
	memset(data, 1, BYTES);
	require(vrange_buffer_unpin(buffer) == 0, "an unpin");
#ifdef __SANITIZE_ADDRESS__
	/* glibc does not free its list of a main thread's destructors (__cxa_thread_atexit_impl) if another thread is the last to leave,
	   which the library's is until it has taken itself out of the count. LeakSanitizer finds that list. */
	nanosleep(&(struct timespec){ .tv_sec = 2 }, NULL);
#endif
	/* The end of this thread is the end of the process, with status 0. */
	pthread_exit(NULL);
}

int main(void)
{
	pid_t child = fork();
	require(child >= 0, "a fork");
	if (child == 0)
		leave();
	int status = 0, tenths = 0;
	while (waitpid(child, &status, WNOHANG) == 0) {
		if (++tenths > WAIT_TENTHS) {
			/* It hears of no other signal. */
			kill(child, SIGKILL);
			waitpid(child, &status, 0);
			require(0, "the process did not end");
		}
		nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
	}
	require(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child's status");
	puts("the process ended with its last thread");
	return 0;
}
