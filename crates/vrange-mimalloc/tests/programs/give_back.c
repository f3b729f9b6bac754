/*
 * Programs that free memory and keep running.
 *
 * give_back idle KIB MIB        frees MIB MiB in blocks of KIB KiB, uses and frees them again, and is idle until they are gone
 * give_back limit KIB MIB MAX   frees them: no more than MAX MiB stay
 * give_back hold KIB MIB        frees them and says so; at each line that it is told it uses and frees them again
 * give_back pieces KIB MIB      frees them and says so; told a line, it has a few threads keep a block of each of many sizes
 * give_back nothing KIB MIB     tells how many KiB it holds after it has freed a single block
 * give_back faults KIB MIB      tells how many page faults a hundred rounds take
 * give_back grow MIB            touches ordinary memory, keeps it, and says so; the same again at each line
 * give_back need MIB            touches ordinary memory, and gives it back
 * give_back squeeze MIB FILE    the same again and again, with a look through a file, as long as whoever started it is there
 */
#include "check.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>

static size_t count, block_bytes;
static void **blocks;

static void plan(const char *kib, const char *mib)
{
	block_bytes = number(kib) << 10;
	count = number(mib) * MIB / block_bytes;
	blocks = calloc(count, sizeof(*blocks));
	CHECK(blocks);
}

static void take(uint64_t round)
{
	for (size_t i = 0; i < count; i++) {
		CHECK((blocks[i] = malloc(block_bytes)));
		fill(blocks[i], block_bytes, round * count + i);
	}
}

static void give(uint64_t round)
{
	for (size_t i = 0; i < count; i++) {
		check_filled(blocks[i], block_bytes, round * count + i);
		errno = EXDEV;
		free(blocks[i]);
		CHECK(errno == EXDEV);
	}
}

static void idle(void)
{
	double before = resident_mib();
	for (uint64_t round = 1; round <= 3; round++) {
		take(round);
		give(round);
	}
	double all = (double)(count * block_bytes) / MIB;
	await_below(before + all / 8);
	/* What is gone can be had again. */
	take(4);
	give(4);
	puts("given back");
}

static void limit(double max)
{
	double before = resident_mib();
	for (uint64_t round = 1; round <= 3; round++) {
		take(round);
		CHECK(resident_mib() > before + (double)(count * block_bytes) / MIB * 0.9);
		give(round);
		/* Bookkeeping, and what the allocator keeps by itself. */
		double left = resident_mib() - before;
		if (left > max + 6)
			FAIL("%.1f MiB of free memory\n", left);
	}
	puts("under the limit");
}

static void hold(void)
{
	char line[16];
	uint64_t round = 1;
	do {
		take(round);
		give(round);
		round++;
		puts("free");
		fflush(stdout);
	} while (fgets(line, sizeof(line), stdin));
}

#define PIECES_THREADS 4
#define PIECES_MIN (64ul << 10)
#define PIECES_MAX (512ul << 10)
static void *piece_of[PIECES_THREADS][64];

/* Allocators with pages for blocks of one size take a whole page for each. */
static void *take_pieces(void *mine)
{
	void **pieces = mine;
	for (size_t bytes = PIECES_MIN; bytes <= PIECES_MAX; bytes += bytes / 8) {
		CHECK((*pieces = malloc(bytes)));
		fill(*pieces++, bytes, bytes);
	}
	/* They are in use as long as the program runs, and so does the thread. */
	for (;;)
		pause();
}

static void pieces(void)
{
	char line[16];
	take(1);
	give(1);
	puts("free");
	fflush(stdout);
	CHECK(fgets(line, sizeof(line), stdin));
	pthread_t thread;
	for (size_t i = 0; i < PIECES_THREADS; i++)
		CHECK(pthread_create(&thread, NULL, take_pieces, piece_of[i]) == 0);
	sleep_ms(1000);
	puts("taken");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin))
		;
}

static void faults(void)
{
	struct rusage usage;
	for (uint64_t round = 1; round <= 100; round++) {
		take(round);
		give(round);
	}
	CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
	printf("faults %ld\n", usage.ru_minflt);
}

static char *touched(size_t bytes)
{
	char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(memory != MAP_FAILED);
	for (size_t at = 0; at < bytes; at += PAGE)
		memory[at] = 1;
	return memory;
}

static void need(size_t bytes)
{
	CHECK(munmap(touched(bytes), bytes) == 0);
}

static void grow(size_t bytes)
{
	char line[16];
	do {
		touched(bytes);
		puts("has it");
		fflush(stdout);
	} while (fgets(line, sizeof(line), stdin));
}

/* Fills all that is left with page cache, which takes offered pages, and never has a process killed. */
static void look_through(const char *path)
{
	static char bytes[MIB];
	int file = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(file >= 0);
	while (read(file, bytes, sizeof(bytes)) > 0)
		;
	CHECK(posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED) == 0);
	close(file);
}

int main(int argc, char **argv)
{
	CHECK(argc >= 3);
	if (!strcmp(argv[1], "need")) {
		need(number(argv[2]) * MIB);
		puts("enough");
		return 0;
	}
	if (!strcmp(argv[1], "grow")) {
		grow(number(argv[2]) * MIB);
		return 0;
	}
	CHECK(argc >= 4);
	if (!strcmp(argv[1], "squeeze")) {
		for (pid_t parent = getppid(); getppid() == parent; sleep_ms(20)) {
			need(number(argv[2]) * MIB);
			look_through(argv[3]);
		}
		return 0;
	}
	plan(argv[2], argv[3]);
	if (!strcmp(argv[1], "idle"))
		idle();
	else if (!strcmp(argv[1], "hold"))
		hold();
	else if (!strcmp(argv[1], "pieces"))
		pieces();
	else if (!strcmp(argv[1], "faults"))
		faults();
	else if (!strcmp(argv[1], "nothing")) {
		free(malloc(block_bytes));
		printf("holds %.0f\n", resident_mib() * 1024);
	}
	else
		limit((double)number(argv[4]));
	return 0;
}
