/*
 * merged
 *
 * Opens blocks to KSM, and frees them when they are merged. Later it has other memory with the same contents, open to KSM too, which lives.
 */
#include "check.h"

#include <sys/mman.h>

#define PAGES 512
#define BYTES (PAGES * PAGE)

/* Equal pages in all that this fills, and in nothing else. */
static void fill_alike(char *start)
{
	for (uint64_t page = 0; page < PAGES; page++)
		fill(start + page * PAGE, PAGE, (uint64_t)getpid() * PAGES + page + 1);
}

static void await_merged(unsigned long pages)
{
	double until = now() + 100;
	for (;;) {
		char text[64];
		read_file("/proc/self/ksm_merging_pages", text, sizeof(text));
		if (strtoul(text, NULL, 10) >= pages)
			return;
		if (now() > until)
			FAIL("KSM has merged %s", text);
		sleep_ms(2);
	}
}

static char *mergeable_block(void)
{
	char *block = aligned_alloc(PAGE, BYTES);
	CHECK(block);
	fill_alike(block);
	CHECK(madvise(block, BYTES, MADV_MERGEABLE) == 0);
	return block;
}

int main(void)
{
	if (access("/proc/self/ksm_merging_pages", R_OK) != 0) {
		puts("the kernel does not tell what KSM has merged");
		return SKIPPED;
	}
	char *first = mergeable_block(), *second = mergeable_block();
	await_merged(2 * PAGES);
	/* Now the first has its pages alone, as it seems. */
	free(second);
	sleep_ms(600);
	free(first);
	sleep_ms(600);
	char *live = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(live != MAP_FAILED);
	fill_alike(live);
	CHECK(madvise(live, BYTES, MADV_MERGEABLE) == 0);
	/* Long enough for KSM to go round a few times. */
	sleep_ms(700);
	puts("merged");
	fflush(stdout);
	/* Now memory gets short, until we are told. */
	char line[16];
	CHECK(fgets(line, sizeof(line), stdin));
	for (uint64_t page = 0; page < PAGES; page++)
		check_filled(live + page * PAGE, PAGE, (uint64_t)getpid() * PAGES + page + 1);
	puts("all data stays");
	return 0;
}
