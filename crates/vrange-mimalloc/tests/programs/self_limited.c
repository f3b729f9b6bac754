/*
 * self_limited MIB CALL
 *
 * A process that limits its address space itself to MIB MiB, by setrlimit or prlimit, and has two thirds of that besides what it has allocated by then.
 */
#include "check.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define BLOCKS 64

static void *blocks[BLOCKS];

static void take(uint64_t seed)
{
	for (uint64_t i = 0; i < BLOCKS; i++) {
		CHECK((blocks[i] = malloc(MIB)));
		fill(blocks[i], MIB, seed + i);
	}
}

static void give(uint64_t seed)
{
	for (uint64_t i = 0; i < BLOCKS; i++) {
		check_filled(blocks[i], MIB, seed + i);
		free(blocks[i]);
	}
}

static void *visit(void *block)
{
	free(block);
	return malloc(MIB);
}

int main(int argc, char **argv)
{
	CHECK(argc == 3);
	size_t bytes = number(argv[1]) * MIB;
	double before = resident_mib();
	take(1);
	struct rlimit limit = { bytes, bytes }, old;
	if (!strcmp(argv[2], "prlimit"))
		CHECK(prlimit(0, RLIMIT_AS, &limit, &old) == 0 && old.rlim_cur == RLIM_INFINITY);
	else
		CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
	CHECK(getrlimit(RLIMIT_AS, &old) == 0 && old.rlim_cur == bytes);
	/* What it maps itself, and what others map for it. */
	void *map = mmap(NULL, bytes / 3 * 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(map != MAP_FAILED && munmap(map, bytes / 3 * 2) == 0);
	pthread_t thread;
	void *block;
	CHECK(pthread_create(&thread, NULL, visit, malloc(MIB)) == 0 && pthread_join(thread, &block) == 0);
	free(block);
	give(1);
	/* It is limited. */
	CHECK(mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED && errno == ENOMEM);
	/* More than it had, in blocks of many sizes. */
	for (uint64_t round = 1; round <= 3; round++) {
		take(round * 100);
		void *larger[6];
		for (uint64_t i = 0; i < 6; i++) {
			CHECK((larger[i] = calloc(1, (4 << i) * MIB)));
			check_zero(larger[i], (4 << i) * MIB);
			fill(larger[i], (4 << i) * MIB, i);
		}
		give(round * 100);
		for (uint64_t i = 0; i < 6; i++) {
			check_filled(larger[i], (4 << i) * MIB, i);
			free(larger[i]);
		}
	}
	await_below(before + 64);
	puts("given back");
	return 0;
}
