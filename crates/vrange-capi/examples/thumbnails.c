/*
 * A cache of pictures that can be made again: it has no size to choose, and is never the cause of an OOM kill.
 *
 *	cc thumbnails.c $(pkg-config --cflags --libs vrange) -o thumbnails && ./thumbnails
 *
 * Each picture lives in a volatile buffer. When memory is short the kernel discards the ones that were not looked at for
 * the longest time; whoever looks at such a picture draws again what was lost, and nothing else.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <vrange.h>

enum { PICTURES = 64, PIXELS = 256 * 256 };

struct picture {
	uint32_t number;
	vrange_buffer *buffer;
};

static void or_exit(int status, const char *what)
{
	if (status < 0) {
		fprintf(stderr, "%s: %s\n", what, vrange_strerror(status));
		exit(1);
	}
}

static uint32_t pixel(uint32_t picture, size_t at)
{
	return (picture + 1) * 2654435761u + (uint32_t)at;
}

/* Stands for the real work: decoding a file. */
static void draw(const struct picture *picture, uint32_t *pixels, size_t from, size_t to)
{
	for (size_t at = from; at < to; at++)
		pixels[at] = pixel(picture->number, at);
}

static void make(struct picture *picture, vrange_heap *heap)
{
	void *pixels;

	or_exit(vrange_buffer_new(heap, PIXELS * sizeof(uint32_t), &picture->buffer), "vrange_buffer_new");
	or_exit(vrange_buffer_pin_mut(picture->buffer, &pixels), "vrange_buffer_pin_mut");
	draw(picture, pixels, 0, PIXELS);
	/* Some nanoseconds, whatever the size. From here on it may go. */
	or_exit(vrange_buffer_unpin(picture->buffer), "vrange_buffer_unpin");
}

/* Draws what was lost, and returns how many bytes that were. */
static size_t repair(struct picture *picture, uint32_t *pixels)
{
	size_t bytes = 0;
	size_t count = vrange_buffer_lost(picture->buffer, NULL, 0);
	vrange_lost_run *runs = calloc(count, sizeof(*runs));

	if (!runs) {
		perror("calloc");
		exit(1);
	}
	vrange_buffer_lost(picture->buffer, runs, count);
	for (size_t i = 0; i < count; i++) {
		size_t end = runs[i].offset + runs[i].length;
		draw(picture, pixels, runs[i].offset / sizeof(*pixels), end / sizeof(*pixels));
		bytes += runs[i].length;
	}
	free(runs);
	or_exit(vrange_buffer_acknowledge(picture->buffer), "vrange_buffer_acknowledge");
	return bytes;
}

/* Uses a picture: pins it, draws what is missing, looks at every pixel. Returns the bytes that were drawn. */
static size_t use(struct picture *picture)
{
	size_t drawn = 0;
	void *bytes;
	int found = vrange_buffer_pin_mut(picture->buffer, &bytes);
	uint32_t *pixels = bytes;

	or_exit(found, "vrange_buffer_pin_mut");
	if (found == VRANGE_STATUS_PURGED)
		drawn = repair(picture, pixels);
	for (size_t at = 0; at < PIXELS; at++) {
		if (pixels[at] != pixel(picture->number, at)) {
			fprintf(stderr, "picture %u is wrong at %zu\n", picture->number, at);
			exit(1);
		}
	}
	or_exit(vrange_buffer_unpin(picture->buffer), "vrange_buffer_unpin");
	return drawn;
}

int main(void)
{
	vrange_heap *heap;
	vrange_heap_options options = { .name = "thumbnails" };
	vrange_heap_stats stats;
	struct picture pictures[PICTURES];
	size_t drawn = 0;

	or_exit(vrange_heap_new(&options, sizeof(options), &heap), "vrange_heap_new");
	for (uint32_t i = 0; i < PICTURES; i++) {
		pictures[i].number = i;
		make(&pictures[i], heap);
	}
	for (int i = 0; i < PICTURES; i++)
		drawn += use(&pictures[i]);
	printf("%d pictures; %zu bytes drawn again while memory was plentiful\n", PICTURES, drawn);

	/* As if memory had been short: half of it goes, the coldest pictures first. */
	uint64_t gone = vrange_heap_reclaim(heap, (uint64_t)PICTURES * PIXELS * sizeof(uint32_t) / 2);
	drawn = 0;
	for (int i = 0; i < PICTURES; i++)
		drawn += use(&pictures[i]);
	or_exit(vrange_heap_get_stats(heap, &stats, sizeof(stats)), "vrange_heap_get_stats");
	printf("%llu bytes dropped, %zu bytes drawn again, every pixel right; %llu bytes are volatile now\n",
	       (unsigned long long)gone, drawn, (unsigned long long)stats.marked.length.bytes);

	for (int i = 0; i < PICTURES; i++)
		vrange_buffer_free(pictures[i].buffer);
	vrange_heap_free(heap);
	return gone > 0 && drawn >= gone ? 0 : 1;
}
