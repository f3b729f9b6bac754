/* Every function of the library, used well and badly. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <vrange.h>

#define PAGE 4096ul
#define MIB (1024ul * 1024)

#define CHECK(condition)                                                                                     \
	do {                                                                                                 \
		if (!(condition)) {                                                                          \
			printf("line %d: %s; errno %d\n", __LINE__, #condition, errno);                      \
			exit(1);                                                                             \
		}                                                                                            \
	} while (0)

/* A failure with its status and its errno. */
#define CHECK_FAILS(call, status, number)                                                                    \
	do {                                                                                                 \
		errno = 0;                                                                                   \
		CHECK((call) == (status));                                                                   \
		CHECK(errno == (number));                                                                    \
	} while (0)

static void heaps(void)
{
	vrange_heap *heap = NULL;
	vrange_heap_options options = { .name = "every call", .limit_bytes = 64 * MIB };
	struct {
		vrange_heap_options known;
		uint64_t later;
	} newer = { .later = 0 };

	CHECK(vrange_heap_new(&options, sizeof(options), &heap) == VRANGE_STATUS_OK && heap);
	vrange_heap_free(heap);
	/* A size that no header has had, and a caller with a newer one. */
	CHECK_FAILS(vrange_heap_new(&options, 4, &heap), VRANGE_STATUS_INVALID_SETTINGS, EINVAL);
	CHECK(vrange_heap_new(&newer.known, sizeof(newer), &heap) == VRANGE_STATUS_OK);
	vrange_heap_free(heap);
	newer.later = 1;
	CHECK_FAILS(vrange_heap_new(&newer.known, sizeof(newer), &heap), VRANGE_STATUS_INVALID_SETTINGS, EINVAL);
	CHECK_FAILS(vrange_heap_new(NULL, 0, NULL), VRANGE_STATUS_NULL_POINTER, EINVAL);
	CHECK_FAILS(vrange_heap_new(NULL, sizeof(options), &heap), VRANGE_STATUS_NULL_POINTER, EINVAL);
	options.reserve_bytes = options.limit_bytes;
	CHECK_FAILS(vrange_heap_new(&options, sizeof(options), &heap), VRANGE_STATUS_INVALID_SETTINGS, EINVAL);
	options.reserve_bytes = 0;
	options.order = 77;
	CHECK_FAILS(vrange_heap_new(&options, sizeof(options), &heap), VRANGE_STATUS_INVALID_SETTINGS, EINVAL);
	options.order = VRANGE_ORDER_LATEST_FIRST;
	options.content = 77;
	CHECK_FAILS(vrange_heap_new(&options, sizeof(options), &heap), VRANGE_STATUS_INVALID_SETTINGS, EINVAL);
	options.content = VRANGE_CONTENT_FREE;
	options.flags = 1u << 31;
	CHECK_FAILS(vrange_heap_new(&options, sizeof(options), &heap), VRANGE_STATUS_INVALID_SETTINGS, EINVAL);
	options.flags = VRANGE_HEAP_RESERVE | VRANGE_HEAP_MAX_UNOFFERED | VRANGE_HEAP_CORE_DUMP;
	CHECK(vrange_heap_new(&options, sizeof(options), &heap) == VRANGE_STATUS_OK);
	vrange_heap_free(heap);
	vrange_heap_free(NULL);
	CHECK(vrange_heap_offer(NULL, 1) == 0 && vrange_heap_reclaim(NULL, 1) == 0 && vrange_heap_release(NULL) == 0);
}

