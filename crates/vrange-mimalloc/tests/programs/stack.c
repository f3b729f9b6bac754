/*
 * stack ROUNDS
 *
 * Has a thread with the smallest stack that there is allocate and free large blocks.
 */
#include "check.h"

#include <limits.h>
#include <pthread.h>

#define BLOCKS 24
#define BYTES (256 * 1024ul)

static void *blocks[BLOCKS];
static size_t rounds;

static void *churn(void *unused)
{
	for (uint64_t round = 1; round <= rounds; round++) {
		for (uint64_t i = 0; i < BLOCKS; i++) {
			CHECK((blocks[i] = round % 2 ? malloc(BYTES + i * PAGE) : calloc(1, BYTES + i * PAGE)));
			if (round % 2 == 0)
				check_zero(blocks[i], BYTES + i * PAGE);
			fill(blocks[i], BYTES + i * PAGE, round * BLOCKS + i);
		}
		for (uint64_t i = 0; i < BLOCKS; i++) {
			check_filled(blocks[i], BYTES + i * PAGE, round * BLOCKS + i);
			free(blocks[i]);
		}
		/* Some of it is offered now and then. */
		if (round % 4 == 0)
			sleep_ms(150);
	}
	return unused;
}

int main(int argc, char **argv)
{
	CHECK(argc == 2);
	rounds = number(argv[1]);
	pthread_attr_t small;
	pthread_t thread;
	CHECK(pthread_attr_init(&small) == 0);
	CHECK(pthread_attr_setstacksize(&small, PTHREAD_STACK_MIN) == 0);
	CHECK(pthread_create(&thread, &small, churn, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	puts("all data stays");
	return 0;
}
