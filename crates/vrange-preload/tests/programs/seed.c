/*
 * A program as one might have been written for the RFC of 2012. It knows of no library: it includes <sys/mman.h> and says 5.
 *
 * seed plain          the advice is not known: what a stock kernel does
 * seed implicit       marks, loses under the lever (MADV_PAGEOUT), reuses without a word
 * seed manners        how wrong calls are answered
 * seed squeeze MB     marks all it has, then needs MB MiB of ordinary memory
 * seed paired MB      the same with MADV_NOVOLATILE, and a check of every page
 * seed reuse          unmaps, moves and protects marked memory in all ways, in paired mode
 * seed told MB MB     protects, locks, moves and fails to unmap memory that was lost: the loss is told all the same
 * seed twice          marks memory that malloc gave back and got again, unseen
 * seed forked MB MB   a child has something else where its parent's marks were
 * seed others MB MB   marks on memory that was mapped in ways that are marked at once
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MADV_VOLATILE 5
#define MADV_NOVOLATILE 6
#define PAGE 4096ul

#define CHECK(condition)                                                                                     \
	do {                                                                                                 \
		if (!(condition)) {                                                                          \
			printf("line %d: %s; errno %d\n", __LINE__, #condition, errno);                      \
			exit(1);                                                                             \
		}                                                                                            \
	} while (0)

static char *map(size_t pages)
{
	char *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(memory != MAP_FAILED);
	return memory;
}

static void fill(char *memory, size_t pages, uint64_t seed)
{
	for (size_t page = 0; page < pages; page++)
		*(uint64_t *)(memory + page * PAGE) = seed + page;
}

static int is_filled(char *memory, size_t page, uint64_t seed)
{
	return *(uint64_t *)(memory + page * PAGE) == seed + page;
}

static void plain(void)
{
	CHECK(madvise(map(1), PAGE, MADV_VOLATILE) == -1 && errno == EINVAL);
	puts("not known");
}

static void implicit(void)
{
	const size_t pages = 64;
	char *memory = map(pages);
	fill(memory, pages, 1);
	CHECK(madvise(memory, pages * PAGE, MADV_VOLATILE) == 0);
	/* Not short of memory: all is there. */
	for (size_t page = 0; page < pages; page++)
		CHECK(is_filled(memory, page, 1));
	/* Used again without a word, which ends the mark of this page. */
	*(uint64_t *)(memory + 7 * PAGE) = 77;
	CHECK(madvise(memory, pages * PAGE, MADV_PAGEOUT) == 0);
	size_t lost = 0;
	for (size_t page = 0; page < pages; page++)
		lost += *(uint64_t *)(memory + page * PAGE) == 0;
	CHECK(*(uint64_t *)(memory + 7 * PAGE) == 77);
	/* A processor may hold some pages back for a while. */
	CHECK(lost > pages / 4);
	/* The call of the earlier versions is understood, and ends marks too. */
	fill(memory, pages, 1);
	CHECK(madvise(memory, pages * PAGE, MADV_VOLATILE) == 0);
	CHECK(madvise(memory, pages * PAGE, MADV_NOVOLATILE) == 0);
	CHECK(madvise(memory, pages * PAGE, MADV_PAGEOUT) == 0);
	for (size_t page = 0; page < pages; page++)
		CHECK(is_filled(memory, page, 1));
	puts("as the seed says");
}

static void manners(void)
{
	char *memory = map(8);
	fill(memory, 8, 1);
	CHECK(madvise(memory + 1, PAGE, MADV_VOLATILE) == -1 && errno == EINVAL);
	CHECK(madvise(memory, 1, MADV_VOLATILE) == -1 && errno == EINVAL);
	CHECK(madvise(memory, PAGE - 1, MADV_VOLATILE) == -1 && errno == EINVAL);
	errno = 0;
	CHECK(madvise(memory, 0, MADV_VOLATILE) == 0 && errno == 0);
	CHECK(madvise(memory, 2 * PAGE + 5, MADV_VOLATILE) == 0 && errno == 0);
	CHECK(mlock(memory + 4 * PAGE, PAGE) == 0);
	CHECK(madvise(memory, 8 * PAGE, MADV_VOLATILE) == -1 && errno == EINVAL);
	CHECK(is_filled(memory, 4, 1));
	CHECK(munlock(memory + 4 * PAGE, PAGE) == 0);
	CHECK(munmap(memory + 4 * PAGE, PAGE) == 0);
	CHECK(madvise(memory, 8 * PAGE, MADV_VOLATILE) == -1 && errno == ENOMEM);
	char *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(madvise(shared, PAGE, MADV_VOLATILE) == -1 && errno == EINVAL);
	/* Other advice, and advice that nobody knows, goes through. */
	CHECK(madvise(memory, PAGE, MADV_DONTNEED) == 0 && *memory == 0);
	CHECK(madvise(memory, PAGE, 9999) == -1 && errno == EINVAL);
	puts("as the seed says");
}

