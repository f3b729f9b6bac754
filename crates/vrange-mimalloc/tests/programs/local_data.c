/*
 * local_data
 *
 * A program with so much thread-local data that little would be left of a small stack, on which libc puts it. It frees memory, and is idle until that
 * is gone.
 */
#include "check.h"

#define BLOCKS 32

static __thread char data[225 * 1024];

int main(void)
{
	void *blocks[BLOCKS];
	double before = resident_mib();
	memset(data, 1, sizeof(data));
	for (uint64_t i = 0; i < BLOCKS; i++) {
		CHECK((blocks[i] = malloc(MIB)));
		fill(blocks[i], MIB, i);
	}
	for (uint64_t i = 0; i < BLOCKS; i++) {
		check_filled(blocks[i], MIB, i);
		free(blocks[i]);
	}
	await_below(before + BLOCKS / 4);
	for (size_t i = 0; i < sizeof(data); i++)
		CHECK(data[i] == 1);
	puts("given back");
	return 0;
}
