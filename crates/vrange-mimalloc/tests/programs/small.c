/*
 * small ROUNDS
 *
 * Many small blocks, of which most are freed. The others stay for a while, and are as they were.
 */
#include "check.h"

#define COUNT 100000
#define BYTES_MAX 1000

struct block {
	void *start;
	size_t bytes;
};

static struct block blocks[COUNT];

int main(int argc, char **argv)
{
	CHECK(argc == 2);
	/* A program that allocates nothing large is left as it is with mimalloc. */
	void *volatile large = malloc(1 << 20);
	free(large);
	uint64_t random = 88172645463325252ul;
	for (size_t round = 0; round < number(argv[1]); round++) {
		for (uint64_t i = 0; i < COUNT; i++) {
			if (blocks[i].start)
				continue;
			blocks[i].bytes = 8 + next_random(&random) % BYTES_MAX;
			CHECK((blocks[i].start = malloc(blocks[i].bytes)));
			fill(blocks[i].start, blocks[i].bytes, i + 1);
		}
		/* Neighbours go together, so that whole pages are free; and some that are alone. */
		for (size_t i = 0; i < COUNT; i++) {
			if (i % 2000 >= 1500 && next_random(&random) % 4)
				continue;
			free(blocks[i].start);
			blocks[i].start = NULL;
		}
		sleep_ms(400);
		for (uint64_t i = 0; i < COUNT; i++)
			if (blocks[i].start)
				check_filled(blocks[i].start, blocks[i].bytes, i + 1);
	}
	puts("all data stays");
	return 0;
}