static void counts(vrange_heap *heap)
{
	vrange_heap_stats stats;
	struct {
		vrange_heap_stats known;
		uint64_t later;
	} newer = { .later = 5 };

	memset(&stats, 0x55, sizeof(stats));
	CHECK(vrange_heap_get_stats(heap, &stats, sizeof(stats)) == VRANGE_STATUS_OK);
	CHECK(stats.marked.ranges == 1 && stats.marked.length.pages * PAGE == stats.marked.length.bytes);
	/* A caller with an older header is given what it knows, and one with a newer zeros. */
	memset(&stats, 0x55, sizeof(stats));
	CHECK(vrange_heap_get_stats(heap, &stats, sizeof(stats.empty)) == VRANGE_STATUS_OK);
	CHECK(stats.empty.ranges == 0 && stats.pinned.ranges == 0x5555555555555555);
	CHECK(vrange_heap_get_stats(heap, &newer.known, sizeof(newer)) == VRANGE_STATUS_OK && newer.later == 0);
	CHECK_FAILS(vrange_heap_get_stats(heap, NULL, sizeof(stats)), VRANGE_STATUS_NULL_POINTER, EINVAL);
	CHECK_FAILS(vrange_heap_get_stats(NULL, &stats, sizeof(stats)), VRANGE_STATUS_NULL_POINTER, EINVAL);
}

static void buffers(void)
{
	const size_t bytes = 8 * PAGE + 100;
	vrange_heap *heap;
	vrange_buffer *buffer = NULL;
	const void *seen;
	void *place;
	vrange_lost_run runs[2];

	CHECK(vrange_heap_new(NULL, 0, &heap) == VRANGE_STATUS_OK);
	CHECK_FAILS(vrange_buffer_new(heap, 0, &buffer), VRANGE_STATUS_INVALID_SIZE, EINVAL);
	CHECK_FAILS(vrange_buffer_new(heap, SIZE_MAX, &buffer), VRANGE_STATUS_INVALID_SIZE, EINVAL);
	CHECK_FAILS(vrange_buffer_new(NULL, 1, &buffer), VRANGE_STATUS_NULL_POINTER, EINVAL);
	CHECK_FAILS(vrange_buffer_new(heap, 1, NULL), VRANGE_STATUS_NULL_POINTER, EINVAL);
	CHECK(buffer == NULL);
	CHECK(vrange_buffer_new(heap, bytes, &buffer) == VRANGE_STATUS_OK);
	CHECK(vrange_buffer_size(buffer) == bytes && vrange_buffer_size(NULL) == 0);

	CHECK_FAILS(vrange_buffer_unpin(buffer), VRANGE_STATUS_NOT_PINNED, EINVAL);
	CHECK_FAILS(vrange_buffer_acknowledge(buffer), VRANGE_STATUS_NOT_PINNED, EINVAL);
	CHECK_FAILS(vrange_buffer_pin(buffer, NULL), VRANGE_STATUS_NULL_POINTER, EINVAL);
	CHECK_FAILS(vrange_buffer_pin(NULL, &seen), VRANGE_STATUS_NULL_POINTER, EINVAL);
	CHECK_FAILS(vrange_buffer_pin_mut(NULL, &place), VRANGE_STATUS_NULL_POINTER, EINVAL);
	CHECK_FAILS(vrange_buffer_offer(buffer), VRANGE_STATUS_BUSY, EBUSY);

	CHECK(vrange_buffer_try_pin_mut(buffer, &place) == VRANGE_STATUS_OK);
	memset(place, 7, bytes);
	CHECK_FAILS(vrange_buffer_release(buffer), VRANGE_STATUS_BUSY, EBUSY);
	CHECK(vrange_buffer_lost(buffer, NULL, 0) == 0);
	CHECK(vrange_buffer_unpin(buffer) == VRANGE_STATUS_OK);

	/* Pins count. */
	errno = 0;
	CHECK(vrange_buffer_pin(buffer, &seen) == VRANGE_STATUS_OK && seen == place);
	CHECK(vrange_buffer_try_pin(buffer, &seen) == VRANGE_STATUS_OK && ((const char *)seen)[bytes - 1] == 7);
	CHECK(vrange_buffer_unpin(buffer) == VRANGE_STATUS_OK);
	CHECK(vrange_buffer_unpin(buffer) == VRANGE_STATUS_OK && errno == 0);
	CHECK_FAILS(vrange_buffer_unpin(buffer), VRANGE_STATUS_NOT_PINNED, EINVAL);
	counts(heap);

	/* Offered, and intact. */
	CHECK(vrange_buffer_offer(buffer) == VRANGE_STATUS_OK);
	CHECK(vrange_buffer_pin(buffer, &seen) == VRANGE_STATUS_OK && ((const char *)seen)[0] == 7);
	CHECK(vrange_buffer_unpin(buffer) == VRANGE_STATUS_OK);

	/* Lost, and told until it is acknowledged. */
	CHECK(vrange_heap_release(heap) == 9 * PAGE);
	CHECK(vrange_buffer_pin(buffer, &seen) == VRANGE_STATUS_PURGED && ((const char *)seen)[0] == 0);
	CHECK(vrange_buffer_unpin(buffer) == VRANGE_STATUS_OK);
	CHECK(vrange_buffer_pin_mut(buffer, &place) == VRANGE_STATUS_PURGED);
	CHECK(vrange_buffer_lost(buffer, runs, 2) == 1 && runs[0].offset == 0 && runs[0].length == bytes);
	errno = 0;
	CHECK(vrange_buffer_lost(buffer, NULL, 2) == 0 && errno == EINVAL);
	CHECK(vrange_buffer_acknowledge(buffer) == VRANGE_STATUS_OK);
	CHECK(vrange_buffer_lost(buffer, runs, 2) == 0);
	CHECK(vrange_buffer_unpin(buffer) == VRANGE_STATUS_OK);
	CHECK(vrange_buffer_pin(buffer, &seen) == VRANGE_STATUS_OK);
	CHECK(vrange_buffer_unpin(buffer) == VRANGE_STATUS_OK);

	CHECK(vrange_buffer_release(buffer) == VRANGE_STATUS_OK);
	CHECK(vrange_heap_offer(heap, UINT64_MAX) == 0 && vrange_heap_reclaim(heap, UINT64_MAX) == 0);
	/* The heap's handle may go first. */
	vrange_heap_free(heap);
	CHECK(vrange_buffer_pin_mut(buffer, &place) >= 0);
	((char *)place)[0] = 1;
	vrange_buffer_free(buffer);
	vrange_buffer_free(NULL);
}

