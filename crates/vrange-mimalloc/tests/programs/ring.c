/*
 * ring FILE
 *
 * Registers a block with io_uring (IORING_REGISTER_BUFFERS) that was free a moment ago, and that it has not touched since, has the file
 * read into it, and has the kernel take from the process what it may (MADV_PAGEOUT). A device's write leaves the page table as it was.
 */
#include "check.h"

#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define ROUNDS 4
#define BYTES (2 * MIB)

static struct io_uring_params parameters;
static int ring;
static char *submissions, *completions;
static struct io_uring_sqe *entries;

static void *map(size_t bytes, off_t offset)
{
	void *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, offset);
	CHECK(mapped != MAP_FAILED);
	return mapped;
}

static int open_ring(void)
{
	ring = (int)syscall(SYS_io_uring_setup, 2, &parameters);
	if (ring < 0)
		return 0;
	submissions = map(parameters.sq_off.array + parameters.sq_entries * sizeof(unsigned), IORING_OFF_SQ_RING);
	completions = map(parameters.cq_off.cqes + parameters.cq_entries * sizeof(struct io_uring_cqe), IORING_OFF_CQ_RING);
	entries = map(parameters.sq_entries * sizeof(*entries), IORING_OFF_SQES);
	return 1;
}

static void read_fixed(int file, void *block)
{
	unsigned *tail = (unsigned *)(submissions + parameters.sq_off.tail);
	unsigned mask = *(unsigned *)(submissions + parameters.sq_off.ring_mask);
	unsigned *array = (unsigned *)(submissions + parameters.sq_off.array);
	unsigned place = *tail & mask;
	entries[place] = (struct io_uring_sqe){ .opcode = IORING_OP_READ_FIXED,
						.fd = file,
						.addr = (uintptr_t)block,
						.len = BYTES };
	array[place] = place;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	CHECK(syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) == 1);
	unsigned *head = (unsigned *)(completions + parameters.cq_off.head);
	mask = *(unsigned *)(completions + parameters.cq_off.ring_mask);
	struct io_uring_cqe *done = (struct io_uring_cqe *)(completions + parameters.cq_off.cqes);
	CHECK(done[*head & mask].res == (int)BYTES);
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
}

static int write_file(const char *path)
{
	int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	char *text = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(file >= 0 && text != MAP_FAILED);
	fill(text, BYTES, 77);
	CHECK(write(file, text, BYTES) == (ssize_t)BYTES);
	CHECK(munmap(text, BYTES) == 0);
	return file;
}

int main(int argc, char **argv)
{
	CHECK(argc == 2);
	if (!open_ring()) {
		printf("no io_uring: %s\n", strerror(errno));
		return SKIPPED;
	}
	int file = write_file(argv[1]);
	int again = 0;
	for (int round = 0; round < ROUNDS; round++) {
		char *block = aligned_alloc(PAGE, BYTES);
		CHECK(block);
		fill(block, BYTES, (uint64_t)round + 1);
		uintptr_t address = (uintptr_t)block;
		free(block);
		/* Long enough to be offered. */
		sleep_ms(400);
		CHECK((block = aligned_alloc(PAGE, BYTES)));
		again += (uintptr_t)block == address;
		struct iovec vector = { block, BYTES };
		if (syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &vector, 1) != 0) {
			printf("io_uring registers no buffer: %s\n", strerror(errno));
			return SKIPPED;
		}
		read_fixed(file, block);
		CHECK(syscall(SYS_io_uring_register, ring, IORING_UNREGISTER_BUFFERS, NULL, 0) == 0);
		CHECK(lseek(file, 0, SEEK_SET) == 0);
		CHECK(madvise(block, BYTES, MADV_PAGEOUT) == 0);
		check_filled(block, BYTES, 77);
		free(block);
	}
	CHECK(again > 0);
	puts("all data stays");
	return 0;
}
