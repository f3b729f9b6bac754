/* What the programs of this folder share: patterns in blocks, and what the process holds. They know nothing of vrange. */
#ifndef CHECK_H
#define CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ul
#define MIB (1ul << 20)
/* The status of a program that cannot run here; its last line says why. */
#define SKIPPED 77

/* What is found wrong is told, and ends the process at once: allocator and streams may be in any state. */
#define FAIL(...)                                                                                            \
	do {                                                                                                 \
		dprintf(STDOUT_FILENO, __VA_ARGS__);                                                         \
		_exit(1);                                                                                    \
	} while (0)

#define CHECK(condition)                                                                                     \
	do {                                                                                                 \
		if (!(condition))                                                                            \
			FAIL("%s:%d: %s; errno %d\n", __FILE__, __LINE__, #condition, errno);                \
	} while (0)

/* The word that belongs at this place of a block. Never zero. */
static inline uint64_t pattern(uint64_t seed, size_t index)
{
	return ((seed << 24) + index) * 0x9e3779b97f4a7c15ul | 1;
}

/* Fills all of a block from `from` on (in bytes, rounded down to a word) with a pattern of its own. */
static inline void fill_from(void *block, size_t from, size_t bytes, uint64_t seed)
{
	unsigned char *end = (unsigned char *)block + bytes / 8 * 8;
	for (size_t index = from / 8; index < bytes / 8; index++)
		((uint64_t *)block)[index] = pattern(seed, index);
	memset(end, (int)(seed & 0x7f) + 1, bytes % 8);
}

static inline void fill(void *block, size_t bytes, uint64_t seed)
{
	fill_from(block, 0, bytes, seed);
}

static inline void check_filled(const void *block, size_t bytes, uint64_t seed)
{
	const unsigned char *tail = (const unsigned char *)block + bytes / 8 * 8;
	for (size_t index = 0; index < bytes / 8; index++) {
		uint64_t found = ((const uint64_t *)block)[index];
		if (found != pattern(seed, index))
			FAIL("corrupt: block %p of %zu bytes, seed %lu: %lx instead of %lx at byte %zu\n", block, bytes,
			     (unsigned long)seed, (unsigned long)found, (unsigned long)pattern(seed, index), index * 8);
	}
	for (size_t index = 0; index < bytes % 8; index++)
		if (tail[index] != (seed & 0x7f) + 1)
			FAIL("corrupt: the end of a block of %zu bytes\n", bytes);
}

static inline void check_zero(const void *block, size_t bytes)
{
	for (size_t index = 0; index < bytes; index++)
		if (((const unsigned char *)block)[index] != 0)
			FAIL("corrupt: not zero: block %p of %zu bytes at byte %zu\n", block, bytes, index);
}

static inline void sleep_ms(long ms)
{
	struct timespec left = { ms / 1000, ms % 1000 * 1000000 };
	while (nanosleep(&left, &left) == -1 && errno == EINTR)
		;
}

static inline double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* A file of the kernel's, read without a stream, which would allocate. */
static inline size_t read_file(const char *path, char *text, size_t bytes)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(file >= 0);
	size_t length = 0;
	ssize_t more;
	while ((more = read(file, text + length, bytes - 1 - length)) > 0)
		length += (size_t)more;
	text[length] = 0;
	close(file);
	return length;
}

/* The process's memory in MiB. */
static inline double resident_mib(void)
{
	char text[256];
	unsigned long size, resident;
	read_file("/proc/self/statm", text, sizeof(text));
	CHECK(sscanf(text, "%lu %lu", &size, &resident) == 2);
	return (double)(resident * PAGE) / MIB;
}

/* What a file of the kernel's says in a line like "VmLck:  12 kB", in MiB. */
static inline double mib_in(const char *path, const char *name)
{
	char text[8192];
	unsigned long kib;
	read_file(path, text, sizeof(text));
	const char *line = strstr(text, name);
	CHECK(line && sscanf(line + strlen(name), ": %lu", &kib) == 1);
	return (double)kib / 1024;
}

/* Waits until the process holds less. It is idle meanwhile. */
static inline void await_below(double mib)
{
	double until = now() + 20;
	while (resident_mib() > mib) {
		if (now() > until)
			FAIL("after 20 s the process still holds %.1f MiB, more than %.1f\n", resident_mib(), mib);
		sleep_ms(10);
	}
}

/* A generator of numbers: xorshift64*. */
static inline uint64_t next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dul;
}

static inline size_t number(const char *text)
{
	char *end;
	size_t value = strtoul(text, &end, 10);
	CHECK(*text && !*end);
	return value;
}

#endif
