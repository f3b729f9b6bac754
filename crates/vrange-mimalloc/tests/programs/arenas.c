/*
 * Programs that know of jemalloc's arenas.
 *
 * arenas own             makes an arena of its own (mallctl("arenas.create")) after the start, frees memory there, and destroys it;
 *                        and again
 * arenas threads COUNT   has so many threads, each of which jemalloc gives an arena, and waits until all of these have the hooks of
 *                        the first
 */
#include "check.h"

#include <dlfcn.h>
#include <pthread.h>

#define BLOCKS 16
#define BYTES (4 * MIB)
/* jemalloc.h. */
#define ARENA(number) (((int)(number) + 1) << 20)
#define TCACHE_NONE (1 << 8)

static int (*mallctl)(const char *, void *, size_t *, void *, size_t);
static void *(*mallocx)(size_t, int);
static void (*dallocx)(void *, int);

static void *hooks(unsigned arena)
{
	char name[64];
	void *found;
	size_t bytes = sizeof(found);
	snprintf(name, sizeof(name), "arena.%u.extent_hooks", arena);
	CHECK(mallctl(name, &found, &bytes, NULL, 0) == 0);
	return found;
}

static void use(int flags, uint64_t seed)
{
	void *blocks[BLOCKS];
	for (uint64_t i = 0; i < BLOCKS; i++) {
		CHECK((blocks[i] = mallocx(BYTES, flags)));
		fill(blocks[i], BYTES, seed + i);
	}
	for (uint64_t i = 0; i < BLOCKS; i++) {
		check_filled(blocks[i], BYTES, seed + i);
		dallocx(blocks[i], flags);
	}
}

static void await_hooks(unsigned arena)
{
	double until = now() + 20;
	while (hooks(arena) != hooks(0)) {
		if (now() > until)
			FAIL("arena %u has no hooks after 20 s\n", arena);
		/* As programs do. What they free keeps the library awake. */
		free(malloc(BYTES));
		sleep_ms(10);
	}
}

static void own(void)
{
	double before = resident_mib();
	sleep_ms(300);
	for (uint64_t life = 1; life <= 2; life++) {
		unsigned arena;
		size_t bytes = sizeof(arena);
		CHECK(mallctl("arenas.create", &arena, &bytes, NULL, 0) == 0);
		int flags = ARENA(arena) | TCACHE_NONE;
		use(flags, 10000 * life);
		await_hooks(arena);
		/* What was freed before, and what is freed now. */
		for (uint64_t round = 1; round <= 6; round++)
			use(flags, 10000 * life + 100 * round);
		await_below(before + 10);
		use(flags, 10000 * life + 5000);
		/* What is marked goes with the arena. */
		char name[64];
		snprintf(name, sizeof(name), "arena.%u.destroy", arena);
		CHECK(mallctl(name, NULL, NULL, NULL, 0) == 0);
	}
	puts("given back");
}

static pthread_barrier_t barrier;

static void *wait_twice(void *unused)
{
	free(malloc(BYTES));
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	return unused;
}

static void threads(size_t count)
{
	pthread_t *threads = calloc(count, sizeof(*threads));
	CHECK(threads && pthread_barrier_init(&barrier, NULL, (unsigned)count + 1) == 0);
	for (size_t i = 0; i < count; i++)
		CHECK(pthread_create(&threads[i], NULL, wait_twice, NULL) == 0);
	pthread_barrier_wait(&barrier);
	for (unsigned arena = 0; arena <= count; arena++)
		await_hooks(arena);
	pthread_barrier_wait(&barrier);
	for (size_t i = 0; i < count; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	puts("hooked");
}

int main(int argc, char **argv)
{
	CHECK(argc >= 2);
	*(void **)&mallctl = dlsym(RTLD_DEFAULT, "mallctl");
	*(void **)&mallocx = dlsym(RTLD_DEFAULT, "mallocx");
	*(void **)&dallocx = dlsym(RTLD_DEFAULT, "dallocx");
	CHECK(mallctl && mallocx && dallocx);
	if (!strcmp(argv[1], "own"))
		own();
	else
		threads(number(argv[2]));
	return 0;
}
