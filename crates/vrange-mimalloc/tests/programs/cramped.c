/*
 * cramped
 *
 * Processes that allocate and free a large block where there is next to no address space left, each with a little more of it than the one before.
 */
#include "check.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define STEP_KIB 32
#define MAX_KIB 1536
#define BYTES (256 * 1024ul)

/* By the system call, so that nobody makes room. */
static void leave(size_t kib)
{
	char text[256];
	unsigned long pages;
	read_file("/proc/self/statm", text, sizeof(text));
	CHECK(sscanf(text, "%lu", &pages) == 1);
	struct rlimit limit = { pages * PAGE + kib * 1024, pages * PAGE + kib * 1024 };
	CHECK(syscall(SYS_prlimit64, 0, RLIMIT_AS, &limit, NULL) == 0);
}

static void live(void)
{
	for (uint64_t round = 1; round < 4; round++) {
		void *block = malloc(BYTES);
		if (!block)
			_exit(0);
		fill(block, BYTES, round);
		/* Whoever has come to life by now does what it does first. */
		sleep_ms(3);
		check_filled(block, BYTES, round);
		free(block);
	}
	_exit(0);
}

int main(void)
{
	for (size_t kib = 0; kib <= MAX_KIB; kib += STEP_KIB) {
		pid_t child = fork();
		CHECK(child >= 0);
		if (child == 0) {
			leave(kib);
			live();
		}
		int status;
		CHECK(waitpid(child, &status, 0) == child);
		if (status != 0)
			FAIL("with %zu KiB left: %x\n", kib, status);
	}
	puts("all data stays");
	return 0;
}
