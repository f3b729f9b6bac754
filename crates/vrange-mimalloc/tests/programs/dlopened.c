/*
 * dlopened LIBRARY…
 *
 * Loads allocators for itself, where no other library sees their functions, and uses them beside the one that it has. What they free
 * is given back.
 */
#include "check.h"

#include <dlfcn.h>

#define BLOCKS 48
#define BYTES (MIB + 3 * PAGE)

struct allocator {
	void *(*malloc)(size_t);
	void *(*calloc)(size_t, size_t);
	void *(*realloc)(void *, size_t);
	void (*free)(void *);
};

static void *find(void *library, const char *name)
{
	void *found = dlsym(library, name);
	CHECK(found);
	return found;
}

static void use(const struct allocator *from, uint64_t seed)
{
	void *blocks[BLOCKS];
	for (uint64_t i = 0; i < BLOCKS; i++) {
		CHECK((blocks[i] = from->malloc(BYTES)));
		fill(blocks[i], BYTES, seed + i);
	}
	for (uint64_t i = 0; i < BLOCKS; i += 2) {
		from->free(blocks[i]);
		CHECK((blocks[i] = from->calloc(1, BYTES)));
		check_zero(blocks[i], BYTES);
		fill(blocks[i], BYTES, seed + i);
		CHECK((blocks[i] = from->realloc(blocks[i], 2 * BYTES)));
	}
	for (uint64_t i = 0; i < BLOCKS; i++) {
		check_filled(blocks[i], BYTES, seed + i);
		from->free(blocks[i]);
	}
}

int main(int argc, char **argv)
{
	const struct allocator own = { malloc, calloc, realloc, free };
	for (int i = 1; i < argc; i++) {
		void *library = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);
		if (!library) {
			printf("%s\n", dlerror());
			return SKIPPED;
		}
		struct allocator other;
		other.malloc = find(library, "malloc");
		other.calloc = find(library, "calloc");
		other.realloc = find(library, "realloc");
		other.free = find(library, "free");
		CHECK(other.malloc != own.malloc);
		double before = resident_mib();
		for (uint64_t round = 1; round <= 3; round++) {
			use(&other, round * 1000);
			use(&own, round * 1000 + 500);
		}
		await_below(before + 16);
		printf("given back by %s\n", argv[i]);
	}
	return 0;
}
