/*
 * churn SECONDS MIB MIN MAX SEED
 *
 * Four threads allocate and free blocks of MIN to MAX bytes in all ways, together MIB MiB at a time, and pass some on to each other. Every
 * block has a pattern of its own, which is checked before the block is freed, and after it has grown.
 */
#include "check.h"

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>

#define THREADS 4
#define SLOTS 64
#define PASSED 16
/* Larger blocks are not passed on, and do not grow, so that there is never much more memory in use than is said. */
#define MODEST (2 * MIB)

struct block {
	void *start;
	size_t bytes;
	uint64_t seed;
};

static double until;
static size_t live_max, bytes_min, bytes_max;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct block passed[PASSED];
static _Atomic uint64_t seeds = 1, operations;

/* As many of 16 to 32 bytes as of 8 to 16 MiB. */
static size_t random_bytes(uint64_t *random)
{
	size_t octaves = 0;
	while (bytes_min << octaves < bytes_max)
		octaves++;
	size_t lowest = bytes_min << next_random(random) % (octaves + (octaves == 0));
	size_t bytes = lowest + next_random(random) % lowest;
	return bytes < bytes_max ? bytes : bytes_max;
}

static struct block make(size_t bytes, uint64_t *random)
{
	struct block block = { NULL, bytes, atomic_fetch_add(&seeds, 1) };
	size_t alignment = (size_t)16 << next_random(random) % 13;
	switch (next_random(random) % 4) {
	case 0:
		CHECK((block.start = malloc(bytes)));
		break;
	case 1:
		CHECK((block.start = calloc(bytes / 8 + 1, 8)));
		check_zero(block.start, bytes);
		break;
	case 2:
		CHECK((block.start = memalign(alignment, bytes)));
		CHECK((uintptr_t)block.start % alignment == 0);
		break;
	default:
		CHECK(posix_memalign(&block.start, alignment, bytes) == 0);
		CHECK((uintptr_t)block.start % alignment == 0);
	}
	CHECK(malloc_usable_size(block.start) >= bytes);
	fill(block.start, bytes, block.seed);
	return block;
}

static void resize(struct block *block, size_t bytes)
{
	size_t kept = bytes < block->bytes ? bytes : block->bytes;
	check_filled(block->start, block->bytes, block->seed);
	CHECK((block->start = realloc(block->start, bytes)));
	check_filled(block->start, kept / 8 * 8, block->seed);
	fill_from(block->start, kept, bytes, block->seed);
	block->bytes = bytes;
}

static void drop(struct block *block)
{
	if (block->start) {
		check_filled(block->start, block->bytes, block->seed);
		free(block->start);
	}
	*block = (struct block){ 0 };
}

/* Another thread's block for one of ours. */
static void exchange(struct block *block, size_t place)
{
	pthread_mutex_lock(&lock);
	struct block other = passed[place];
	passed[place] = *block;
	pthread_mutex_unlock(&lock);
	*block = other;
}

static size_t live(const struct block *slots)
{
	size_t bytes = 0;
	for (size_t slot = 0; slot < SLOTS; slot++)
		bytes += slots[slot].bytes;
	return bytes;
}

static void *churn(void *seed)
{
	struct block slots[SLOTS] = { 0 };
	uint64_t random = (uint64_t)(uintptr_t)seed * 0x9e3779b97f4a7c15ul + 1;
	double rest = now() + 0.3;
	while (now() < until) {
		struct block *block = &slots[next_random(&random) % SLOTS];
		size_t bytes = random_bytes(&random);
		int is_modest = block->start && block->bytes <= MODEST;
		if (is_modest && next_random(&random) % 3 == 0 && live(slots) + bytes < live_max)
			resize(block, bytes);
		else if (is_modest && next_random(&random) % 4 == 0)
			exchange(block, next_random(&random) % PASSED);
		else {
			drop(block);
			if (live(slots) + bytes < live_max)
				*block = make(bytes, &random);
		}
		atomic_fetch_add(&operations, 1);
		if (now() > rest) {
			/* Most of it is free for a while: long enough to be offered. */
			for (size_t slot = 0; slot < SLOTS * 3 / 4; slot++)
				drop(&slots[slot]);
			sleep_ms(250);
			rest = now() + 0.3;
		}
	}
	for (size_t slot = 0; slot < SLOTS; slot++)
		drop(&slots[slot]);
	return NULL;
}

int main(int argc, char **argv)
{
	CHECK(argc == 6);
	/* A program that allocates nothing large is left as it is with mimalloc. */
	void *volatile large = malloc(1 << 20);
	free(large);
	until = now() + (double)number(argv[1]);
	bytes_min = number(argv[3]);
	bytes_max = number(argv[4]);
	live_max = number(argv[2]) * MIB / THREADS;
	pthread_t threads[THREADS];
	for (uintptr_t i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, churn, (void *)(number(argv[5]) * THREADS + i)) == 0);
	for (size_t i = 0; i < THREADS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	for (size_t place = 0; place < PASSED; place++)
		drop(&passed[place]);
	printf("all data stays: %lu operations\n", (unsigned long)operations);
	return 0;
}
