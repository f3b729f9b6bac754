/*
 * huge_pages
 *
 * Large blocks that are used as a whole, and freed together, again and again: a program that works in phases. Ends when nine tenths of
 * them are in huge pages, which the library sees to while the program works.
 */
#include "check.h"

#include <sys/prctl.h>

#define SETTINGS "/sys/kernel/mm/transparent_hugepage/"
#define COUNT 16
#define BYTES (4 * MIB)

static int is_never(const char *setting)
{
	char text[256];
	return access(setting, R_OK) == 0 && read_file(setting, text, sizeof(text)) && strstr(text, "[never]");
}

int main(int argc, char **argv)
{
	CHECK(argc == 2);
	long seconds = atol(argv[1]);
	if (access(SETTINGS "enabled", R_OK) != 0 || is_never(SETTINGS "enabled") ||
	    is_never(SETTINGS "hugepages-2048kB/enabled") || prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) > 0) {
		puts("this kernel gives no huge pages");
		return SKIPPED;
	}
	double huge = 0, all = (double)(COUNT * BYTES) / MIB;
	time_t end = time(NULL) + seconds;
	for (uint64_t round = 0; huge < 0.9 * all; round++) {
		void *blocks[COUNT];
		if (time(NULL) > end)
			FAIL("only %.0f MiB of %.0f are in huge pages\n", huge, all);
		for (size_t i = 0; i < COUNT; i++) {
			CHECK((blocks[i] = malloc(BYTES)));
			fill(blocks[i], BYTES, round * COUNT + i + 1);
		}
		huge = mib_in("/proc/self/smaps_rollup", "AnonHugePages");
		for (size_t i = 0; i < COUNT; i++) {
			check_filled(blocks[i], BYTES, round * COUNT + i + 1);
			free(blocks[i]);
		}
	}
	puts("in huge pages");
	return 0;
}
