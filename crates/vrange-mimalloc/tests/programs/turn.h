/* A turn of large blocks, and a pair of handlers for pthread_atfork, each of which takes such a turn. */
#ifndef TURN_H
#define TURN_H

#include "check.h"

#include <stdatomic.h>

#define BLOCKS 4
#define BYTES (3 * MIB)

static _Atomic uint64_t seeds = 1;
/* Made before a fork and freed after it, by parent and child. */
static void *kept;
static uint64_t kept_seed;

static inline void turn(void)
{
	void *blocks[BLOCKS];
	uint64_t seed = atomic_fetch_add(&seeds, BLOCKS);
	for (uint64_t i = 0; i < BLOCKS; i++) {
		CHECK((blocks[i] = malloc(BYTES)));
		fill(blocks[i], BYTES, seed + i);
	}
	for (uint64_t i = 0; i < BLOCKS; i++) {
		check_filled(blocks[i], BYTES, seed + i);
		free(blocks[i]);
	}
}

static inline void before_fork(void)
{
	turn();
	kept_seed = atomic_fetch_add(&seeds, 1);
	CHECK((kept = malloc(BYTES)));
	fill(kept, BYTES, kept_seed);
}

static inline void after_fork(void)
{
	check_filled(kept, BYTES, kept_seed);
	free(kept);
	turn();
}

#endif