static void driven(void)
{
	vrange_heap *heap;
	vrange_reclaimer *reclaimer;
	vrange_step step;

	CHECK_FAILS(vrange_heap_new_manual(NULL, 0, &heap, NULL), VRANGE_STATUS_NULL_POINTER, EINVAL);
	CHECK(vrange_heap_new_manual(NULL, 0, &heap, &reclaimer) == VRANGE_STATUS_OK);
	CHECK(vrange_reclaimer_step(reclaimer, &step, sizeof(step)) == VRANGE_STATUS_OK && step.wait_ns > 0);
	CHECK(vrange_reclaimer_step(reclaimer, NULL, 0) == VRANGE_STATUS_OK);
	CHECK_FAILS(vrange_reclaimer_step(reclaimer, NULL, sizeof(step)), VRANGE_STATUS_NULL_POINTER, EINVAL);
	CHECK_FAILS(vrange_reclaimer_step(NULL, &step, sizeof(step)), VRANGE_STATUS_NULL_POINTER, EINVAL);
	vrange_heap_free(heap);
	CHECK(vrange_reclaimer_step(reclaimer, &step, sizeof(step)) == VRANGE_STATUS_OK);
	CHECK(step.wait_ns == UINT64_MAX);
	vrange_reclaimer_free(reclaimer);
	vrange_reclaimer_free(NULL);
}

static char *map(size_t pages)
{
	char *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(memory != MAP_FAILED);
	for (size_t page = 0; page < pages; page++)
		memory[page * PAGE] = 1;
	return memory;
}

