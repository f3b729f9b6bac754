/*
 * huge_pages
 *
 * Large blocks that are used as a whole, and freed together, again and again: a program that works in phases.
 */
#include "check.h"

#define SETTING "/sys/kernel/mm/transparent_hugepage/enabled"
#define COUNT 16
#define BYTES (4 * MIB)

int main(void)
{
	char setting[256];
	if (access(SETTING, R_OK) != 0 || !read_file(SETTING, setting, sizeof(setting)) ||
	    strstr(setting, "[never]")) {
		puts("this kernel gives no huge pages");
		return SKIPPED;
	}
	for (uint64_t round = 0; round < 3; round++) {
		void *blocks[COUNT];
		for (size_t i = 0; i < COUNT; i++) {
			CHECK((blocks[i] = malloc(BYTES)));
			fill(blocks[i], BYTES, round * COUNT + i + 1);
		}
		/* What comes before the first block and after the last is small. */
		double huge = mib_in("/proc/self/smaps_rollup", "AnonHugePages"), all = (double)(COUNT * BYTES) / MIB;
		if (huge < 0.9 * all)
			FAIL("only %.0f MiB of %.0f are in huge pages\n", huge, all);
		for (size_t i = 0; i < COUNT; i++) {
			check_filled(blocks[i], BYTES, round * COUNT + i + 1);
			free(blocks[i]);
		}
	}
	puts("in huge pages");
	return 0;
}
