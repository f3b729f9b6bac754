/*
 * threads COUNT KIB ROUNDS
 *
 * So many threads are there at once, each with KIB KiB in blocks of all small sizes, which they free before they end. Afterwards the
 * memory goes.
 */
#include "check.h"

#include <pthread.h>

#define SIZES 15
#define STACK_BYTES (64ul << 10)

static size_t kib;
static pthread_barrier_t barrier;

struct block {
	struct block *next;
	size_t bytes;
	uint64_t seed;
};

static void *work(void *number)
{
	struct block *blocks = NULL;
	uint64_t seed = (uint64_t)(uintptr_t)number << 20;
	for (size_t bytes = 0; bytes < kib << 10; seed++) {
		/* 32 bytes to 512 KiB. */
		size_t size = (size_t)32 << seed % SIZES;
		struct block *block = malloc(size);
		CHECK(block);
		*block = (struct block){ blocks, size, seed };
		fill(block + 1, size - sizeof(*block), seed);
		blocks = block;
		bytes += size;
	}
	pthread_barrier_wait(&barrier);
	while (blocks) {
		struct block *block = blocks;
		blocks = block->next;
		check_filled(block + 1, block->bytes - sizeof(*block), block->seed);
		free(block);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	CHECK(argc == 4);
	size_t count = number(argv[1]);
	kib = number(argv[2]);
	pthread_attr_t attributes;
	pthread_attr_init(&attributes);
	CHECK(pthread_attr_setstacksize(&attributes, STACK_BYTES) == 0);
	pthread_t *threads = calloc(count, sizeof(*threads));
	CHECK(threads && pthread_barrier_init(&barrier, NULL, (unsigned)count) == 0);
	double before = resident_mib();
	double all = (double)(count * kib) / 1024;
	for (size_t round = 0; round < number(argv[3]); round++) {
		for (uintptr_t i = 0; i < count; i++) {
			int error = pthread_create(&threads[i], &attributes, work, (void *)(round * count + i + 1));
			if (error && round == 0) {
				printf("no more than %zu threads: %s\n", (size_t)i, strerror(error));
				return SKIPPED;
			}
			CHECK(error == 0);
		}
		for (size_t i = 0; i < count; i++)
			CHECK(pthread_join(threads[i], NULL) == 0);
	}
	await_below(before + all / 4 + 8);
	puts("given back");
	return 0;
}