static void adopted_marks(void)
{
	enum { PAGES = 64 };
	char *memory = map(PAGES);
	unsigned char of[PAGES];
	vrange_mark_stats stats;
	int purged = -1;

	CHECK(vrange_adopt(memory, PAGES * PAGE) == VRANGE_STATUS_OK);
	CHECK(vrange_prepare() == VRANGE_STATUS_OK);
	CHECK(vrange_mark(memory, PAGES * PAGE) == VRANGE_STATUS_OK);
	CHECK(vrange_query(memory, PAGES * PAGE, of) == VRANGE_STATUS_OK && of[5] == VRANGE_MARK_FRESH);
	CHECK(vrange_marks_get_stats(&stats, sizeof(stats)) == VRANGE_STATUS_OK && stats.marked.pages == PAGES);
	CHECK(vrange_unmark(memory, PAGES * PAGE, &purged) == VRANGE_STATUS_OK && purged == 0 && *memory == 1);
	CHECK(vrange_query(memory, PAGES * PAGE, of) == VRANGE_STATUS_OK && of[5] == VRANGE_MARK_NONE);

	CHECK(vrange_mark(memory, PAGES * PAGE) == VRANGE_STATUS_OK);
	CHECK(vrange_offer(UINT64_MAX) == PAGES * PAGE);
	CHECK(vrange_query(memory, PAGES * PAGE, of) == VRANGE_STATUS_OK && of[5] == VRANGE_MARK_OFFERED);
	CHECK(vrange_purge(memory, 10 * PAGE) == VRANGE_STATUS_OK);
	CHECK(vrange_query(memory, PAGES * PAGE, of) == VRANGE_STATUS_OK && of[5] == VRANGE_MARK_SETTLED);
	CHECK(vrange_unmark_pages(memory, PAGES * PAGE, of) == VRANGE_STATUS_OK);
	for (size_t page = 0; page < PAGES; page++)
		CHECK(of[page] == (page < 10) && memory[page * PAGE] == !of[page]);

	CHECK(vrange_mark(memory, PAGES * PAGE) == VRANGE_STATUS_OK);
	CHECK(vrange_purge(memory, PAGE) == VRANGE_STATUS_OK);
	CHECK(vrange_unmark(memory, PAGES * PAGE, NULL) == VRANGE_STATUS_OK);
	CHECK(vrange_mark(memory, PAGES * PAGE) == VRANGE_STATUS_OK);
	CHECK(vrange_abandon(memory, PAGES * PAGE) == VRANGE_STATUS_OK);
	CHECK(vrange_forget(memory, PAGES * PAGE) == VRANGE_STATUS_OK);
	CHECK(munmap(memory, PAGES * PAGE) == 0);
}

