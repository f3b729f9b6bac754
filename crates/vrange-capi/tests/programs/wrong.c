/* What a checker has to find: a buffer that nobody can free any more. */
#include <vrange.h>

static void lose(vrange_heap *heap)
{
	vrange_buffer *buffer;

	vrange_buffer_new(heap, 4096, &buffer);
}

int main(void)
{
	vrange_heap *heap;

	if (vrange_heap_new(NULL, 0, &heap) < 0)
		return 1;
	lose(heap);
	vrange_heap_free(heap);
	return 0;
}
