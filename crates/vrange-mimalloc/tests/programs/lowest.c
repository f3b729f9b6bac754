/*
 * lowest FILE
 *
 * Started without standard error, it has a file of its own under that number, and keeps it until its end.
 */
#include "check.h"

int main(int argc, char **argv)
{
	CHECK(argc == 2);
	CHECK(open(argv[1], O_WRONLY) == STDERR_FILENO);
	for (uint64_t round = 0; round < 4; round++) {
		void *block = malloc(4 * MIB);
		CHECK(block);
		fill(block, 4 * MIB, round);
		check_filled(block, 4 * MIB, round);
		free(block);
	}
	puts("done");
	return 0;
}
