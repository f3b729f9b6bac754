/*
 * reuse ROUNDS
 *
 * Has the kernel drop parts of blocks of its own, by madvise(MADV_DONTNEED), and expects zeros there and everything else untouched; also in
 * blocks of memory that was free a moment ago, or for a while.
 */
#include "check.h"

#include <sys/mman.h>

#define BLOCKS 6
#define BYTES (4 * MIB)
#define PART (BYTES / 4)

static char *block(uint64_t seed)
{
	char *start;
	CHECK((start = aligned_alloc(PAGE, BYTES)));
	/* Not touched by us since it was free. */
	CHECK(madvise(start + 2 * PART, PART, MADV_DONTNEED) == 0);
	check_zero(start + 2 * PART, PART);
	for (uint64_t part = 0; part < 4; part++)
		fill(start + part * PART, PART, seed + part);
	CHECK(madvise(start + PART, PART, MADV_DONTNEED) == 0);
	check_zero(start + PART, PART);
	return start;
}

static void check_block(const char *start, uint64_t seed)
{
	check_zero(start + PART, PART);
	for (uint64_t part = 0; part < 4; part++)
		if (part != 1)
			check_filled(start + part * PART, PART, seed + part);
}

int main(int argc, char **argv)
{
	CHECK(argc == 2);
	for (uint64_t round = 0; round < number(argv[1]); round++) {
		char *blocks[BLOCKS];
		uint64_t seed = round * 100 + 1;
		for (uint64_t i = 0; i < BLOCKS; i++)
			blocks[i] = block(seed + 4 * i);
		/* One is freed, and had again at once. */
		check_block(blocks[0], seed);
		free(blocks[0]);
		blocks[0] = block(seed);
		if (round % 2)
			sleep_ms(250);
		for (uint64_t i = 0; i < BLOCKS; i++) {
			check_block(blocks[i], seed + 4 * i);
			free(blocks[i]);
		}
		if (round % 4 > 1)
			sleep_ms(250);
	}
	puts("all data stays");
	return 0;
}
