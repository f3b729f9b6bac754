/*
 * A library whose handlers of fork allocate and free large blocks. It is initialized after the allocator and before the libraries that are
 * preloaded before it, so that its handlers run inside of theirs: after them before a fork, and before them in the child.
 */
#include "turn.h"

#include <pthread.h>

__attribute__((constructor)) static void begin(void)
{
	turn();
	CHECK(pthread_atfork(before_fork, after_fork, after_fork) == 0);
}
