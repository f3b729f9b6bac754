/*
 * locked
 *
 * Frees memory that it has locked (mlock) and does not unlock. That stays; what else is free goes, and nobody is busy with what cannot go.
 */
#include "check.h"

#include <sys/mman.h>

#define LOCKED 2
#define OTHERS 128

static void *blocks[OTHERS];

static void take(size_t count, uint64_t seed)
{
	for (size_t i = 0; i < count; i++) {
		CHECK((blocks[i] = malloc(MIB)));
		fill(blocks[i], MIB, seed + i);
	}
}

static void give(size_t first, size_t count, uint64_t seed)
{
	for (size_t i = first; i < count; i++) {
		check_filled(blocks[i], MIB, seed + i);
		free(blocks[i]);
	}
}

static double processor_time(void)
{
	struct timespec time;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(void)
{
	double before = resident_mib();
	take(OTHERS, 1);
	for (size_t i = 0; i < LOCKED; i++)
		if (mlock(blocks[i * OTHERS / LOCKED], MIB) != 0) {
			printf("mlock: %s\n", strerror(errno));
			return SKIPPED;
		}
	give(0, OTHERS, 1);
	/* Memory goes in pieces of 4 MiB; those that a locked block lies in may stay. */
	await_below(before + LOCKED * 8 + 8);
	double busy = processor_time();
	sleep_ms(1000);
	busy = processor_time() - busy;
	if (busy > 0.3)
		FAIL("%.2f s of processor time in a second of idleness\n", busy);
	/* It can be had again, and is what it has to be. */
	for (uint64_t round = 2; round < 6; round++) {
		take(OTHERS, round * 100);
		give(0, OTHERS / 2, round * 100);
		for (size_t i = 0; i < OTHERS / 2; i++) {
			CHECK((blocks[i] = calloc(1, MIB)));
			check_zero(blocks[i], MIB);
			fill(blocks[i], MIB, round * 100 + i);
		}
		sleep_ms(150);
		give(0, OTHERS, round * 100);
	}
	puts("given back");
	return 0;
}
