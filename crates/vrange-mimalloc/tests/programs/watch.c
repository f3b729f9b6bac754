/*
 * A library as people preload them: it stands before the allocator, and counts its calls. At exit it tells how many there were, and
 * how many of them came from other threads than the first.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static atomic_long calls, calls_of_others;

static void *(*next_malloc)(size_t);
static void *(*next_calloc)(size_t, size_t);
static void *(*next_realloc)(void *, size_t);
static void *(*next_memalign)(size_t, size_t);
static int (*next_posix_memalign)(void **, size_t, size_t);
static void *(*next_aligned_alloc)(size_t, size_t);
static void (*next_free)(void *);

/* What is asked for while the allocator is looked for. */
static char early[1 << 16];
static atomic_size_t early_used;

static void *from_early(size_t bytes)
{
	size_t at = atomic_fetch_add(&early_used, (bytes + 15) / 16 * 16);
	return at + bytes <= sizeof(early) ? early + at : NULL;
}

static int is_early(const void *block)
{
	return (uintptr_t)block - (uintptr_t)early < sizeof(early);
}

static int find(void)
{
	static atomic_int looking;
	if (next_free)
		return 1;
	if (atomic_exchange(&looking, 1))
		return 0;
	next_malloc = dlsym(RTLD_NEXT, "malloc");
	next_calloc = dlsym(RTLD_NEXT, "calloc");
	next_realloc = dlsym(RTLD_NEXT, "realloc");
	next_memalign = dlsym(RTLD_NEXT, "memalign");
	next_posix_memalign = dlsym(RTLD_NEXT, "posix_memalign");
	next_aligned_alloc = dlsym(RTLD_NEXT, "aligned_alloc");
	next_free = dlsym(RTLD_NEXT, "free");
	atomic_store(&looking, 0);
	return 1;
}

static void count(void)
{
	atomic_fetch_add(&calls, 1);
	if (gettid() != getpid())
		atomic_fetch_add(&calls_of_others, 1);
}

void *malloc(size_t bytes)
{
	count();
	return find() ? next_malloc(bytes) : from_early(bytes);
}

void *calloc(size_t number, size_t bytes)
{
	count();
	return find() ? next_calloc(number, bytes) : from_early(number * bytes);
}

void *realloc(void *block, size_t bytes)
{
	count();
	if (!is_early(block))
		return find() ? next_realloc(block, bytes) : NULL;
	void *other = malloc(bytes);
	size_t left = (size_t)(early + sizeof(early) - (char *)block);
	return other ? memcpy(other, block, bytes < left ? bytes : left) : NULL;
}

void *memalign(size_t alignment, size_t bytes)
{
	count();
	return find() ? next_memalign(alignment, bytes) : NULL;
}

int posix_memalign(void **block, size_t alignment, size_t bytes)
{
	count();
	return find() ? next_posix_memalign(block, alignment, bytes) : 12;
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
	count();
	return find() ? next_aligned_alloc(alignment, bytes) : NULL;
}

void free(void *block)
{
	count();
	if (block && !is_early(block) && find())
		next_free(block);
}

__attribute__((destructor)) static void tell(void)
{
	dprintf(STDERR_FILENO, "watch: %ld calls, %ld in other threads\n", calls, calls_of_others);
}
