/*
 * locked_all
 *
 * Locks all that it has (mlockall). What it does not use takes no memory by that, and does not count.
 */
#include "check.h"

#include <sys/mman.h>
#include <sys/resource.h>

#define BLOCKS 64
/* More than any program like this one has. */
#define LIMIT (512 * MIB)
/* mimalloc's books take 18 MiB for each 8 GiB of an arena when they are locked, and there are up to eight. */
#define BOOKS_MIB 160

int main(void)
{
	void *blocks[BLOCKS];
	CHECK((blocks[0] = malloc(MIB)));
	fill(blocks[0], MIB, 1);
	struct rlimit limit;
	CHECK(getrlimit(RLIMIT_MEMLOCK, &limit) == 0);
	if (limit.rlim_cur > LIMIT)
		limit.rlim_cur = LIMIT;
	CHECK(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
	double before = resident_mib();
	if (mlockall(MCL_CURRENT) != 0) {
		printf("mlockall: %s\n", strerror(errno));
		return SKIPPED;
	}
	if (resident_mib() > before + BOOKS_MIB)
		FAIL("%.0f MiB in memory after mlockall, %.0f before\n", resident_mib(), before);
	double locked = mib_in("/proc/self/status", "VmLck");
	if (locked > (double)LIMIT / MIB)
		FAIL("%.0f MiB are locked\n", locked);
	CHECK(munlockall() == 0);
	/* There is memory to be had as before. */
	for (uint64_t round = 0; round < 3; round++) {
		for (size_t i = round ? 0 : 1; i < BLOCKS; i++) {
			CHECK((blocks[i] = malloc(MIB)));
			fill(blocks[i], MIB, round * BLOCKS + i + 1);
		}
		for (size_t i = 0; i < BLOCKS; i++) {
			check_filled(blocks[i], MIB, round * BLOCKS + i + 1);
			free(blocks[i]);
		}
	}
	puts("locked");
	return 0;
}