/* Touches ordinary memory, and gives it back. */
static void need(size_t pages)
{
	char *memory = map(pages);
	for (size_t page = 0; page < pages; page++)
		memory[page * PAGE] = 1;
	CHECK(munmap(memory, pages * PAGE) == 0);
}

static void squeeze(size_t kept_pages, size_t needed_pages)
{
	char *memory = map(kept_pages);
	fill(memory, kept_pages, 1);
	CHECK(madvise(memory, kept_pages * PAGE, MADV_VOLATILE) == 0);
	need(needed_pages);
	size_t lost = 0;
	for (size_t page = 0; page < kept_pages; page++) {
		uint64_t word = *(uint64_t *)(memory + page * PAGE);
		CHECK(word == 0 || word == 1 + page);
		lost += word == 0;
	}
	printf("lost %zu of %zu\n", lost, kept_pages);
	CHECK(lost > 0);
}

static void paired(size_t kept_pages, size_t needed_pages)
{
	const size_t piece = 64;
	char *memory = map(kept_pages);
	fill(memory, kept_pages, 1);
	for (size_t page = 0; page < kept_pages; page += piece)
		CHECK(madvise(memory + page * PAGE, piece * PAGE, MADV_VOLATILE) == 0);
	need(needed_pages);
	size_t purged = 0;
	for (size_t page = 0; page < kept_pages; page += piece) {
		int answer = madvise(memory + page * PAGE, piece * PAGE, MADV_NOVOLATILE);
		size_t lost = 0;
		for (size_t inside = page; inside < page + piece; inside++) {
			uint64_t word = *(uint64_t *)(memory + inside * PAGE);
			CHECK(word == 0 || word == 1 + inside);
			lost += word == 0;
		}
		CHECK(answer == (lost > 0));
		CHECK(!lost || errno == ENODATA);
		purged += lost;
		fill(memory + page * PAGE, piece, 1 + page);
	}
	printf("lost %zu of %zu\n", purged, kept_pages);
	CHECK(purged > 0 && purged < kept_pages);
	/* What was written since stays. */
	CHECK(madvise(memory, kept_pages * PAGE, MADV_PAGEOUT) == 0);
	for (size_t page = 0; page < kept_pages; page++)
		CHECK(is_filled(memory, page, 1));
}