static void other_marks(void)
{
	char *memory = map(8);
	unsigned char of[8];
	int purged;

	CHECK(vrange_mark(memory, 2 * PAGE + 5) == VRANGE_STATUS_OK);
	CHECK(vrange_query(memory, 8 * PAGE, of) == VRANGE_STATUS_OK);
	CHECK(of[1] == VRANGE_MARK_OFFERED && of[2] == VRANGE_MARK_NONE);
	CHECK(vrange_unmark(memory, 2 * PAGE, &purged) == VRANGE_STATUS_OK && !purged && memory[PAGE] == 1);
	CHECK(vrange_mark_now(memory, 8 * PAGE) == VRANGE_STATUS_OK);
	memory[0] = 2;
	CHECK(vrange_unmark_now(memory, 8 * PAGE) == VRANGE_STATUS_OK && memory[0] == 2 && memory[PAGE] == 1);

	CHECK(vrange_mark(memory, 0) == VRANGE_STATUS_OK);
	CHECK_FAILS(vrange_mark(memory + 1, PAGE), VRANGE_STATUS_INVALID_RANGE, EINVAL);
	CHECK_FAILS(vrange_mark(memory, 1), VRANGE_STATUS_INVALID_RANGE, EINVAL);
	CHECK_FAILS(vrange_mark(memory, SIZE_MAX), VRANGE_STATUS_INVALID_RANGE, EINVAL);
	CHECK_FAILS(vrange_unmark(memory, SIZE_MAX, &purged), VRANGE_STATUS_INVALID_RANGE, EINVAL);
	CHECK_FAILS(vrange_unmark_pages(memory, SIZE_MAX, of), VRANGE_STATUS_INVALID_RANGE, EINVAL);
	CHECK_FAILS(vrange_query(memory, SIZE_MAX, of), VRANGE_STATUS_INVALID_RANGE, EINVAL);
	CHECK_FAILS(vrange_adopt(memory + 1, PAGE), VRANGE_STATUS_INVALID_RANGE, EINVAL);
	CHECK_FAILS(vrange_abandon(memory + 1, PAGE), VRANGE_STATUS_INVALID_RANGE, EINVAL);
	CHECK_FAILS(vrange_forget(memory + 1, PAGE), VRANGE_STATUS_INVALID_RANGE, EINVAL);
	CHECK_FAILS(vrange_purge(memory + 1, PAGE), VRANGE_STATUS_INVALID_RANGE, EINVAL);
	CHECK_FAILS(vrange_unmark_pages(memory, PAGE, NULL), VRANGE_STATUS_NULL_POINTER, EINVAL);
	CHECK_FAILS(vrange_query(memory, PAGE, NULL), VRANGE_STATUS_NULL_POINTER, EINVAL);
	CHECK_FAILS(vrange_marks_get_stats(NULL, 8), VRANGE_STATUS_NULL_POINTER, EINVAL);

	char *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK_FAILS(vrange_mark(shared, PAGE), VRANGE_STATUS_NOT_MARKABLE, EINVAL);
	CHECK_FAILS(vrange_mark_now(shared, PAGE), VRANGE_STATUS_NOT_MARKABLE, EINVAL);
	CHECK(munmap(memory + 3 * PAGE, PAGE) == 0);
	CHECK_FAILS(vrange_mark(memory, 8 * PAGE), VRANGE_STATUS_NOT_MAPPED, ENOMEM);
	CHECK(vrange_query(memory, 8 * PAGE, of) == VRANGE_STATUS_OK && of[7] == VRANGE_MARK_OFFERED);
	CHECK(mprotect(memory, PAGE, PROT_READ) == 0);
	CHECK_FAILS(vrange_unmark(memory, PAGE, &purged), VRANGE_STATUS_NOT_WRITABLE, EACCES);
}

static void *pin_often(void *buffer)
{
	const void *bytes;

	for (int i = 0; i < 10000; i++) {
		CHECK(vrange_buffer_pin(buffer, &bytes) == VRANGE_STATUS_OK && *(const char *)bytes == 9);
		if (i % 100 == 0)
			vrange_buffer_offer(buffer);
		CHECK(vrange_buffer_unpin(buffer) == VRANGE_STATUS_OK);
		if (i % 100 == 50)
			vrange_buffer_offer(buffer);
	}
	return NULL;
}

static void threads(void)
{
	vrange_heap *heap;
	vrange_buffer *buffer;
	void *bytes;
	pthread_t others[4];

	CHECK(vrange_heap_new(NULL, 0, &heap) == VRANGE_STATUS_OK);
	CHECK(vrange_buffer_new(heap, MIB, &buffer) == VRANGE_STATUS_OK);
	CHECK(vrange_buffer_pin_mut(buffer, &bytes) == VRANGE_STATUS_OK);
	memset(bytes, 9, MIB);
	CHECK(vrange_buffer_unpin(buffer) == VRANGE_STATUS_OK);
	for (int i = 0; i < 4; i++)
		CHECK(pthread_create(&others[i], NULL, pin_often, buffer) == 0);
	for (int i = 0; i < 4; i++)
		CHECK(pthread_join(others[i], NULL) == 0);
	vrange_buffer_free(buffer);
	vrange_heap_free(heap);
}

static void texts(void)
{
	CHECK(strcmp(vrange_version(), VRANGE_VERSION) == 0);
	CHECK(strstr(vrange_strerror(VRANGE_STATUS_NOT_MAPPED), "not mapped"));
	CHECK(strstr(vrange_strerror(12345), "not a status"));
	for (int status = -20; status <= 1; status++)
		CHECK(strlen(vrange_strerror(status)) > 0);
}

int main(void)
{
	heaps();
	buffers();
	driven();
	adopted_marks();
	other_marks();
	threads();
	texts();
	puts("every call did as it should");
	return 0;
}
