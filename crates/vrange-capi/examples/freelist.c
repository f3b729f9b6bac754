/*
 * An allocator of equal blocks that gives memory back as willingly as one that calls madvise(MADV_DONTNEED), at the price of one
 * that never does: free blocks are marked volatile, and taken back by an unmark.
 *
 *	cc freelist.c $(pkg-config --cflags --libs vrange) -o freelist && ./freelist
 */
#define _DEFAULT_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <vrange.h>

enum { BLOCKS = 256, BLOCK_BYTES = 64 * 1024 };

struct arena {
	char *memory;
	/* The numbers of free blocks. Not in the blocks: what is written into free memory is lost with it. */
	int free[BLOCKS];
	int free_count;
};

static void or_exit(int status, const char *what)
{
	if (status < 0) {
		fprintf(stderr, "%s: %s\n", what, vrange_strerror(status));
		exit(1);
	}
}

static void arena_begin(struct arena *arena)
{
	size_t bytes = (size_t)BLOCKS * BLOCK_BYTES;

	arena->memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (arena->memory == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	/* A promise: `arena_end` tells of the mapping's end. So marks cost nanoseconds, and never allocate from here on. */
	or_exit(vrange_adopt(arena->memory, bytes), "vrange_adopt");
	or_exit(vrange_prepare(), "vrange_prepare");
	for (arena->free_count = 0; arena->free_count < BLOCKS; arena->free_count++)
		arena->free[arena->free_count] = arena->free_count;
}

static void arena_end(struct arena *arena)
{
	size_t bytes = (size_t)BLOCKS * BLOCK_BYTES;

	/* Before the kernel gives the addresses to somebody else. */
	or_exit(vrange_forget(arena->memory, bytes), "vrange_forget");
	if (munmap(arena->memory, bytes) != 0)
		perror("munmap");
}

static char *arena_take(struct arena *arena)
{
	if (arena->free_count == 0)
		return NULL;
	char *block = arena->memory + (size_t)arena->free[--arena->free_count] * BLOCK_BYTES;
	/* Whether anything was lost does not matter: what is in a new block is nobody's business. */
	or_exit(vrange_unmark(block, BLOCK_BYTES, NULL), "vrange_unmark");
	return block;
}

static void arena_give(struct arena *arena, char *block)
{
	or_exit(vrange_mark(block, BLOCK_BYTES), "vrange_mark");
	arena->free[arena->free_count++] = (int)((block - arena->memory) / BLOCK_BYTES);
}

int main(void)
{
	struct arena arena;
	char *blocks[BLOCKS];
	vrange_mark_stats stats;

	arena_begin(&arena);
	for (int round = 0; round < 100; round++) {
		for (int i = 0; i < BLOCKS; i++) {
			blocks[i] = arena_take(&arena);
			memset(blocks[i], round + i + 1, BLOCK_BYTES);
		}
		/* As if memory were short: the kernel may take what is marked, and nothing is. */
		vrange_offer(UINT64_MAX);
		for (int i = 0; i < BLOCKS; i++) {
			if (blocks[i][BLOCK_BYTES - 1] != (char)(round + i + 1)) {
				fprintf(stderr, "block %d of round %d is wrong\n", i, round);
				return 1;
			}
			arena_give(&arena, blocks[i]);
		}
	}
	or_exit(vrange_marks_get_stats(&stats, sizeof(stats)), "vrange_marks_get_stats");
	printf("%llu bytes are free and still there, for the kernel to take when it needs them\n",
	       (unsigned long long)(stats.marked.bytes + stats.offered_now.bytes));
	arena_end(&arena);
	return stats.marked.bytes + stats.offered_now.bytes == (uint64_t)BLOCKS * BLOCK_BYTES ? 0 : 1;
}
