/*
 * limited MIB
 *
 * A process that may have MIB MiB of address space (RLIMIT_AS) allocates until there is no more, twice, and tells how many MiB it
 * could have.
 */
#include "check.h"

#include <sys/mman.h>

#define MAX 4096

static void *blocks[MAX];

static size_t take_all(uint64_t seed)
{
	size_t count = 0;
	errno = 0;
	while (count < MAX && (blocks[count] = malloc(MIB))) {
		fill(blocks[count], MIB, seed + count);
		count++;
	}
	CHECK(count < MAX && errno == ENOMEM);
	return count;
}

static void give_all(size_t count, uint64_t seed)
{
	for (size_t i = 0; i < count; i++) {
		check_filled(blocks[i], MIB, seed + i);
		free(blocks[i]);
	}
}

static void refused(void)
{
	void *block = malloc(MIB);
	CHECK(block);
	fill(block, MIB, 9);
	errno = 0;
	CHECK(!malloc(MAX * MIB) && errno == ENOMEM);
	errno = 0;
	CHECK(!calloc(MAX, MIB) && errno == ENOMEM);
	errno = 0;
	CHECK(!realloc(block, MAX * MIB) && errno == ENOMEM);
	check_filled(block, MIB, 9);
	/* More than there are addresses. */
	volatile size_t huge = SIZE_MAX / 2 + 2;
	errno = 0;
	CHECK(!malloc(huge) && errno == ENOMEM);
	/* tcmalloc sets no errno here. */
	CHECK(!calloc(huge, 16));
	free(block);
}

int main(int argc, char **argv)
{
	CHECK(argc == 2);
	size_t mib = number(argv[1]);
	/* What the program maps itself. */
	size_t mapped = mib / 10 * 6 * MIB;
	void *map = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	printf("maps %zu MiB itself: %s\n", mapped / MIB, map == MAP_FAILED ? strerror(errno) : "ok");
	if (map != MAP_FAILED)
		CHECK(munmap(map, mapped) == 0);
	size_t first = take_all(1);
	give_all(first, 1);
	refused();
	size_t second = take_all(100000);
	give_all(second, 100000);
	if (second < first / 4 * 3)
		FAIL("first %zu MiB, then %zu\n", first, second);
	printf("had %zu MiB\n", first);
	return 0;
}