/* Each way to have new data where marked memory was; the caller's memory is short all the while. */
static void reuse(size_t pages, size_t needed_pages)
{
	const size_t bytes = pages * PAGE;
	for (int round = 0; round < 9; round++) {
		char *memory = map(pages);
		fill(memory, pages, 1);
		CHECK(madvise(memory, bytes, MADV_VOLATILE) == 0);
		char *reused = memory;
		switch (round) {
		case 0:
			CHECK(munmap(memory, bytes) == 0);
			reused = mmap(memory, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			break;
		case 1:
			reused = mmap(memory, bytes, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
			break;
		case 2:
			reused = mremap(memory, bytes, 2 * bytes, MREMAP_MAYMOVE);
			/* A move ends marks. */
			for (size_t page = 0; page < pages; page++)
				CHECK(is_filled(reused, page, 1));
			break;
		case 3:
			CHECK(mprotect(memory, bytes, PROT_NONE) == 0);
			CHECK(mprotect(memory, bytes, PROT_READ | PROT_WRITE) == 0);
			break;
		case 4:
			CHECK(mlock(memory, bytes) == 0);
			CHECK(munlock(memory, bytes) == 0);
			break;
		case 5: /* libc's own calls, which nobody sees */
			CHECK(munmap(memory, bytes) == 0);
			reused = malloc(bytes);
			CHECK(madvise((char *)(((uintptr_t)reused + PAGE) & -PAGE), bytes - 2 * PAGE,
				      MADV_VOLATILE) == 0);
			free(reused);
			reused = malloc(bytes);
			break;
		case 6: /* another mapping moves there */
			reused = mremap(map(pages), bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, memory);
			break;
		case 7: { /* its pages move away, and it stays */
			char *moved = mremap(memory, bytes, bytes, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
			CHECK(moved != MAP_FAILED);
			for (size_t page = 0; page < pages; page++)
				CHECK(is_filled(moved, page, 1));
			CHECK(munmap(moved, bytes) == 0);
			break;
		}
		case 8: { /* shared memory takes its place, and makes room for what nobody sees */
			int segment = shmget(IPC_PRIVATE, bytes, IPC_CREAT | 0600);
			CHECK(segment >= 0);
			CHECK(shmat(segment, memory, SHM_REMAP) == memory);
			CHECK(shmctl(segment, IPC_RMID, NULL) == 0);
			CHECK(shmdt(memory) == 0);
			reused = (char *)syscall(SYS_mmap, memory, bytes, PROT_READ | PROT_WRITE,
						 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0L);
			break;
		}
		}
		CHECK(reused != MAP_FAILED && reused);
		fill(reused, pages, 1000);
		need(needed_pages);
		for (size_t page = 0; page < pages; page++)
			CHECK(is_filled(reused, page, 1000));
		if (round == 5)
			free(reused);
		else
			CHECK(munmap(reused, round == 2 ? 2 * bytes : bytes) == 0);
	}
	puts("new data stays");
}

/* The pages of a range that read as zeros, which were all written to. */
static size_t count_lost(char *memory, size_t pages)
{
	size_t lost = 0;
	for (size_t page = 0; page < pages; page++)
		lost += *(uint64_t *)(memory + page * PAGE) == 0;
	return lost;
}

/* Whatever is done to marked memory, MADV_NOVOLATILE says whether it has been lost. */
static void told(size_t pages, size_t needed_pages)
{
	const size_t bytes = pages * PAGE;
	for (int round = 0; round < 5; round++) {
		char *memory = map(pages);
		fill(memory, pages, 1);
		CHECK(madvise(memory, bytes, MADV_VOLATILE) == 0);
		need(needed_pages);
		switch (round) {
		case 0:
			CHECK(mprotect(memory, bytes, PROT_NONE) == 0);
			CHECK(mprotect(memory, bytes, PROT_READ | PROT_WRITE) == 0);
			break;
		case 1:
			/* A little of it: the rest would not fit. */
			CHECK(mlock(memory, 16 * PAGE) == 0);
			CHECK(munlock(memory, 16 * PAGE) == 0);
			break;
		case 2:
			memory = mremap(memory, bytes, 2 * bytes, MREMAP_MAYMOVE);
			CHECK(memory != MAP_FAILED);
			break;
		case 3: {
			char *place = map(pages);
			memory = mremap(memory, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, place);
			CHECK(memory == place);
			break;
		}
		case 4:
			CHECK(mremap(memory, bytes, SIZE_MAX / 2, 0) == MAP_FAILED);
			CHECK(madvise(memory, bytes, MADV_DONTFORK) == 0);
			CHECK(madvise(memory, bytes, MADV_DOFORK) == 0);
			break;
		}
		errno = 0;
		int purged = madvise(memory, bytes, MADV_NOVOLATILE);
		CHECK(purged == 0 || purged == 1);
		CHECK(purged == 1 || errno == 0);
		size_t lost = count_lost(memory, pages);
		CHECK((lost > 0) == purged);
		CHECK(lost > 0 && lost < pages);
		CHECK(madvise(memory, bytes, MADV_NOVOLATILE) == 0);
		/* What is there stays. */
		CHECK(madvise(memory, bytes, MADV_PAGEOUT) == 0);
		CHECK(count_lost(memory, pages) == lost);
		CHECK(munmap(memory, round == 2 ? 2 * bytes : bytes) == 0);
	}
	puts("every loss was told");
}

static void twice(void)
{
	const size_t bytes = 8ul << 20;
	int same = 0;
	for (int round = 0; round < 20; round++) {
		char *before = malloc(bytes);
		CHECK(before);
		char *start = (char *)(((uintptr_t)before + PAGE) & -PAGE);
		CHECK(madvise(start, bytes - 2 * PAGE, MADV_VOLATILE) == 0);
		free(before);
		char *block = malloc(bytes);
		CHECK(block);
		same += block == before;
		memset(block, 7, bytes);
		start = (char *)(((uintptr_t)block + PAGE) & -PAGE);
		CHECK(madvise(start, bytes - 2 * PAGE, MADV_VOLATILE) == 0);
		CHECK(madvise(start, bytes - 2 * PAGE, MADV_NOVOLATILE) == 0);
		CHECK(madvise(start, bytes - 2 * PAGE, MADV_PAGEOUT) == 0);
		for (size_t at = 0; at < bytes; at++)
			CHECK(block[at] == 7);
		free(block);
	}
	CHECK(same > 0);
	puts("new data stays");
}

static void forked(size_t pages, size_t needed_pages)
{
	char *memory = map(pages);
	fill(memory, pages, 1);
	CHECK(madvise(memory, pages * PAGE, MADV_DONTFORK) == 0);
	CHECK(madvise(memory, pages * PAGE, MADV_VOLATILE) == 0);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		/* As the child's malloc would: there is room at the address, and nobody is told. */
		char *other = (char *)syscall(SYS_mmap, memory, pages * PAGE, PROT_READ | PROT_WRITE,
					      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0L);
		CHECK(other == memory);
		fill(other, pages, 1000);
		char *own = map(pages);
		fill(own, pages, 1);
		CHECK(madvise(own, pages * PAGE, MADV_VOLATILE) == 0);
		need(needed_pages);
		for (size_t page = 0; page < pages; page++)
			CHECK(is_filled(other, page, 1000));
		fflush(stdout);
		_exit(0);
	}
	int status;
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	puts("the child's data stays");
}

/* Not readable and writable when it was mapped; a huge length; a mapping that takes the place of another. */
static void others(size_t pages, size_t needed_pages)
{
	const size_t bytes = pages * PAGE;
	char *memory = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(memory != MAP_FAILED);
	CHECK(mprotect(memory, bytes, PROT_READ | PROT_WRITE) == 0);
	fill(memory, pages, 1);
	CHECK(madvise(memory, bytes, MADV_VOLATILE) == 0);
	need(needed_pages);
	int purged = madvise(memory, bytes, MADV_NOVOLATILE);
	CHECK(purged == 1 && count_lost(memory, pages) > 0);
	CHECK(munmap(memory, (size_t)1 << 62) == -1 && errno == EINVAL);
	CHECK(mlockall(MCL_FUTURE) == 0);
	char *locked = map(4);
	fill(locked, 4, 1);
	CHECK(madvise(locked, 4 * PAGE, MADV_VOLATILE) == -1 && errno == EINVAL);
	CHECK(munlockall() == 0);
	CHECK(is_filled(locked, 3, 1));
	puts("as the seed says");
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	size_t kept = argc > 2 ? strtoul(argv[2], NULL, 10) << 8 : 0;
	size_t needed = argc > 3 ? strtoul(argv[3], NULL, 10) << 8 : 0;

	if (!strcmp(what, "plain"))
		plain();
	else if (!strcmp(what, "implicit"))
		implicit();
	else if (!strcmp(what, "manners"))
		manners();
	else if (!strcmp(what, "squeeze"))
		squeeze(kept, needed);
	else if (!strcmp(what, "paired"))
		paired(kept, needed);
	else if (!strcmp(what, "reuse"))
		reuse(kept, needed);
	else if (!strcmp(what, "told"))
		told(kept, needed);
	else if (!strcmp(what, "twice"))
		twice();
	else if (!strcmp(what, "forked"))
		forked(kept, needed);
	else if (!strcmp(what, "others"))
		others(kept, needed);
	else
		return 2;
	return 0;
}
